//! The states of a task and the table of moves between them.
//!
//! Brokers may make no other move. Lua and SQL cannot call Rust, so the contract suite tests this table against each
//! broker.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The state of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// Waits for a free worker.
    Pending,
    /// A worker holds it under a lease.
    Active,
    /// Waits for a time chosen by its producer.
    Scheduled,
    /// Failed; waits for its next attempt.
    Retry,
    /// Failed for good; kept for inspection and manual retries.
    Archived,
    /// Succeeded; kept for its retention.
    Completed,
    /// Waits in a group for aggregation.
    Aggregating,
}

impl TaskState {
    /// All states, in the order of pages and listings.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Active,
        Self::Scheduled,
        Self::Retry,
        Self::Archived,
        Self::Completed,
        Self::Aggregating,
    ];

    /// The word in Redis, in SQL, in URLs and on pages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Scheduled => "scheduled",
            Self::Retry => "retry",
            Self::Archived => "archived",
            Self::Completed => "completed",
            Self::Aggregating => "aggregating",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An unknown word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown state {0:?}; expected pending, active, scheduled, retry, archived, completed or aggregating")]
pub struct UnknownState(pub String);

impl FromStr for TaskState {
    type Err = UnknownState;

    fn from_str(word: &str) -> Result<Self, UnknownState> {
        Self::ALL
            .into_iter()
            .find(|s| s.as_str() == word)
            .ok_or_else(|| UnknownState(word.to_owned()))
    }
}

/// An event in the life of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Its time has come (scheduled, retry).
    Due,
    /// Its time has come, and it returns to the group that it came from.
    Regrouped,
    /// It was aggregated with others of its group.
    Aggregated,
    /// A worker took it.
    Claimed,
    /// It succeeded; `keep` if it has a retention.
    Succeeded {
        /// Whether the finished task is kept.
        keep: bool,
    },
    /// An attempt failed, or its lease ran out.
    Failed {
        /// Whether another attempt is allowed.
        retries_left: bool,
    },
    /// The worker gave it back unfinished, without using a retry.
    HandedBack,
    /// The worker postpones it, without using a retry.
    Snoozed,
    /// An operator runs it now.
    RunNow,
    /// An operator archives it.
    Archive,
    /// An operator deletes it.
    Delete,
    /// Its retention has ended.
    Expired,
}

/// A move that is not in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a task that is {from} cannot be moved by {event:?}")]
pub struct IllegalMove {
    /// The current state.
    pub from: TaskState,
    /// The event.
    pub event: Event,
}

impl TaskState {
    /// The state after `event`; `None` if the task is deleted.
    ///
    /// # Errors
    ///
    /// [`IllegalMove`] when `event` cannot happen to a task in this state.
    pub fn after(self, event: Event) -> Result<Option<Self>, IllegalMove> {
        use Event::{
            Aggregated, Archive, Claimed, Delete, Due, Expired, Failed, HandedBack, Regrouped, RunNow, Snoozed,
            Succeeded,
        };
        use TaskState::{Active, Aggregating, Archived, Completed, Pending, Retry, Scheduled};
        let next = match (self, event) {
            (Scheduled | Retry, Due) | (Scheduled | Retry | Archived | Completed | Aggregating, RunNow) => Pending,
            (Scheduled | Retry, Regrouped) => Aggregating,
            (Aggregating, Aggregated) => return Ok(None),
            (Pending, Claimed) => Active,
            (Active, Succeeded { keep: true }) => Completed,
            (Active, Succeeded { keep: false }) | (Completed, Expired) => return Ok(None),
            (Active, Failed { retries_left: true }) => Retry,
            (Active, Failed { retries_left: false })
            | (Pending | Scheduled | Retry | Completed | Aggregating, Archive) => Archived,
            (Active, HandedBack) => Pending,
            (Active, Snoozed) => Scheduled,
            (from, Delete) if from != Active => return Ok(None),
            (from, event) => return Err(IllegalMove { from, event }),
        };
        Ok(Some(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_parse_back() {
        for state in TaskState::ALL {
            assert_eq!(state.as_str().parse::<TaskState>(), Ok(state));
        }
        assert!("job".parse::<TaskState>().is_err());
    }

    #[test]
    fn only_a_claimed_task_can_end_and_an_active_one_cannot_be_deleted() {
        for state in TaskState::ALL {
            let ends = state.after(Event::Succeeded { keep: false });
            assert_eq!(ends.is_ok(), state == TaskState::Active, "{state}");
            assert_eq!(
                state.after(Event::Delete).is_ok(),
                state != TaskState::Active,
                "{state}"
            );
        }
    }
}
