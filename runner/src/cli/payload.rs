//! A payload as commands are given it: JSON in an argument, or on standard input.

use std::io::Read;

use anyhow::anyhow;

use super::exit::BadData;

/// Bytes; larger things belong in a store, and their name in the payload.
const MAX_PAYLOAD: u64 = 4 * 1024 * 1024;

/// The text of the payload, byte for byte, once it has been seen to be JSON; `-` reads standard input.
///
/// # Errors
///
/// When it is no JSON, too long, or cannot be read.
pub(super) fn read(text: &str) -> anyhow::Result<Vec<u8>> {
    let bytes = if text == "-" {
        let mut bytes = Vec::new();
        let mut input = std::io::stdin().lock().take(MAX_PAYLOAD + 1);
        input
            .read_to_end(&mut bytes)
            .map_err(|e| anyhow!("cannot read standard input: {e}"))?;
        while bytes.last().is_some_and(|b| matches!(b, b'\n' | b'\r')) {
            bytes.pop();
        }
        bytes
    } else {
        text.as_bytes().to_vec()
    };
    if bytes.len() as u64 > MAX_PAYLOAD {
        return Err(BadData(format!("the payload is longer than {MAX_PAYLOAD} bytes")).into());
    }
    match serde_json::from_slice::<serde::de::IgnoredAny>(&bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(BadData(format!("the payload is not JSON: {error}")).into()),
    }
}
