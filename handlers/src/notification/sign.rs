//! Signatures that robots of DingTalk and Feishu ask for, as these services document them.
//!
//! Not here: the signature of calls to webhooks, which is that of HTTP functions.

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use serde_json::Value;
use sha2::Sha256;

/// Whose signature it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RobotSignature {
    /// `timestamp` in milliseconds and `sign` in the address; the secret signs the two lines "timestamp, secret".
    DingTalk,
    /// `timestamp` in seconds and `sign` in the body; the two lines "timestamp, secret" sign nothing.
    Feishu,
}

impl RobotSignature {
    /// The names in files of services.
    pub const NAMES: [(&'static str, Self); 2] = [("dingtalk", Self::DingTalk), ("feishu", Self::Feishu)];

    /// Signs a call.
    pub(super) fn sign(self, secret: &str, now: Timestamp, url: &mut String, body: &mut Value) {
        match self {
            Self::DingTalk => {
                let timestamp = now.as_millisecond();
                let code = code(secret.as_bytes(), format!("{timestamp}\n{secret}").as_bytes());
                let mark = if url.contains('?') { '&' } else { '?' };
                let sign = code.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
                url.push_str(&format!("{mark}timestamp={timestamp}&sign={sign}"));
            }
            Self::Feishu => {
                let timestamp = now.as_second();
                let code = code(format!("{timestamp}\n{secret}").as_bytes(), b"");
                if let Value::Object(members) = body {
                    members.insert("timestamp".to_owned(), timestamp.to_string().into());
                    members.insert("sign".to_owned(), code.into());
                }
            }
        }
    }
}

/// The code in Base64.
fn code(key: &[u8], text: &[u8]) -> String {
    // A key may have any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return String::new();
    };
    mac.update(text);
    base64(&mac.finalize().into_bytes())
}

/// 32 bytes are all that is ever encoded here.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut made = String::new();
    for three in bytes.chunks(3) {
        let group = three.iter().fold(0_u32, |all, byte| (all << 8) | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let digit = (group >> (18 - 6 * place)) & 63;
            made.push(match place <= three.len() {
                true => char::from(DIGITS[digit as usize]),
                false => '=',
            });
        }
    }
    made
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn base64_is_that_of_other_programs() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[test]
    fn robots_get_the_signatures_that_their_services_document() {
        let now = Timestamp::from_millisecond(1_700_000_000_123).unwrap();
        let (mut url, mut body) = ("https://x/send?access_token=a".to_owned(), json!({"msgtype": "text"}));
        RobotSignature::DingTalk.sign("SECs3cret", now, &mut url, &mut body);
        // printf '1700000000123\nSECs3cret' | openssl dgst -sha256 -hmac SECs3cret -binary | base64
        assert_eq!(
            url,
            "https://x/send?access_token=a&timestamp=1700000000123&sign=IrvFwUpT3rbKAwztd6K9%2Bp7IQCjALVe%2BQEuzdi%2FY6mQ%3D"
        );
        assert_eq!(body, json!({"msgtype": "text"}));
        RobotSignature::Feishu.sign("s3cret", now, &mut url, &mut body);
        // printf '' | openssl dgst -sha256 -hmac "$(printf '1700000000\ns3cret')" -binary | base64
        assert_eq!(
            body,
            json!({"msgtype": "text", "timestamp": "1700000000", "sign": "IX3eHI0/v/Td7jqJ0ynSEK3Dq5JY3HUZeoeMgVZeZGo="})
        );
    }
}
