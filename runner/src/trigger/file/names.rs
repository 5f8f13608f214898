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

/// The name that was written in this way. `None`: no file of a directory can have it.
pub(super) fn original(written: &OsStr) -> Option<OsString> {
    let bytes = written.as_bytes();
    let (mut name, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).filter(|_| *byte == b'%');
        let code = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        name.push(code.unwrap_or(*byte));
        at += if code.is_some() { 3 } else { 1 };
    }
    let leads_away = matches!(&name[..], b"" | b"." | b"..") || name.iter().any(|byte| matches!(byte, b'/' | 0));
    (!leads_away).then(|| OsString::from_vec(name))
}

/// A name with a dot and `ending` after it. A name that would become too long is cut, at a character if it is text.
pub(super) fn with_ending(name: &OsStr, ending: &str) -> OsString {
    let bytes = name.as_bytes();
    let mut keep = bytes.len().min(MAX_NAME.saturating_sub(ending.len() + 1));
    if let Some(text) = name.to_str() {
        while !text.is_char_boundary(keep) {
            keep -= 1;
        }
    }
    let mut all = OsStr::from_bytes(&bytes[..keep]).to_owned();
    all.push(".");
    all.push(ending);
    all
}

/// The token of an odd name begins with `o`, that of a plain one with `p`.
pub(super) fn is_token(text: &str) -> bool {
    let (first, rest) = match text.as_bytes() {
        [first, rest @ ..] => (*first, rest),
        [] => return false,
    };
    matches!(first, b'o' | b'p')
        && rest.len() == 32
        && rest.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
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
            assert_eq!(original(OsStr::new(&text)).unwrap(), name);
        }
        for plain in ["100%.csv", "über uns.csv", "a b"] {
            assert_eq!(written(OsStr::new(plain)), Some((plain.to_owned(), false)));
        }
        assert_eq!(written(OsStr::from_bytes(&[0xff; 100])), None);
    }

    #[test]
    fn a_written_name_that_leads_away_is_none() {
        for written in ["%2E%2E%2Fx", "..%2fx", "a%00", "%2E", "%2e.", ""] {
            assert_eq!(original(OsStr::new(written)), None, "{written}");
        }
        assert_eq!(original(OsStr::new("...")).unwrap(), "...");
    }

    #[test]
    fn a_long_name_is_cut_before_its_ending() {
        assert_eq!(with_ending(OsStr::new("a.csv"), "01234567"), "a.csv.01234567");
        let name = with_ending(OsStr::new(&"ü".repeat(127)), "01234567");
        assert_eq!(name.to_str().unwrap(), format!("{}.01234567", "ü".repeat(123)));
        let odd = with_ending(OsStr::from_bytes(&[0xff; 255]), "01234567");
        assert_eq!(odd.len(), MAX_NAME);
    }

    #[test]
    fn only_what_is_made_is_a_token() {
        let hex = "0123456789abcdef".repeat(2);
        assert!(is_token(&format!("p{hex}")) && is_token(&format!("o{hex}")));
        for other in [
            String::new(),
            "p".to_owned(),
            format!("x{hex}"),
            format!("p{}", hex.to_uppercase()),
            format!("p{hex}0"),
            format!("p{}", "é".repeat(16)),
            "ééé".to_owned(),
        ] {
            assert!(!is_token(&other), "{other}");
        }
    }
}
