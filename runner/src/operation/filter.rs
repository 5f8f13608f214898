//! Which tasks an operation is about: a state, a queue or all, a search, and the instant at which they must have been there.

use jiff::Timestamp;
use runner_core::task::{QueueName, TaskState};
use runner_queue::TaskInfo;
use serde::{Deserialize, Serialize};

use crate::task_search::TaskFilter;

/// The choice, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskChoice {
    /// The state.
    pub state: TaskState,
    /// Only this queue.
    #[serde(default)]
    pub queue: Option<QueueName>,
    /// A part of the type.
    #[serde(default)]
    pub kind: String,
    /// A part of the id, the type, the payload or the error.
    #[serde(default)]
    pub text: String,
    /// An error without its numbers.
    #[serde(default)]
    pub error: String,
    /// Only those that ended, failed or are due from this instant on.
    #[serde(default)]
    pub from: Option<Timestamp>,
    /// The same, before this one.
    #[serde(default)]
    pub to: Option<Timestamp>,
    /// When the choice was shown: what came into the state later is left alone, where it is known since when a task is in it.
    pub before: Timestamp,
}

impl TaskChoice {
    /// A choice from a filter.
    #[must_use]
    pub fn new(state: TaskState, filter: &TaskFilter, before: Timestamp) -> Self {
        Self {
            state,
            queue: filter.queue.clone(),
            kind: filter.kind.clone(),
            text: filter.text.clone(),
            error: filter.error.clone(),
            from: filter.from,
            to: filter.to,
            before,
        }
    }

    /// The filter.
    #[must_use]
    pub fn filter(&self) -> TaskFilter {
        TaskFilter {
            queue: self.queue.clone(),
            kind: self.kind.clone(),
            text: self.text.clone(),
            error: self.error.clone(),
            from: self.from,
            to: self.to,
        }
    }

    /// Whether tasks need not be read to know that they are meant: the store itself takes them in their order. A list that does
    /// not say since when a task is on it is read, unless that does not matter.
    #[must_use]
    pub fn is_whole_list(&self) -> bool {
        let by_store = matches!(
            self.state,
            TaskState::Pending | TaskState::Archived | TaskState::Scheduled | TaskState::Aggregating
        );
        by_store && self.filter().is_empty()
    }

    /// Whether a task of the state is meant.
    #[must_use]
    pub fn fits(&self, filter: &TaskFilter, task: &TaskInfo) -> bool {
        let since = match task.state {
            TaskState::Pending => task.pending_since,
            TaskState::Retry => task.record.last_failed_at,
            TaskState::Archived => task.filed_at.or(task.record.last_failed_at),
            TaskState::Completed => task.record.completed_at,
            TaskState::Scheduled | TaskState::Active | TaskState::Aggregating => None,
        };
        since.is_none_or(|since| since <= self.before) && filter.fits(task)
    }
}
