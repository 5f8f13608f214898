//! Encrypts and authenticates what this program keeps in the broker for itself: clients that can read the broker cannot
//! read it, and those that can write to it cannot forge it. Not here: where it is kept, and what it contains.

use hmac::{Hmac, KeyInit, Mac};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::Sha256;

use crate::text::hex;

/// The first byte, a version: what follows is a nonce and the sealed text.
const FORM: u8 = 1;

/// Seals and opens with keys made from one secret.
pub(super) struct Seal {
    names: [u8; 32],
    texts: LessSafeKey,
}

impl Seal {
    /// With keys that are used for nothing else; `None` if the library refuses them, which is not expected.
    pub(super) fn new(secret: &[u8; 32]) -> Option<Self> {
        let texts = UnboundKey::new(&CHACHA20_POLY1305, &derived(secret, "runner: kept texts")?).ok()?;
        Some(Self {
            names: derived(secret, "runner: names of kept texts")?,
            texts: LessSafeKey::new(texts),
        })
    }

    /// The name under which a text is stored: the same for all processes with the key, and meaningless to others.
    pub(super) fn name(&self, kind: &str, name: &str) -> String {
        let tag = derived(&self.names, &format!("{kind}\0{name}")).unwrap_or_default();
        hex(&tag[..16])
    }

    /// Seals a text under its kind and name; `None` if the system gives no random bytes.
    pub(super) fn close(&self, kind: &str, name: &str, mut text: Vec<u8>) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let about = Aad::from(format!("{kind}\0{name}"));
        self.texts
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), about, &mut text)
            .ok()?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + text.len());
        sealed.push(FORM);
        sealed.extend_from_slice(&nonce);
        sealed.append(&mut text);
        Some(sealed)
    }

    /// The text that was sealed under this kind and name; `None` if it was altered, or sealed with another key.
    pub(super) fn open(&self, kind: &str, name: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (form, rest) = sealed.split_first()?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>()?;
        if *form != FORM {
            return None;
        }
        let about = Aad::from(format!("{kind}\0{name}"));
        let mut text = text.to_vec();
        let opened = self
            .texts
            .open_in_place(Nonce::assume_unique_for_key(*nonce), about, &mut text);
        let length = opened.ok()?.len();
        text.truncate(length);
        Some(text)
    }
}

fn derived(secret: &[u8; 32], purpose: &str) -> Option<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(purpose.as_bytes());
    Some(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_what_was_sealed_under_this_name_with_this_key_opens() {
        let (seal, other) = (Seal::new(&[1; 32]).unwrap(), Seal::new(&[2; 32]).unwrap());
        let text = b"exec: [secret]".to_vec();
        let sealed = seal.close("manifests", "/m", text.clone()).unwrap();
        assert_ne!(sealed, seal.close("manifests", "/m", text.clone()).unwrap());
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert_eq!(seal.open("manifests", "/m", &sealed), Some(text));
        assert_eq!(seal.open("manifests", "/n", &sealed), None);
        assert_eq!(seal.open("rows", "/m", &sealed), None);
        assert_eq!(other.open("manifests", "/m", &sealed), None);
        for at in 0..sealed.len() {
            let mut touched = sealed.clone();
            touched[at] ^= 1;
            assert_eq!(seal.open("manifests", "/m", &touched), None, "byte {at}");
            assert_eq!(seal.open("manifests", "/m", &sealed[..at]), None, "{at} bytes");
        }
    }

    #[test]
    fn names_are_shared_by_a_key_and_tell_nothing() {
        let (seal, same) = (Seal::new(&[1; 32]).unwrap(), Seal::new(&[1; 32]).unwrap());
        let name = seal.name("manifests", "/m");
        assert_eq!(name, same.name("manifests", "/m"));
        assert_eq!(name.len(), 32);
        let others = [
            seal.name("rows", "/m"),
            seal.name("manifests", "/n"),
            Seal::new(&[2; 32]).unwrap().name("manifests", "/m"),
        ];
        assert!(!others.contains(&name));
    }
}
