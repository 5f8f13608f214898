//! Checks of single values, with the words for those that are refused: the same in manifests, rows and settings.

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
    /// What would be right.
    pub hint: Option<String>,
}

/// `retry must be a whole number, found a list`.
#[must_use]
pub fn must_be(path: &str, expected: &str, found: &str) -> String {
    format!("{path} must be {expected}, found {found}")
}

/// What a number must be, to be read after "must be".
#[must_use]
pub fn whole_number(bounds: &RangeInclusive<impl Display>) -> String {
    format!("a whole number from {} to {}", bounds.start(), bounds.end())
}

/// A duration such as `90s`, `1h30m`, `7d`, within bounds.
///
/// # Errors
///
/// Why it is none, or which bound it exceeds.
pub fn span(path: &str, text: &str, bounds: &RangeInclusive<Duration>) -> Result<Duration, Mismatch> {
    let bound = match duration::parse(text) {
        Ok(span) if span < *bounds.start() => format!("at least {}", duration::format(*bounds.start())),
        Ok(span) if span > *bounds.end() => format!("at most {}", duration::format(*bounds.end())),
        Ok(span) => return Ok(span),
        Err(error) => {
            return Err(Mismatch {
                message: format!("{path} is not a duration: {error}"),
                hint: Some("for example 10s, 5m, 1h30m".to_owned()),
            });
        }
    };
    Err(Mismatch {
        message: must_be(path, &bound, &quoted(text)),
        hint: None,
    })
}

/// The value that `text` names.
///
/// # Errors
///
/// Which words there are, and the one that was probably meant.
pub fn choice<T: Copy>(path: &str, text: &str, words: &[(&str, T)]) -> Result<T, Mismatch> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    Err(Mismatch {
        message: must_be(path, &one_of(&names), &quoted(text)),
        hint: nearest(text, names).map(meant),
    })
}

/// A hint at what was probably meant.
#[must_use]
pub fn meant(word: &str) -> String {
    format!("did you mean \"{word}\"?")
}
