//! What is wrong with a setting: where, what, what would be right, under a stable code.
//!
//! Only the shape and how it prints; what counts as wrong is decided where a setting is read.

use std::fmt;

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Used, but perhaps not as meant.
    Warning,
    /// The program does not start with it.
    Error,
}

/// One finding about the settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Warning or error.
    pub severity: Severity,
    /// Stable code such as `CFG_UNKNOWN`.
    pub code: &'static str,
    /// `config.yaml:12:5`, `RUNNER_REDIS_HOST`, or the file alone.
    pub place: String,
    /// What is wrong, in one sentence; never a secret.
    pub message: String,
    /// The source line with a caret, unless a secret may stand on it.
    pub excerpt: Option<String>,
    /// What would be right.
    pub hint: Option<String>,
}

impl Problem {
    /// An error at a place that has no source line.
    #[must_use]
    pub fn error(code: &'static str, place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            place: place.into(),
            message: message.into(),
            excerpt: None,
            hint: None,
        }
    }

    /// The same with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether the program refuses to start because of it.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    /// `place: CODE message`, then the excerpt and the hint on lines of their own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.place, self.code, self.message)?;
        if let Some(excerpt) = &self.excerpt {
            write!(f, "\n{excerpt}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  help: {hint}")?;
        }
        Ok(())
    }
}

/// Everything wrong with the settings, at once.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Refused(pub Vec<Problem>);

/// The word of `known` that was probably meant by `word`, if any is near enough.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |w: &str| w.replace(['_', '-'], "").to_lowercase();
    let wanted = plain(word);
    known
        .into_iter()
        .map(|candidate| (distance(&wanted, &plain(candidate)), candidate))
        .filter(|(far, candidate)| *far <= 1 + candidate.chars().count() / 4)
        .min_by_key(|(far, _)| *far)
        .map(|(_, candidate)| candidate)
}

/// How many insertions, deletions and changes make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_word_is_suggested_and_a_far_one_is_not() {
        let known = ["timezone", "shutdown_timeout", "addr"];
        assert_eq!(nearest("timezon", known), Some("timezone"));
        assert_eq!(nearest("shutdownTimeout", known), Some("shutdown_timeout"));
        assert_eq!(nearest("colour", known), None);
    }
}
