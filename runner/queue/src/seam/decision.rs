//! Decisions on record: the fate of an occurrence, and why.

use jiff::Timestamp;
use runner_core::schedule::ScheduleId;
use runner_core::task::{QueueName, TaskId};
use serde::{Deserialize, Serialize};

use super::RunEnd;

/// The decision about an occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecisionKind {
    /// Enqueued.
    Fired,
    /// Not enqueued, by the overlap policy.
    Skipped,
    /// Too late for the catch-up policy.
    Missed,
    /// The schedule was paused.
    Paused,
    /// Not about an occurrence: the schedule was run by hand.
    Manual,
    /// Not about an occurrence: the cursor was ahead of the broker's clock and was set to the present.
    Corrected,
}

impl DecisionKind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Fired,
        Self::Skipped,
        Self::Missed,
        Self::Paused,
        Self::Manual,
        Self::Corrected,
    ];

    /// The kind of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// The word used in metrics, listings and on pages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fired => "fired",
            Self::Skipped => "skipped",
            Self::Missed => "missed",
            Self::Paused => "paused",
            Self::Manual => "manual",
            Self::Corrected => "corrected",
        }
    }
}

/// One decision on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Which schedule.
    pub schedule: ScheduleId,
    /// Which occurrence; the newest one when it covers several.
    pub nominal: Timestamp,
    /// What.
    pub kind: DecisionKind,
    /// Why, in a word or a sentence: `on_time`, `catch_up`, `overlap: previous task … is active`, `too late`.
    pub reason: String,
    /// The task that was enqueued, or that blocked it.
    pub task: Option<TaskId>,
    /// The queue of that task; `None` where an older version recorded the decision.
    pub queue: Option<QueueName>,
    /// How the enqueued task ended, if it has and a record exists. A new decision has none yet.
    pub end: Option<RunEnd>,
    /// How many occurrences it covers.
    pub count: u32,
    /// When it was decided, by the broker's clock.
    pub decided_at: Timestamp,
    /// By whom.
    pub instance: String,
}
