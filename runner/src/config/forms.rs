//! Variables for settings with several values: a plain form that is quick to write, and JSON.
//!
//! JSON is read as YAML, like the settings file, so duplicate keys are refused and YAML's flow style is understood too.
//! Texts in, texts out: it knows no setting and repeats no value, as any of them may be a secret.

use std::net::Ipv6Addr;

use crate::text::quoted;
use crate::text::yaml::{self, Node, Value};

/// The elements of `a,b` or `["a","b"]`.
///
/// # Errors
///
/// If the JSON is invalid.
pub fn list(text: &str) -> Result<Vec<String>, String> {
    if !is_json_list(text) {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        return Ok(parts.map(str::to_owned).collect());
    }
    let Value::List(items) = tree(text)?.value else {
        return Err("must be a list".to_owned());
    };
    let texts = items.into_iter().map(|item| item.written(text));
    texts
        .collect::<Option<_>>()
        .ok_or_else(|| "must be a list of single values".to_owned())
}

/// The pairs of `a=6,b=3` or `{"a":6,"b":3}`; in the plain form a name alone counts 1.
///
/// # Errors
///
/// If the JSON is invalid.
pub fn weights(text: &str) -> Result<Vec<(String, String)>, String> {
    if !text.trim_start().starts_with('{') {
        let parts = text.split(',').filter(|part| !part.trim().is_empty());
        let pairs = parts.map(|part| part.split_once('=').unwrap_or((part, "1")));
        return Ok(pairs
            .map(|(name, weight)| (name.trim().to_owned(), weight.trim().to_owned()))
            .collect());
    }
    const NAMES: &str = "must be a map of names to numbers";
    let Value::Map(entries) = tree(text)?.value else {
        return Err(NAMES.to_owned());
    };
    let mut pairs: Vec<(String, String)> = Vec::with_capacity(entries.len());
    for (name, weight) in entries {
        let (name, weight) = name.written(text).zip(weight.written(text)).ok_or(NAMES)?;
        if pairs.iter().any(|(known, _)| *known == name) {
            return Err(format!("has a duplicate key {}", quoted(&name)));
        }
        pairs.push((name, weight));
    }
    Ok(pairs)
}

/// The value of a variable as JSON.
///
/// # Errors
///
/// If the JSON is invalid.
pub fn tree(text: &str) -> Result<Node, String> {
    let documents = yaml::parse(text).map_err(|fault| {
        let why = fault.message.trim_start_matches("not valid YAML: ");
        match fault.mark {
            Some(at) => format!("is not valid JSON (line {}, column {}): {why}", at.line, at.column),
            None => format!("is not valid JSON: {why}"),
        }
    })?;
    yaml::only(documents).map_err(|_| "is not valid JSON: more than one value".to_owned())
}

/// Whether the text is meant as JSON: `[::1]:26379,[::2]:26379` is a plain list.
fn is_json_list(text: &str) -> bool {
    let Some(inner) = text.trim_start().strip_prefix('[') else {
        return false;
    };
    let first = inner.split(']').next().unwrap_or_default();
    first.parse::<Ipv6Addr>().is_err()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lists_are_plain_or_json() {
        for (text, wanted) in [
            ("a, b,,", &["a", "b"][..]),
            ("", &[]),
            ("[]", &[]),
            (r#"["a", "b,c"]"#, &["a", "b,c"]),
            (" [ \"a\" ] ", &["a"]),
            ("[012, true]", &["012", "true"]),
            ("[::1]:26379,[::2]:26379", &["[::1]:26379", "[::2]:26379"]),
        ] {
            assert_eq!(list(text).unwrap(), wanted, "{text}");
        }
        for bad in [r#"["a""#, r#"["a"], b"#, r#"[["a"]]"#, r#"[{"a": 1}]"#, "[null]"] {
            assert!(list(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn weights_are_plain_or_json() {
        let pairs = |text: &str| weights(text).unwrap();
        let both = [("a".to_owned(), "6".to_owned()), ("b".to_owned(), "1".to_owned())];
        assert_eq!(pairs("a=6, b"), both);
        assert_eq!(pairs(r#"{"a": 6, "b": 1}"#), both);
        assert_eq!(pairs("{}"), []);
        for (bad, words) in [
            (r#"{"a": 6"#, "not valid JSON (line 1"),
            (r#"{"a": 6, "a": 7}"#, "duplicate key"),
            (r#"{"a": [6]}"#, "names to numbers"),
            (r#"{"a": 6}, "b""#, "not valid JSON"),
        ] {
            let why = weights(bad).unwrap_err();
            assert!(why.contains(words), "{bad}: {why}");
        }
    }
}
