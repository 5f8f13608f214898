//! What an operator can do to tasks and queues, and why it may be refused.

use std::time::Duration;

use runner_core::task::{Event, InvalidTask, QueueName, TaskId, TaskState};
use serde::Serialize;

/// Tasks that one call acts on at most, so that a store is never busy with one call for long.
pub const MAX_ACTED: usize = 1000;

/// How long after its lease ran out a task counts as held when its queue is removed: its worker may be a little late.
pub const REMOVE_GRACE: Duration = Duration::from_secs(5);

/// What an operator does to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Puts it on its queue now.
    Run,
    /// Puts it aside.
    Archive,
    /// Deletes it and releases its uniqueness lock.
    Delete,
}

impl Action {
    /// The event that the table of moves is asked about.
    #[must_use]
    pub fn event(self) -> Event {
        match self {
            Self::Run => Event::RunNow,
            Self::Archive => Event::Archive,
            Self::Delete => Event::Delete,
        }
    }

    /// What a task is afterwards: `run`, `archived`, `deleted`.
    #[must_use]
    pub fn done(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Archive => "archived",
            Self::Delete => "deleted",
        }
    }

    /// Whether the table of moves allows it for tasks in this state.
    ///
    /// # Errors
    ///
    /// [`ActionError::Never`].
    pub fn check(self, state: TaskState) -> Result<(), ActionError> {
        let done = self.done();
        let allowed = state.after(self.event());
        allowed.map(drop).map_err(|_| ActionError::Never { state, done })
    }
}

/// Why an action was not carried out; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// No such task.
    #[error("no task {0} in queue {1}")]
    NotFound(TaskId, QueueName),
    /// The table of moves does not allow it.
    #[error("task {id} is {state}; it cannot be {done}")]
    WrongState {
        /// The task.
        id: TaskId,
        /// The state it is in.
        state: TaskState,
        /// `run`, `archived`, `deleted`, `edited`.
        done: &'static str,
    },
    /// The table of moves does not allow it for any task in this state.
    #[error("tasks that are {state} cannot be {done}")]
    Never {
        /// The state.
        state: TaskState,
        /// `run`, `archived`, `deleted`.
        done: &'static str,
    },
    /// No task may have this payload.
    #[error(transparent)]
    Invalid(#[from] InvalidTask),
    /// The store could not be asked.
    #[error(transparent)]
    Broker(#[from] super::BrokerError),
}

/// What one call did to many tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Acted {
    /// Tasks acted on.
    pub tasks: u64,
    /// Whether the bound cut the call short and there is more to do.
    pub more: bool,
}

/// Why a queue was not removed; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// No such queue.
    #[error("no queue {0}")]
    Unknown(QueueName),
    /// Workers hold tasks of it: their leases ran out less than [`REMOVE_GRACE`] ago, if at all.
    #[error("queue {queue} has {tasks} active tasks; pause it and wait for them to end, or cancel them")]
    Active {
        /// The queue.
        queue: QueueName,
        /// How many.
        tasks: u64,
    },
    /// It has tasks, and force was not asked for.
    #[error("queue {queue} is not empty: it has {tasks} tasks")]
    NotEmpty {
        /// The queue.
        queue: QueueName,
        /// How many, in all states.
        tasks: u64,
    },
    /// The store could not be asked.
    #[error(transparent)]
    Broker(#[from] super::BrokerError),
}
