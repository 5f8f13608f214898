//! Outcomes of an attempt: the one list for worker, stores, metrics, listings and pages.
//!
//! Not what a handler returns: that is `runner_sdk::Outcome`, which says what the handler wants and carries results,
//! errors and delays. Not what the broker does with the task either: that is the verdict of the seam. The worker makes
//! both from the handler's outcome and from what else ended the attempt (a panic, a deadline, a cancellation, a lost lease).

use std::fmt;

use serde::{Deserialize, Serialize};

/// How one attempt at a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// It succeeded.
    Success,
    /// It failed; the task waits for its next attempt.
    Retry,
    /// It failed for good.
    Archived,
    /// An operator ended it, whether or not the task is retried.
    Cancelled,
    /// The handler asked to be called again later.
    Snoozed,
    /// There was nothing left to do.
    Revoked,
    /// The worker stopped and put the task back.
    Requeued,
    /// No handler knew the type any more; the task was put back.
    NoHandler,
    /// Its worker fell silent.
    Lost,
    /// A word written by another version of this program.
    #[serde(other)]
    Unknown,
}

impl AttemptOutcome {
    /// All outcomes.
    pub const ALL: [Self; 10] = [
        Self::Success,
        Self::Retry,
        Self::Archived,
        Self::Cancelled,
        Self::Snoozed,
        Self::Revoked,
        Self::Requeued,
        Self::NoHandler,
        Self::Lost,
        Self::Unknown,
    ];

    /// The word in stores, metrics, listings and on pages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Retry => "retry",
            Self::Archived => "archived",
            Self::Cancelled => "cancelled",
            Self::Snoozed => "snoozed",
            Self::Revoked => "revoked",
            Self::Requeued => "requeued",
            Self::NoHandler => "no_handler",
            Self::Lost => "lost",
            Self::Unknown => "unknown",
        }
    }

    /// The outcome of this word; [`AttemptOutcome::Unknown`] for any other.
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        let known = Self::ALL.into_iter().find(|outcome| outcome.as_str() == word);
        known.unwrap_or(Self::Unknown)
    }

    /// Whether it is a failure from the task's point of view.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Retry | Self::Archived | Self::Cancelled | Self::Lost)
    }
}

impl fmt::Display for AttemptOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn words_are_the_same_in_stores_and_elsewhere_and_unknown_ones_can_be_read() {
        for outcome in AttemptOutcome::ALL {
            let json = format!("\"{outcome}\"");
            assert_eq!(serde_json::to_string(&outcome).unwrap(), json);
            assert_eq!(serde_json::from_str::<AttemptOutcome>(&json).unwrap(), outcome);
            assert_eq!(AttemptOutcome::from_word(outcome.as_str()), outcome);
        }
        assert_eq!(
            serde_json::from_str::<AttemptOutcome>("\"paused\"").unwrap(),
            AttemptOutcome::Unknown
        );
        assert_eq!(AttemptOutcome::from_word("paused"), AttemptOutcome::Unknown);
    }
}
