//! Untrusted bytes for display: payloads, results, logs. Short, harmless, and JSON with line breaks.

use serde::Serialize;
use serde::de::IgnoredAny;

/// Bytes of a payload, result or log that a page shows; the rest can be downloaded.
pub const SHOWN: usize = 64 * 1024;
/// Bytes that a list examines.
const PEEKED: usize = 2048;
/// Characters that a list shows.
const PREVIEW: usize = 120;
/// Deeper levels are not indented further.
const DEEPEST: usize = 64;

/// Bytes formatted for a page.
#[derive(Debug, Serialize)]
pub struct PayloadText {
    /// `empty`, `json`, `text` or `binary`.
    pub form: &'static str,
    /// The text shown.
    pub text: String,
    /// The total number of bytes.
    pub bytes: u64,
    /// Whether `text` is only a part.
    pub cut: bool,
}

impl PayloadText {
    /// Chooses a form for `bytes`.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self::part(bytes, bytes.len() as u64)
    }

    /// The same for the beginning of `all` bytes.
    #[must_use]
    pub fn part(bytes: &[u8], all: u64) -> Self {
        let all = all.max(bytes.len() as u64);
        let cut = bytes.len() > SHOWN || all > bytes.len() as u64;
        let (form, text) = match bytes {
            [] => ("empty", String::new()),
            _ if !cut && serde_json::from_slice::<IgnoredAny>(bytes).is_ok() => {
                let raw = String::from_utf8_lossy(bytes);
                let laid_out = indented(&raw);
                // Deeply nested JSON can be mostly indentation; the raw text is more useful then.
                let text = if laid_out.len() > 4 * SHOWN {
                    raw.into_owned()
                } else {
                    laid_out
                };
                ("json", text)
            }
            _ => match beginning(bytes, SHOWN, all) {
                Some(text) => ("text", text.to_owned()),
                None => ("binary", hex(bytes)),
            },
        };
        Self {
            form,
            text,
            bytes: all,
            cut: cut || (form == "binary" && bytes.len() > HEX_BYTES),
        }
    }

    /// The end of a long text, where a log reports the failure.
    #[must_use]
    pub fn log(text: &str) -> Self {
        let mut start = text.len().saturating_sub(SHOWN);
        while !text.is_char_boundary(start) {
            start += 1;
        }
        Self {
            form: if text.is_empty() { "empty" } else { "text" },
            text: text[start..].to_owned(),
            bytes: u64::try_from(text.len()).unwrap_or(u64::MAX),
            cut: start > 0,
        }
    }
}

/// One line for a list, of the beginning of `all` bytes.
#[must_use]
pub fn preview(bytes: &[u8], all: u64) -> String {
    match beginning(bytes, PEEKED, all) {
        Some(text) => super::format::cut(text.trim(), PREVIEW),
        None => format!("0x{}…", hex(&bytes[..bytes.len().min(16)]).replace(' ', "")),
    }
}

/// The first `most` bytes as text, if they are text. A character split by the cut is dropped.
fn beginning(bytes: &[u8], most: usize, all: u64) -> Option<&str> {
    let head = &bytes[..bytes.len().min(most)];
    let is_cut = (head.len() as u64) < all;
    match std::str::from_utf8(head) {
        Ok(text) => Some(text),
        Err(e) if e.error_len().is_none() && is_cut => std::str::from_utf8(&head[..e.valid_up_to()]).ok(),
        Err(_) => None,
    }
}

/// Bytes of binary data shown.
const HEX_BYTES: usize = 512;

fn hex(bytes: &[u8]) -> String {
    let lines: Vec<String> = bytes[..bytes.len().min(HEX_BYTES)]
        .chunks(16)
        .map(|line| {
            let pairs: Vec<String> = line.iter().map(|b| format!("{b:02x}")).collect();
            pairs.join(" ")
        })
        .collect();
    lines.join("\n")
}

/// Valid JSON with line breaks and indentation; every other byte stays as written, so that long numbers, key order and
/// duplicate keys are shown as they are.
fn indented(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let mut chars = json.chars().peekable();
    while let Some(c) = chars.next() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            '"' => {
                in_string = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                if let Some(close) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => (),
            c => out.push(c),
        }
    }
    out
}

fn line(out: &mut String, depth: usize) {
    out.push('\n');
    for _ in 0..depth.min(DEEPEST) {
        out.push_str("  ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_laid_out_and_nothing_of_it_is_changed() {
        let shown = PayloadText::new(br#" {"b":[1, {}],"a":"x\",{","n":12345678901234567890.10} "#);
        let expected =
            "{\n  \"b\": [\n    1,\n    {}\n  ],\n  \"a\": \"x\\\",{\",\n  \"n\": 12345678901234567890.10\n}";
        assert_eq!((shown.form, shown.text.as_str()), ("json", expected));
    }

    #[test]
    fn five_megabytes_are_cut_and_binary_is_shown_as_such() {
        let long = PayloadText::new("空".repeat(2_000_000).as_bytes());
        assert!(long.cut && long.text.len() <= SHOWN);
        assert_eq!(long.bytes, 6_000_000);
        assert_eq!(PayloadText::new(&[0xff, 0x00]).text, "ff 00");
        assert_eq!(PayloadText::new(b"").form, "empty");
        assert_eq!(PayloadText::new(b"plain words").form, "text");
    }

    #[test]
    fn logs_keep_their_end_and_previews_their_beginning() {
        let log = PayloadText::log(&format!("{}last", "x".repeat(SHOWN)));
        assert!(log.cut && log.text.ends_with("last"));
        assert_eq!(preview(b"  hello ", 0), "hello");
        assert_eq!(preview(&[0xff; 40], 0), format!("0x{}…", "ff".repeat(16)));
    }

    #[test]
    fn deep_nesting_stays_small() {
        let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
        assert!(PayloadText::new(deep.as_bytes()).text.len() <= 4 * SHOWN);
    }
}
