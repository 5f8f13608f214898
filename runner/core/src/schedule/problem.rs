//! Problems of a manifest, a row or a schedule in code: place, message, hint.

use std::fmt;

use serde::Serialize;

use super::{Origin, ScheduleId};

/// Severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Works, but perhaps not as intended.
    Warning,
    /// This definition is not in force (its last good version may be).
    Error,
}

/// One problem, complete enough to act on without looking elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Warning or error.
    pub severity: Severity,
    /// Stable code such as `E203`, for searching and for machines.
    pub code: String,
    /// What is wrong, in one sentence.
    pub message: String,
    /// File and line, or row.
    pub origin: Origin,
    /// The schedule concerned, if known.
    pub schedule: Option<ScheduleId>,
    /// The source line with a caret under the fault, if available.
    pub excerpt: Option<String>,
    /// How to fix it.
    pub hint: Option<String>,
    /// The task type of the function, if the problem is about a function as a whole.
    #[serde(skip)]
    pub function: Option<String>,
}

impl Problem {
    /// An error with a code, a message and a place.
    #[must_use]
    pub fn error(code: impl Into<String>, message: impl Into<String>, origin: Origin) -> Self {
        Self {
            severity: Severity::Error,
            code: code.into(),
            message: message.into(),
            origin,
            schedule: None,
            excerpt: None,
            hint: None,
            function: None,
        }
    }

    /// A warning with a code, a message and a place.
    #[must_use]
    pub fn warning(code: impl Into<String>, message: impl Into<String>, origin: Origin) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(code, message, origin)
        }
    }

    /// Sets the schedule concerned.
    #[must_use]
    pub fn about(mut self, schedule: ScheduleId) -> Self {
        self.schedule = Some(schedule);
        self
    }

    /// On one line for the log, without the excerpt.
    #[must_use]
    pub fn one_line(&self) -> String {
        let hint = self.hint.as_ref().map_or(String::new(), |h| format!(" (help: {h})"));
        let line = format!("{}: {} {}{hint}", self.origin.place, self.code, self.message);
        line.replace(['\n', '\r'], " ")
    }
}

impl fmt::Display for Problem {
    /// `place: E203 message`, then excerpt and hint on their own lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.origin.place, self.code, self.message)?;
        if let Some(excerpt) = &self.excerpt {
            write!(f, "\n{excerpt}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  help: {hint}")?;
        }
        Ok(())
    }
}
