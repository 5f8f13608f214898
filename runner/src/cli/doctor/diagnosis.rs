//! One line of the report: what was looked at, what was found, and what helps.

use crate::diagnose::{Reason, ReasonCode};
use crate::text::signs;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// Corrected by this command.
    Fixed,
    /// Something may go wrong.
    Warning,
    /// Something does not run, or will not.
    Error,
}

impl Level {
    /// The word that is printed.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fixed => "fixed",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// How bad a reason is. What an operator has paused is meant to wait.
pub(super) fn level_of(reason: &Reason) -> Level {
    match reason.code {
        ReasonCode::Paused | ReasonCode::QueuePaused => Level::Warning,
        _ => Level::Error,
    }
}

/// What was found in one area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Diagnosis {
    pub(super) level: Level,
    pub(super) area: &'static str,
    /// The stable code, if it has one.
    pub(super) code: Option<String>,
    /// The evidence, in one sentence.
    pub(super) text: String,
    /// What to do about it.
    pub(super) hint: Option<String>,
}

impl Diagnosis {
    pub(super) fn new(level: Level, area: &'static str, text: impl Into<String>) -> Self {
        Self {
            level,
            area,
            code: None,
            text: text.into(),
            hint: None,
        }
    }

    pub(super) fn code(self, code: impl Into<String>) -> Self {
        Self {
            code: Some(code.into()),
            ..self
        }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// Its lines, of which none can be forged by what it quotes.
    pub(super) fn lines(&self) -> String {
        let code = self.code.as_ref().map_or_else(String::new, |code| format!("{code} "));
        let mut out = format!(
            "{:<8} {:<10} {code}{}\n",
            self.level.as_str(),
            self.area,
            signs::line(&self.text)
        );
        if let Some(hint) = &self.hint {
            out += &format!("{:19} fix: {}\n", "", signs::line(hint));
        }
        out
    }
}
