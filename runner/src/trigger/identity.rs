//! What all kinds of events share: an identity that fits into the id of a task, and a payload that a template made.

use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// An identity longer than this is replaced by its hash: it becomes part of a key.
const MAX_IDENTITY: usize = 200;

/// The largest payload that a template makes; a body may be shorter than what is made of it.
const MAX_MADE: usize = 4 << 20;

/// The identity as it is, or its SHA-256.
pub(super) fn bounded(identity: &str) -> String {
    if identity.len() <= MAX_IDENTITY && !identity.chars().any(char::is_control) {
        return identity.to_owned();
    }
    let digest = Sha256::digest(identity.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A payload that a template made, as bytes; else why it cannot be one.
pub(super) fn made(value: &Value) -> Result<Bytes, String> {
    let payload = serde_json::to_vec(value).map_err(|why| format!("payload: {why}"))?;
    if payload.len() > MAX_MADE {
        return Err(format!(
            "the payload would have {} bytes; at most {MAX_MADE}",
            payload.len()
        ));
    }
    Ok(payload.into())
}
