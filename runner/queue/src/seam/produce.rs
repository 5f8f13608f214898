//! The producer's side of the seam: putting tasks on queues.

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::task::{InvalidTask, QueueName, Task, TaskId, TaskState};

use super::BrokerResult;

/// A task that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enqueued {
    /// The id that was chosen or given.
    pub id: TaskId,
    /// The queue it waits in.
    pub queue: QueueName,
    /// Pending, scheduled or aggregating.
    pub state: TaskState,
    /// When it is to run; `None` for tasks that wait in a group.
    pub run_at: Option<Timestamp>,
}

/// Why one task was not accepted. The others of the same call are not affected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another task holds the uniqueness lock.
    #[error("task already exists")]
    Duplicate,
    /// The queue has a task of this id.
    #[error("task ID conflicts with another task")]
    IdTaken,
    /// An option is out of bounds.
    #[error(transparent)]
    Invalid(#[from] InvalidTask),
}

/// What a producer asks of a broker.
#[async_trait]
pub trait Producer {
    /// Puts tasks on their queues, each on its own: one refusal does not touch the others.
    ///
    /// The answer has one element for each task, in order. Once this returned `Ok` for a task it lies in
    /// the store. A refused task leaves nothing behind, no uniqueness lock either.
    ///
    /// # Errors
    ///
    /// When the store could not be asked; what became of the tasks is unknown then for `Unreachable`.
    async fn enqueue(&self, tasks: &[Task]) -> BrokerResult<Vec<Result<Enqueued, Refusal>>>;
}
