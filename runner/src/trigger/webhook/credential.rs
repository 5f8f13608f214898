//! Whether a call proves that it may call: a token, or a signature of its body.
//!
//! Takes the same time whether there is such a hook or not, and whatever its form is: the body is always signed twice, and
//! everything secret is compared in constant time.

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use jiff::Timestamp;
use runner_core::trigger::{HookCredential, SignatureForm};
use sha2::{Digest as _, Sha256};

/// Signatures in one header that are looked at: senders add one for each secret in use.
const MAX_SIGNATURES: usize = 4;

/// Hexadecimal digits of a signature.
const DIGITS: usize = 64;

/// The longest token in bytes. Longer ones are wrong, and hashing them would take a time that shows.
const LONGEST: usize = 4096;

/// Compared where a signature is missing, so that their number does not show.
const NO_SIGNATURE: &str = "----------------------------------------------------------------";

/// A secret that no caller has, which stands for hooks that do not exist.
#[derive(Clone)]
pub(super) struct Decoy([u8; 32]);

impl Decoy {
    /// A new random one.
    pub(super) fn new() -> Self {
        let mut secret = [0; 32];
        secret[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        secret[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        Self(secret)
    }
}

/// What a call says about itself, as far as its credential goes.
struct Claims<'a> {
    /// A token.
    token: &'a [u8],
    /// Signatures in hexadecimal digits.
    signatures: Vec<&'a str>,
    /// What precedes the body in what is signed.
    before_body: String,
    /// When it was signed, if that is part of the signature.
    signed_at: Option<i64>,
}

/// A call that proved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proof {
    /// The SHA-256 of what was signed, if that contains a time: it identifies the call where nothing else does. Not the
    /// signature, because one text can have several.
    pub(super) signed: Option<String>,
}

/// The proof of a call of a hook with this credential and these secrets; without a hook there is none.
pub(super) fn check(
    hook: Option<(&HookCredential, &[String])>,
    decoy: &Decoy,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Option<Proof> {
    let claims = hook.map_or_else(
        || token_of(headers, None),
        |(credential, _)| claims(credential, headers),
    );
    let secrets = hook.map(|(_, secrets)| secrets).unwrap_or_default();
    let mut right = false;
    // A hook has one or two secrets, which must not show either.
    for place in 0..2 {
        let secret = secrets.get(place).map_or(&decoy.0[..], String::as_bytes);
        let signs = signed_with(secret, &claims, body);
        let is_token = same(&decoy.0, secret, claims.token);
        let by_token = !matches!(hook, Some((HookCredential::Signature { .. }, _)));
        right |= place < secrets.len() && if by_token { is_token } else { signs };
    }
    let (credential, _) = hook.filter(|_| right)?;
    let (HookCredential::Signature { tolerance, .. }, Some(signed_at)) = (credential, claims.signed_at) else {
        return Some(Proof { signed: None });
    };
    let apart = now.as_second().abs_diff(signed_at);
    (apart <= tolerance.as_secs()).then(|| {
        let digest = Sha256::new()
            .chain_update(&claims.before_body)
            .chain_update(body)
            .finalize();
        Proof {
            signed: Some(hex(&digest)),
        }
    })
}

/// Whether two secrets are the same; constant time, also for other lengths.
fn same(key: &[u8], one: &[u8], other: &[u8]) -> bool {
    let (Some(one), Some(other)) = (mac(key, &[one]), mac(key, &[other])) else {
        return false;
    };
    one.verify_slice(&other.finalize().into_bytes()).is_ok()
}

fn signed_with(secret: &[u8], claims: &Claims<'_>, body: &[u8]) -> bool {
    let Some(mac) = mac(secret, &[claims.before_body.as_bytes(), body]) else {
        return false;
    };
    let digits = hex(&mac.finalize().into_bytes());
    let mut right = false;
    for place in 0..MAX_SIGNATURES {
        let signature = claims.signatures.get(place).filter(|digits| digits.len() == DIGITS);
        let signature = signature.copied().unwrap_or(NO_SIGNATURE).to_ascii_lowercase();
        right |= same(secret, digits.as_bytes(), signature.as_bytes());
    }
    right
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    for part in parts {
        mac.update(part);
    }
    Some(mac)
}

fn claims<'a>(credential: &HookCredential, headers: &'a HeaderMap) -> Claims<'a> {
    let form = match credential {
        HookCredential::Token { header, .. } => return token_of(headers, header.as_deref()),
        HookCredential::Signature { form, .. } => *form,
    };
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let (stamped, signatures) = match form {
        SignatureForm::GitHub => {
            let signature = header("x-hub-signature-256").strip_prefix("sha256=");
            (None, signature.into_iter().collect())
        }
        SignatureForm::Slack => {
            let signature = header("x-slack-signature").strip_prefix("v0=");
            let time = header("x-slack-request-timestamp");
            (Some((time, format!("v0:{time}:"))), signature.into_iter().collect())
        }
        SignatureForm::Stripe => elements(header("stripe-signature")),
        SignatureForm::Runner => {
            let signature = header("x-runner-signature").strip_prefix("sha256=");
            let (time, key) = (header("x-runner-timestamp"), header("idempotency-key"));
            // The key identifies the call, so it is signed: with another one it would be another call.
            (Some((time, format!("{time}.{key}."))), signature.into_iter().collect())
        }
    };
    // A time that is no number is as far away as one can be.
    let signed_at = stamped.as_ref().map(|(time, _)| time.parse().unwrap_or(i64::MIN));
    Claims {
        token: b"",
        signatures,
        before_body: stamped.map(|(_, before)| before).unwrap_or_default(),
        signed_at,
    }
}

/// The time, and the signatures, of `t=…,v1=…,v1=…`.
fn elements(header: &str) -> (Option<(&str, String)>, Vec<&str>) {
    let element = |name: &'static str| {
        let all = header.split(',').filter_map(|element| element.trim().split_once('='));
        all.filter(move |(key, _)| *key == name).map(|(_, value)| value)
    };
    let time = element("t").next().unwrap_or_default();
    (
        Some((time, format!("{time}."))),
        element("v1").take(MAX_SIGNATURES).collect(),
    )
}

fn token_of<'a>(headers: &'a HeaderMap, header: Option<&str>) -> Claims<'a> {
    let value = headers
        .get(header.unwrap_or("authorization"))
        .map_or(&b""[..], |value| value.as_bytes());
    let token = match header {
        Some(_) => value,
        None => value
            .split_at_checked(7)
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
            .map_or(&b""[..], |(_, token)| token.trim_ascii()),
    };
    Claims {
        token: if token.len() > LONGEST { b"" } else { token },
        signatures: Vec::new(),
        before_body: String::new(),
        signed_at: None,
    }
}

/// Headers that must not become part of a payload, because they prove that a caller may call.
pub(super) fn is_secret_header(name: &str, credential: &HookCredential) -> bool {
    let own = match credential {
        HookCredential::Token { header, .. } => header.as_deref() == Some(name),
        HookCredential::Signature { .. } => false,
    };
    own || matches!(name, "authorization" | "proxy-authorization" | "cookie") || name.contains("signature")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    const SECRET: &str = "0123456789abcdef";

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        all.iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect::<HeaderMap>()
    }

    fn signature(secret: &str, text: &str) -> String {
        hex(&mac(secret.as_bytes(), &[text.as_bytes()])
            .unwrap()
            .finalize()
            .into_bytes())
    }

    fn proof(credential: &HookCredential, all: &[(&'static str, &str)], body: &str) -> Option<Proof> {
        let secrets = [SECRET.to_owned(), "the next secret!".to_owned()];
        let now = Timestamp::from_second(1_000).unwrap();
        check(
            Some((credential, &secrets)),
            &Decoy::new(),
            &headers(all),
            body.as_bytes(),
            now,
        )
    }

    fn signed(form: SignatureForm) -> HookCredential {
        HookCredential::Signature {
            form,
            secrets: Vec::new(),
            tolerance: Duration::from_secs(300),
        }
    }

    fn token(header: Option<&str>) -> HookCredential {
        HookCredential::Token {
            header: header.map(str::to_owned),
            secrets: Vec::new(),
        }
    }

    #[test]
    fn a_token_is_one_of_the_secrets_in_its_header() {
        let bearer = format!("Bearer {SECRET}");
        assert!(proof(&token(None), &[("authorization", &bearer)], "").is_some());
        assert!(proof(&token(None), &[("authorization", "bearer the next secret!")], "").is_some());
        assert!(proof(&token(Some("x-gitlab-token")), &[("x-gitlab-token", SECRET)], "").is_some());
        for (header, value) in [
            ("authorization", "Bearer "),
            ("authorization", "Bearer"),
            ("authorization", SECRET),
            ("authorization", "Bearer 0123456789abcdeF"),
            ("authorization", "Bearer 0123456789abcdef0"),
            ("x-gitlab-token", SECRET),
        ] {
            assert_eq!(proof(&token(None), &[(header, value)], ""), None, "{header}: {value}");
        }
        assert_eq!(proof(&token(None), &[], ""), None);
    }

    #[test]
    fn each_form_signs_its_own_text() {
        let body = r#"{"n":1}"#;
        let github = format!("sha256={}", signature(SECRET, body));
        let all = [("x-hub-signature-256", github.as_str())];
        assert!(proof(&signed(SignatureForm::GitHub), &all, body).is_some());
        assert_eq!(proof(&signed(SignatureForm::GitHub), &all, "{}"), None);
        let stripe = format!(
            "t=900,v1=00,v1={}",
            signature("the next secret!", &format!("900.{body}"))
        );
        assert!(proof(&signed(SignatureForm::Stripe), &[("stripe-signature", &stripe)], body).is_some());
        let runner = format!("sha256={}", signature(SECRET, &format!("900.key.{body}")));
        let all = [
            ("x-runner-signature", runner.as_str()),
            ("x-runner-timestamp", "900"),
            ("idempotency-key", "key"),
        ];
        assert!(proof(&signed(SignatureForm::Runner), &all, body).is_some());
        let other = [all[0], all[1], ("idempotency-key", "other")];
        assert_eq!(
            proof(&signed(SignatureForm::Runner), &other, body),
            None,
            "the key is signed"
        );
        assert_eq!(
            proof(&signed(SignatureForm::Runner), &all[..2], body),
            None,
            "the key is signed"
        );
        let slack = format!("v0={}", signature(SECRET, &format!("v0:1100:{body}")));
        let all = [
            ("x-slack-signature", slack.as_str()),
            ("x-slack-request-timestamp", "1100"),
        ];
        assert!(proof(&signed(SignatureForm::Slack), &all, body).is_some());
        assert_eq!(proof(&signed(SignatureForm::GitHub), &all, body), None);
    }

    #[test]
    fn an_old_or_future_signature_proves_nothing() {
        for (time, holds) in [
            ("700", true),
            ("699", false),
            ("1300", true),
            ("1301", false),
            ("x", false),
            ("", false),
        ] {
            let header = format!("t={time},v1={}", signature(SECRET, &format!("{time}.a")));
            let proof = proof(&signed(SignatureForm::Stripe), &[("stripe-signature", &header)], "a");
            assert_eq!(proof.is_some(), holds, "{time}");
        }
    }

    #[test]
    fn no_caller_may_call_a_hook_that_does_not_exist() {
        let decoy = Decoy::new();
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(
            check(None, &decoy, &headers(&[("authorization", "Bearer x")]), b"", now),
            None
        );
        assert_eq!(check(None, &decoy, &headers(&[]), b"", now), None);
        let none = token(None);
        assert_eq!(
            check(
                Some((&none, &[])),
                &decoy,
                &headers(&[("authorization", "Bearer ")]),
                b"",
                now
            ),
            None
        );
    }
}
