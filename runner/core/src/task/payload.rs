//! Payloads: bytes, mostly JSON, of a bounded length. Builds no value and knows no handler.

use serde::Deserialize;
use serde::de::IgnoredAny;

/// Maximum bytes of a payload: a Redis server takes values of 512 MiB by default, a SQLite file of 1 GB, and a task's other
/// fields need room beside it.
pub const MAX_PAYLOAD: usize = 511 << 20;

/// Why bytes are not JSON, with the position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotJson {
    /// A byte that is not text.
    #[error("byte 0x{byte:02x} at line {line} column {column} is not UTF-8")]
    NotText {
        /// The byte.
        byte: u8,
        /// From 1.
        line: usize,
        /// In bytes, from 1.
        column: usize,
    },
    /// A syntax error, in the parser's words.
    #[error("{0}")]
    Syntax(String),
}

/// Reads a value from JSON. Checks the whole text, including parts that the value ignores.
///
/// # Errors
///
/// [`NotJson`], for the first error.
pub fn from_json<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Result<T, NotJson> {
    // The parser does not check the text of ignored strings.
    let text = std::str::from_utf8(bytes).map_err(|error| not_text(bytes, error.valid_up_to()))?;
    serde_json::from_str(text).map_err(|error| NotJson::Syntax(error.to_string()))
}

/// Whether the bytes are JSON.
///
/// # Errors
///
/// [`NotJson`], for the first error.
pub fn check_json(bytes: &[u8]) -> Result<(), NotJson> {
    from_json::<IgnoredAny>(bytes).map(drop)
}

/// The text, number or truth value at a path of members, such as `account.id`, as a text; empty if the payload is not JSON or
/// has none there.
#[must_use]
pub fn payload_value(payload: &[u8], path: &str) -> String {
    let Ok(payload) = serde_json::from_slice::<serde_json::Value>(payload) else {
        return String::new();
    };
    let mut found = &payload;
    for part in path.split('.') {
        match found.get(part) {
            Some(inner) => found = inner,
            None => return String::new(),
        }
    }
    match found {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Number(number) => number.to_string(),
        serde_json::Value::Bool(yes) => yes.to_string(),
        _ => String::new(),
    }
}

fn not_text(bytes: &[u8], at: usize) -> NotJson {
    let before = &bytes[..at];
    let start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |feed| feed + 1);
    NotJson::NotText {
        byte: bytes.get(at).copied().unwrap_or_default(),
        line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
        column: at - start + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_named_where_bytes_stop_being_json() {
        for json in [
            &b"{\"a\": [1, null]}"[..],
            b"\"\xe4\xb8\xad\"",
            b" 1 ",
            b"12345678901234567890123",
        ] {
            assert_eq!(check_json(json), Ok(()), "{json:?}");
        }
        for (bytes, expected) in [
            (&b""[..], "EOF while parsing a value at line 1 column 0"),
            (b"hello", "expected value at line 1 column 1"),
            (b"{}\n{}", "trailing characters at line 2 column 1"),
            (b"\x81\xa1a\x01", "byte 0x81 at line 1 column 1 is not UTF-8"),
            (b"[1,\n \"a\xff\"]", "byte 0xff at line 2 column 4 is not UTF-8"),
        ] {
            let found = check_json(bytes).map_err(|error| error.to_string());
            assert_eq!(found, Err(expected.to_owned()), "{bytes:?}");
        }
    }
}
