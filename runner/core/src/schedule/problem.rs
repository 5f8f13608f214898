//! Something wrong with a manifest, a row, a schedule in code or a setting: where, what, and what to do about it.

use std::fmt;

use serde::{Serialize, Serializer};

use super::{Origin, ScheduleId, Source};

/// Severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Works, but perhaps not as intended.
    Warning,
    /// This definition is not in force (its last good version may be), or with this setting nothing starts.
    Error,
}

/// One problem, complete enough to act on without looking elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Warning or error.
    pub severity: Severity,
    /// Stable code such as `E203` or `CFG_RANGE`, for searching and for machines.
    pub code: String,
    /// What is wrong, in one sentence.
    pub message: String,
    /// File and line, row, or variable of the environment.
    pub place: String,
    /// The source of schedules it was found in; `None`: the settings.
    pub source: Option<Source>,
    /// The schedule it concerns, when that is known.
    pub schedule: Option<ScheduleId>,
    /// The source line with a caret under the fault, if available.
    pub excerpt: Option<String>,
    /// How to fix it.
    pub hint: Option<String>,
    /// The task type of the function, if the problem is about a function as a whole.
    pub function: Option<String>,
}

impl Problem {
    /// An error with a code, a message and a place.
    #[must_use]
    pub fn error(code: impl Into<String>, message: impl Into<String>, origin: Origin) -> Self {
        Self {
            source: Some(origin.source),
            ..Self::of_settings(code, origin.place, message)
        }
    }

    /// A warning with a code, a message and a place.
    #[must_use]
    pub fn warning(code: impl Into<String>, message: impl Into<String>, origin: Origin) -> Self {
        Self::error(code, message, origin).as_warning()
    }

    /// An error in the settings.
    #[must_use]
    pub fn of_settings(code: impl Into<String>, place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code: code.into(),
            message: message.into(),
            place: place.into(),
            source: None,
            schedule: None,
            excerpt: None,
            hint: None,
            function: None,
        }
    }

    /// The same as a warning.
    #[must_use]
    pub fn as_warning(self) -> Self {
        Self {
            severity: Severity::Warning,
            ..self
        }
    }

    /// The same with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether it is more than a warning.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Names the schedule that it concerns.
    #[must_use]
    pub fn about(mut self, schedule: ScheduleId) -> Self {
        self.schedule = Some(schedule);
        self
    }

    /// On one line for the log, without the excerpt.
    #[must_use]
    pub fn one_line(&self) -> String {
        let hint = self.hint.as_ref().map_or(String::new(), |h| format!(" (help: {h})"));
        let line = format!("{}: {} {}{hint}", self.place, self.code, self.message);
        line.replace(['\n', '\r'], " ")
    }
}

/// What `--json` shows of a problem; its names and nesting are public.
#[derive(Serialize)]
struct ShownProblem<'a> {
    severity: Severity,
    code: &'a str,
    message: &'a str,
    origin: ShownOrigin<'a>,
    schedule: Option<&'a ScheduleId>,
    excerpt: Option<&'a str>,
    hint: Option<&'a str>,
}

#[derive(Serialize)]
struct ShownOrigin<'a> {
    source: Option<Source>,
    place: &'a str,
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shown = ShownProblem {
            severity: self.severity,
            code: &self.code,
            message: &self.message,
            origin: ShownOrigin {
                source: self.source,
                place: &self.place,
            },
            schedule: self.schedule.as_ref(),
            excerpt: self.excerpt.as_deref(),
            hint: self.hint.as_deref(),
        };
        shown.serialize(serializer)
    }
}

impl fmt::Display for Problem {
    /// `place: E203 message`, then excerpt and hint on their own lines.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_place_is_shown_as_part_of_the_origin() {
        let origin = Origin {
            source: Source::Table,
            place: "sys_crontab id 7".to_owned(),
        };
        let problem = Problem::warning("W252", "odd status", origin).hint("write 0 or 1");
        let shown = serde_json::json!({
            "severity": "warning", "code": "W252", "message": "odd status",
            "origin": {"source": "table", "place": "sys_crontab id 7"},
            "schedule": null, "excerpt": null, "hint": "write 0 or 1",
        });
        assert_eq!(serde_json::to_value(problem).unwrap(), shown);
    }
}
