//! Makes foreign text harmless: characters that control a terminal, break a line or change the direction of reading are
//! replaced by visible signs.
//!
//! The one list of these characters: terminals, log lines and pages all use it. How a page escapes HTML is not here.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether the character could change how the text around it is read or shown.
#[must_use]
pub fn is_special(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// The sign for such a character: `␛`, `␊`, `⟨U+202E⟩`. `None` for any other one.
#[must_use]
pub fn sign(c: char) -> Option<Cow<'static, str>> {
    if !is_special(c) {
        return None;
    }
    let code = u32::from(c);
    let picture = match code {
        0..=0x1f => char::from_u32(0x2400 + code),
        0x7f => Some('\u{2421}'),
        _ => None,
    };
    Some(match picture {
        Some(picture) => Cow::Owned(picture.to_string()),
        None => Cow::Owned(format!("\u{27e8}U+{code:04X}\u{27e9}")),
    })
}

/// One line: line breaks and tabs are signs as well.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    replaced(text, sign)
}

/// Several lines: line feeds and tabs are kept.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    replaced(text, |c| if matches!(c, '\n' | '\t') { None } else { sign(c) })
}

/// Equivalent JSON without such characters: they occur only in strings, where `\u202e` replaces them. White
/// space between tokens is kept, except carriage returns, which become spaces.
#[must_use]
pub fn json(text: &str) -> Cow<'_, str> {
    replaced(text, |c| match c {
        '\n' | '\t' => None,
        '\r' => Some(Cow::Borrowed(" ")),
        c if is_special(c) => {
            let mut escape = String::new();
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _infallible = write!(escape, "\\u{unit:04x}");
            }
            Some(Cow::Owned(escape))
        }
        _ => None,
    })
}

fn replaced(text: &str, sign: impl Fn(char) -> Option<Cow<'static, str>>) -> Cow<'_, str> {
    let mut out = String::new();
    let mut clean = 0;
    for (at, c) in text.char_indices() {
        if let Some(sign) = sign(c) {
            out.push_str(&text[clean..at]);
            out.push_str(&sign);
            clean = at + c.len_utf8();
        }
    }
    if clean == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[clean..]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_steers_a_terminal_becomes_a_sign() {
        assert_eq!(line("a\x1b]0;x\x07\nERROR b\t"), "a␛]0;x␇␊ERROR b␉");
        assert_eq!(line("x\u{202e}y\u{9b}z\u{7f}"), "x⟨U+202E⟩y⟨U+009B⟩z␡");
        assert_eq!(lines("a\r\n\tb\u{2028}"), "a␍\n\tb⟨U+2028⟩");
        assert!(matches!(line("空 é 👩\u{200d}🔧"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_keeps_its_meaning() {
        let value = serde_json::json!({"a\u{202e}": "b\u{9b}\u{feff}\u{e0041}\x1b\n"});
        let text = serde_json::to_string_pretty(&value).unwrap();
        let shown = json(&text);
        assert!(shown.chars().all(|c| c == '\n' || !is_special(c)), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        assert_eq!(json("{\r\n}"), "{ \n}");
    }
}
