//! The status of each source, for pages, metrics and commands.

use jiff::Timestamp;
use serde::Serialize;

use runner_core::schedule::{Origin, Problem, ScheduleId, Source};

/// One source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceStatus {
    /// Which of the three.
    pub source: Source,
    /// The directory, the database, or `code`.
    pub place: String,
    /// Whether the version in force is the present one.
    pub state: SourceState,
    /// When it was last read with success.
    pub last_sync: Option<Timestamp>,
    /// Schedules in force, disabled ones included.
    pub schedules: usize,
    /// Errors in its content.
    pub errors: usize,
}

/// The problem of a schedule of which an older version is in force.
pub const LAST_GOOD: &str = "W104";

/// A function or a row of which nothing is in force, because something is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Of a row; the schedules of a file that cannot be read are not known.
    pub id: Option<ScheduleId>,
    /// The name in the file or row.
    pub name: String,
    /// The file or the row.
    pub origin: Origin,
    /// Why.
    pub problems: Vec<Problem>,
}

impl SourceStatus {
    /// Whether it is a manifest directory, or the file of a table, that never existed: not an error,
    /// there are just no manifests or rows yet.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self.state, SourceState::Unavailable { absent: true, .. })
    }
}

/// Why a source cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The place does not exist.
    #[error("{0} does not exist")]
    Absent(String),
    /// Anything else, in words.
    #[error("{0}")]
    Failed(String),
}

/// Whether the version in force is the present one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum SourceState {
    /// It has not been read yet.
    Loading,
    /// As of the last sync.
    Loaded,
    /// It cannot be read; the last known set stays in force.
    Stale {
        /// Since when it cannot be read.
        since: Timestamp,
        /// Why.
        reason: String,
    },
    /// It could never be read, so nothing of it is in force.
    Unavailable {
        /// Since when it has been tried.
        since: Timestamp,
        /// Why.
        reason: String,
        /// Whether its place does not exist.
        #[serde(skip)]
        absent: bool,
    },
}

impl SourceState {
    /// Why it cannot be read, unless it can.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Loading | Self::Loaded => None,
            Self::Stale { reason, .. } | Self::Unavailable { reason, .. } => Some(reason),
        }
    }

    /// The state after a failure: since the first one, stale if there was ever a success.
    #[must_use]
    pub fn failed(&self, ever_loaded: bool, now: Timestamp, error: &SourceError) -> Self {
        let since = match self {
            Self::Stale { since, .. } | Self::Unavailable { since, .. } => *since,
            Self::Loading | Self::Loaded => now,
        };
        let reason = error.to_string();
        if ever_loaded {
            Self::Stale { since, reason }
        } else {
            Self::Unavailable {
                since,
                reason,
                absent: matches!(error, SourceError::Absent(_)),
            }
        }
    }
}
