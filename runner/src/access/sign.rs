//! Signatures of everything that a browser stores for us, each purpose with its own label.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

fn mac(key: &[u8; 32], label: &str, text: &str) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(label.as_bytes());
    mac.update(&[0]);
    mac.update(text.as_bytes());
    Some(mac)
}

/// The signature of `text` under this label.
pub fn signature(key: &[u8; 32], label: &str, text: &str) -> String {
    let tag = mac(key, label, text).map(|mac| mac.finalize().into_bytes());
    tag.map_or_else(String::new, |tag| URL_SAFE_NO_PAD.encode(tag))
}

/// Whether `signature` is that of `text` under this label; constant time for wrong ones.
pub fn holds(key: &[u8; 32], label: &str, text: &str, signature: &str) -> bool {
    let Ok(given) = URL_SAFE_NO_PAD.decode(signature) else {
        return false;
    };
    mac(key, label, text).is_some_and(|mac| mac.verify_slice(&given).is_ok())
}

/// `text` with its signature, safe in a cookie.
pub fn sealed(key: &[u8; 32], label: &str, text: &str) -> String {
    let body = URL_SAFE_NO_PAD.encode(text);
    let tag = signature(key, label, &body);
    format!("{body}.{tag}")
}

/// The text inside [`sealed`], unless it was altered.
pub fn opened(key: &[u8; 32], label: &str, sealed: &str) -> Option<String> {
    let (body, tag) = sealed.split_once('.')?;
    if !holds(key, label, body, tag) {
        return None;
    }
    String::from_utf8(URL_SAFE_NO_PAD.decode(body).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sealed_for_the_purpose_opens() {
        let key = [7; 32];
        let seal = sealed(&key, "session", "li|99");
        assert_eq!(opened(&key, "session", &seal).as_deref(), Some("li|99"));
        assert_eq!(opened(&key, "notice", &seal), None);
        assert_eq!(opened(&[8; 32], "session", &seal), None);
        assert_eq!(opened(&key, "session", &seal.replace('.', "x.")), None);
        assert_eq!(opened(&key, "session", ""), None);
    }
}
