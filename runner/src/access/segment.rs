//! Names as segments of the paths of pages. Which pages there are is known to `web`, and to whatever links to one.

use std::fmt::Write as _;

/// One path segment or query value: everything but unreserved characters is percent-encoded.
#[must_use]
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' | b'.' => out.push(byte as char),
            _ => {
                // Writing to a String cannot fail.
                let _infallible = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// What a segment in hexadecimal digits begins with.
pub const HEX_SEGMENT: &str = "~x";

/// A name as a path segment. Browsers resolve dot segments even if they are encoded, and some names of other programs are
/// not text: such names are written in hexadecimal digits.
#[must_use]
pub fn segment(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(text) if !matches!(text, "" | "." | "..") && !text.starts_with(HEX_SEGMENT) => encoded(text),
        _ => name.iter().fold(HEX_SEGMENT.to_owned(), |mut out, byte| {
            // Writing to a String cannot fail.
            let _infallible = write!(out, "{byte:02x}");
            out
        }),
    }
}
