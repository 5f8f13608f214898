//! What an operator can do to tasks and queues, and why it may be refused.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use runner_core::task::{Event, InvalidTask, QueueName, TaskId, TaskState};
use serde::Serialize;

use super::BrokerResult;

/// The most tasks that one call acts on, so that a store is never busy with one call for long.
pub const MAX_ACTED: usize = 1000;

/// How long after its lease expired a task counts as held when its queue is removed: its worker may be a little late.
pub const REMOVE_GRACE: Duration = Duration::from_secs(5);

/// What an operator does to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Makes it pending now.
    Run,
    /// Archives it.
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

    /// What was done to the task: `run`, `archived`, `deleted`.
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

/// Why an action was refused; nothing was changed.
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

/// The result of one call on many tasks.
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
    /// Workers hold tasks of it: leases have not expired, or less than [`REMOVE_GRACE`] ago.
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

/// Actions of operators on tasks and queues.
#[async_trait]
pub trait Actions: Send + Sync {
    /// Carries out an operator's action.
    async fn act(&self, queue: &QueueName, id: &TaskId, action: Action) -> Result<(), ActionError>;

    /// Carries out an action on [`MAX_ACTED`] tasks of a list, of archived and completed ones on the oldest, of others
    /// on the first; for tasks that wait in groups, of all groups of the queue. Call it again while there are more.
    ///
    /// Tasks that are added meanwhile are included: a caller that must come to an end counts first.
    async fn act_all(&self, queue: &QueueName, state: TaskState, action: Action) -> Result<Acted, ActionError>;

    /// Carries out an action on at most `most` tasks of a list, [`MAX_ACTED`] at most, as [`Actions::act_all`] does, in one step
    /// of the store. Of pending and archived tasks only on those that were so at `before`: more of those remain if it says so.
    /// Other lists do not know since when a task is on them; their callers count.
    async fn act_before(
        &self,
        queue: &QueueName,
        state: TaskState,
        action: Action,
        before: Timestamp,
        most: usize,
    ) -> Result<Acted, ActionError>;

    /// Carries out an action on those of these tasks that are in this state, of the first [`MAX_ACTED`]. Returns how many.
    async fn act_each(
        &self,
        queue: &QueueName,
        ids: &[TaskId],
        state: TaskState,
        action: Action,
    ) -> Result<u64, ActionError>;

    /// Carries out an action as [`Actions::act_all`] does, on the tasks that wait in one group.
    async fn act_group(&self, queue: &QueueName, group: &str, action: Action) -> Result<Acted, ActionError>;

    /// Replaces the payload of a scheduled task by one of [`MAX_PAYLOAD`](runner_core::task::MAX_PAYLOAD) bytes at
    /// most. Its uniqueness lock stays the one that it took.
    async fn update_payload(&self, queue: &QueueName, id: &TaskId, payload: Bytes) -> Result<(), ActionError>;

    /// Deletes what is stored under an id, as [`Action::Delete`] does with a task that can be read.
    async fn delete_raw(&self, queue: &QueueName, id: &[u8]) -> Result<(), ActionError>;

    /// Removes a queue with all its data: tasks, their attempts and locks, counters, pause. Without `force`
    /// only an empty one; never one that has active tasks, unless their leases expired more than
    /// [`REMOVE_GRACE`](super::REMOVE_GRACE) ago.
    ///
    /// Deletes at most [`MAX_ACTED`] tasks a call: while there are more, the queue is paused, and the next call
    /// continues. Producers can use the name again.
    async fn remove_queue(&self, queue: &QueueName, force: bool) -> Result<Acted, RemoveError>;

    /// Stops claims from a queue. Returns whether it was running.
    async fn pause_queue(&self, queue: &QueueName) -> BrokerResult<bool>;

    /// Allows claims again. Returns whether it was paused.
    async fn resume_queue(&self, queue: &QueueName) -> BrokerResult<bool>;
}
