//! Signs a request, so that the server can tell that it comes from this runner, and when: HMAC-SHA256 over
//! `TIMESTAMP.KEY.BODY` with a shared secret, as webhooks of the form `runner` verify it. The idempotency key is signed,
//! because a recorded request could otherwise be sent again as another one.

use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use runner_core::clock::{Clock, SystemClock};
use runner_sdk::TaskError;
use sha2::Sha256;

/// When the request was signed, in seconds since 1970.
pub(super) const TIMESTAMP: HeaderName = HeaderName::from_static("x-runner-timestamp");

/// `sha256=` and the code in hexadecimal digits.
pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("x-runner-signature");

/// Adds both headers, with the present time. The key is the one that the headers have.
pub(super) fn sign(headers: &mut HeaderMap, secret: &[u8], body: &[u8]) -> Result<(), TaskError> {
    let timestamp = SystemClock.now().as_second();
    let key = headers.get("idempotency-key").map_or(&b""[..], |key| key.as_bytes());
    let code = code(secret, timestamp, key, body)
        .ok_or_else(|| TaskError::skip("http.sign.secret cannot be used as a key"))?;
    let digits: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
    for (name, value) in [
        (TIMESTAMP, timestamp.to_string()),
        (SIGNATURE, format!("sha256={digits}")),
    ] {
        let value = HeaderValue::try_from(value).map_err(|_| TaskError::skip("the signature cannot be sent"))?;
        headers.insert(name, value);
    }
    Ok(())
}

fn code(secret: &[u8], timestamp: i64, key: &[u8], body: &[u8]) -> Option<Vec<u8>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(timestamp.to_string().as_bytes());
    mac.update(b".");
    mac.update(key);
    mac.update(b".");
    mac.update(body);
    Some(mac.finalize().into_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_code_is_that_of_other_programs() {
        // printf '1700000000.k.{"a":1}' | openssl dgst -sha256 -hmac secret
        let code = code(b"secret", 1_700_000_000, b"k", br#"{"a":1}"#).unwrap();
        let digits: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            digits,
            "3e0c88d29085eec781c8c45b291c1c8237f0bf9a5a53e920f0da8c3ff4d34585"
        );
    }
}
