//! The producer's side of the seam: enqueueing tasks.

use std::time::Duration;

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
    /// When it will run; `None` for tasks that wait in a group.
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
    /// The queue has a receipt of this id: [`Producer::enqueue_once`] accepted it before.
    #[error("a task of this ID was accepted before")]
    Received,
    /// An option is out of bounds.
    #[error(transparent)]
    Invalid(#[from] InvalidTask),
}

/// A task for something that may be reported more than once, such as the message of another broker.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// The task. Without an id it is enqueued whatever was before.
    pub task: Task,
    /// How long its id is refused from now on, whatever happens to the task. Zero: while the queue has the task.
    pub remember: Duration,
}

/// Enqueueing, for producers.
#[async_trait]
pub trait Producer: Send + Sync {
    /// Enqueues tasks independently: a refusal does not affect the others.
    ///
    /// The answer has one element for each task, in order. Once this returned `Ok` for a task it is in
    /// the store. A refused task leaves nothing behind, not even a uniqueness lock.
    ///
    /// # Errors
    ///
    /// When the store could not be asked; for `Unreachable` it is unknown whether the tasks were enqueued.
    async fn enqueue(&self, tasks: &[Task]) -> BrokerResult<Vec<Result<Enqueued, Refusal>>>;

    /// The same, each id once: with the task a receipt of its id is written, in the same atomic step, and while there is
    /// one the id is refused with [`Refusal::Received`]. So a call whose outcome is unknown can be repeated.
    ///
    /// # Errors
    ///
    /// As [`Producer::enqueue`].
    async fn enqueue_once(&self, deliveries: &[Delivery]) -> BrokerResult<Vec<Result<Enqueued, Refusal>>>;
}
