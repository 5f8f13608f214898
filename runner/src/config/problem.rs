//! What is wrong with a setting: where, what, what would be right, under a stable code.
//!
//! Only the shape and how it prints; what counts as wrong is decided where a setting is read.

use std::fmt;

use runner_core::schedule::Severity;
use serde::Serialize;

/// One finding about the settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettingProblem {
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

impl SettingProblem {
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

impl fmt::Display for SettingProblem {
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
pub struct Refused(pub Vec<SettingProblem>);
