//! Checks of single values, with the same error messages in manifests, rows and settings.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use runner_core::duration;

use super::{nearest, one_of, quoted};

/// Why a value cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// A sentence that begins with the path of the value.
    pub message: String,
    /// How to correct it.
    pub hint: Option<String>,
}

/// `retry must be a whole number, found a list`.
#[must_use]
pub fn must_be(path: &str, expected: &str, found: &str) -> String {
    format!("{path} must be {expected}, found {found}")
}

/// The allowed numbers, to be read after "must be".
#[must_use]
pub fn whole_number(bounds: &RangeInclusive<impl Display>) -> String {
    format!("a whole number from {} to {}", bounds.start(), bounds.end())
}

/// A duration such as `90s`, `1h30m`, `7d`, within bounds.
///
/// # Errors
///
/// Why it is not a duration, or which bounds apply.
pub fn span(path: &str, text: &str, bounds: &RangeInclusive<Duration>) -> Result<Duration, Mismatch> {
    let message = match duration::parse(text) {
        Ok(span) if bounds.contains(&span) => return Ok(span),
        Ok(_) => {
            let (shortest, longest) = (duration::format(*bounds.start()), duration::format(*bounds.end()));
            let expected = format!("a duration from {shortest} to {longest}");
            must_be(path, &expected, &quoted(text))
        }
        Err(error) => format!("{path} is not a duration: {error}"),
    };
    Err(Mismatch {
        message,
        hint: Some("for example 10s, 5m, 1h30m".to_owned()),
    })
}

/// The value that `text` names.
///
/// # Errors
///
/// The allowed words, and the one that was probably meant.
pub fn choice<T: Copy>(path: &str, text: &str, words: &[(&str, T)]) -> Result<T, Mismatch> {
    named(text, words).ok_or_else(|| no_choice(path, text, text, words))
}

/// The value that `text` names; upper and lower case are the same. `words` are in lower case.
///
/// # Errors
///
/// The allowed words, and the one that was probably meant.
pub fn choice_in_any_case<T: Copy>(path: &str, text: &str, words: &[(&str, T)]) -> Result<T, Mismatch> {
    let word = text.to_lowercase();
    named(&word, words).ok_or_else(|| no_choice(path, text, &word, words))
}

fn named<T: Copy>(word: &str, words: &[(&str, T)]) -> Option<T> {
    words.iter().find(|(name, _)| *name == word).map(|(_, value)| *value)
}

/// `text` is quoted as it was written; `word` is its normalised form.
fn no_choice<T>(path: &str, text: &str, word: &str, words: &[(&str, T)]) -> Mismatch {
    let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
    Mismatch {
        message: must_be(path, &one_of(&names), &quoted(text)),
        hint: nearest(word, names).map(meant),
    }
}

/// A hint at what was probably meant.
#[must_use]
pub fn meant(word: &str) -> String {
    format!("did you mean \"{word}\"?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_out_of_bounds_has_both_bounds_and_an_example() {
        let bounds = Duration::from_secs(1)..=Duration::from_secs(3600);
        assert_eq!(span("a", "1h", &bounds), Ok(Duration::from_secs(3600)));
        for text in ["500ms", "2h"] {
            let expected = Mismatch {
                message: format!("a must be a duration from 1s to 1h0m0s, found \"{text}\""),
                hint: Some("for example 10s, 5m, 1h30m".to_owned()),
            };
            assert_eq!(span("a", text, &bounds), Err(expected));
        }
    }
}
