//! Names of files: which a pattern means, and how one of odd bytes is written while the file is in work.
//!
//! A name may contain any bytes but `/` and NUL. A payload is text, so a name that is no plain text is written with `%` and two
//! digits for each odd byte, and gets its own bytes back when the file leaves.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// The longest name that file systems take.
const MAX_NAME: usize = 255;

/// Whether a pattern means this name: `*` stands for any bytes, `?` for one. What begins with a dot is meant only by a pattern
/// that does so too.
pub(super) fn is_meant(pattern: &str, name: &OsStr) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    // Where the last star was, and what it stands for so far: one step back is enough.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(b'?') => (p, n) = (p + 1, n + 1),
            Some(byte) if *byte == name[n] => (p, n) = (p + 1, n + 1),
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (p, n) = (at + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Whether a name can stand in a payload as it is.
fn is_plain(name: &OsStr) -> bool {
    name.to_str().is_some_and(|text| !text.chars().any(char::is_control))
}

/// A name as it is written while the file is in work, and whether it differs. `None`: it would be too long.
pub(super) fn written(name: &OsStr) -> Option<(String, bool)> {
    if let Some(text) = name.to_str().filter(|_| is_plain(name)) {
        return Some((text.to_owned(), false));
    }
    let mut text = String::new();
    for byte in name.as_bytes() {
        match byte {
            b'%' | 0..=31 | 127..=255 => text.push_str(&format!("%{byte:02X}")),
            plain => text.push(char::from(*plain)),
        }
    }
    (text.len() <= MAX_NAME).then_some((text, true))
}

/// The name that was written in this way.
pub(super) fn original(written: &OsStr) -> OsString {
    let bytes = written.as_bytes();
    let (mut name, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).filter(|_| *byte == b'%');
        let code = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        name.push(code.unwrap_or(*byte));
        at += if code.is_some() { 3 } else { 1 };
    }
    OsString::from_vec(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn patterns_mean_names() {
        for (pattern, name, meant) in [
            ("*", "a", true),
            ("*", ".a", false),
            (".*", ".a", true),
            ("*.csv", "a.csv", true),
            ("*.csv", "a.csv.tmp", false),
            ("*.csv", ".csv", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxbxb", true),
            ("*a*b*", "xxbxa", false),
            ("", "a", false),
            ("a**", "a", true),
        ] {
            assert_eq!(is_meant(pattern, OsStr::new(name)), meant, "{pattern} {name}");
        }
        assert!(is_meant("*.csv", OsStr::from_bytes(b"\xff\n.csv")));
    }

    #[test]
    fn a_long_pattern_of_stars_ends_soon() {
        let pattern = "*a".repeat(127);
        assert!(!is_meant(&pattern, OsStr::new(&"a".repeat(126))));
        assert!(!is_meant(&pattern, OsStr::new(&format!("{}b", "a".repeat(254)))));
    }

    #[test]
    fn odd_names_are_written_as_text_and_come_back() {
        for name in [&b"a\nb"[..], b"\xff%41", b"100%\x1b", b"\xc3\x28"] {
            let name = OsStr::from_bytes(name);
            let (text, odd) = written(name).unwrap();
            assert!(odd && text.chars().all(|c| c.is_ascii_graphic()), "{text}");
            assert_eq!(original(OsStr::new(&text)), name);
        }
        for plain in ["100%.csv", "über uns.csv", "a b"] {
            assert_eq!(written(OsStr::new(plain)), Some((plain.to_owned(), false)));
        }
        assert_eq!(written(OsStr::from_bytes(&[0xff; 100])), None);
    }
}
