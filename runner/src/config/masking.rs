//! Masks the source line under a finding: anything that may be a secret is hidden.
//!
//! A value is shown only if its key is known not to be a secret: a misspelt `pasword` must not print what it
//! protects. Letters and digits of other values become dots, so that the structure can still be seen.

use std::collections::BTreeMap;

use crate::text::nearest;

/// Known keys, and whether the value of each may be shown.
pub type Keys = BTreeMap<&'static str, bool>;

/// The line in its full length, with values hidden that may be secrets.
#[must_use]
pub fn masked(source: &str, keys: &Keys) -> String {
    // Without a key the line is an element of a list; with no known keys at all, nothing is known about it.
    let mut shown = !keys.is_empty();
    let mut out = String::new();
    for part in source.split_inclusive(' ') {
        let word = part.trim_end();
        let key = word
            .trim_start_matches(['{', '[', ',', '-', '"', '\''])
            .strip_suffix(':');
        match key {
            Some(key) if is_key(key) => {
                shown = may_show(key.trim_end_matches(['"', '\'']), keys);
                push(&mut out, part, true);
            }
            _ => push(&mut out, part, shown && !part.contains('@') && !part.contains("://")),
        }
    }
    out
}

fn is_key(key: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "_-.\"'".contains(c);
    !key.is_empty() && key.chars().all(plain)
}

fn may_show(key: &str, keys: &Keys) -> bool {
    nearest(key, keys.keys().copied()).is_some_and(|near| keys[near])
}

fn push(out: &mut String, part: &str, shown: bool) {
    out.extend(part.chars().map(|c| match c {
        c if c.is_control() => ' ',
        c if !shown && c.is_alphanumeric() => '·',
        c => c,
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::from([
            ("timezone", true),
            ("host", true),
            ("password", false),
            ("redis", false),
        ])
    }

    #[test]
    fn only_values_of_known_keys_are_shown() {
        for (line, shown) in [
            ("password: hunter2", "password: ·······"),
            ("pasword: \"hunter2\"", "pasword: \"·······\""),
            ("pwd: a hunter2", "pwd: · ·······"),
            (
                "{host: r, password: hunter2, timezon: UTC}",
                "{host: r, password: ·······, timezon: UTC}",
            ),
            ("redis: redis://:hunter2@h", "redis: ·····://:·······@·"),
            ("host: redis://:hunter2@h", "host: ·····://:·······@·"),
            ("- wizard", "- wizard"),
        ] {
            assert_eq!(masked(line, &keys()), shown);
        }
        assert_eq!(masked("hunter2\"", &Keys::new()), "·······\"");
    }
}
