//! A task in the broker, as its producer sees it: its id, its state, its result.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use runner_core::task::{QueueName, TaskId, TaskState};
use runner_queue::{Broker, BrokerError, Enqueued};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

/// Pauses between two questions for the end of a task: short at first, for tasks that take milliseconds; then long enough
/// that a thousand waiting callers cost a broker little.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A task that was enqueued.
#[derive(Clone)]
pub struct TaskHandle {
    broker: Arc<dyn Broker>,
    queue: QueueName,
    id: TaskId,
    run_at: Option<Timestamp>,
}

impl fmt::Debug for TaskHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHandle")
            .field("queue", &self.queue)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// How a task ended well.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskResult {
    /// What its handler returned; empty if it returned nothing.
    pub bytes: Bytes,
}

impl TaskResult {
    /// The result as text; bytes that are no UTF-8 are replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The result, decoded from JSON. An empty one reads as `null`.
    ///
    /// # Errors
    ///
    /// If it does not fit.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        match self.bytes.is_empty() {
            true => serde_json::from_slice(b"null"),
            false => serde_json::from_slice(&self.bytes),
        }
    }
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// It failed for good. An operator may still run it again.
    #[error("the task failed: {0}")]
    Failed(String),
    /// It is not in the broker: it ended and was not kept, or it was deleted. A task without a retention leaves at its
    /// success, so give one to those whose end matters.
    #[error("the task is not in the broker any more; one that has no retention leaves when it succeeds")]
    Gone,
    /// Not within the time that was given; it continues.
    #[error("the task has not ended yet; it is {}", .0.as_str())]
    NotYet(TaskState),
    /// The broker could not be asked.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

impl TaskHandle {
    pub(crate) fn new(broker: Arc<dyn Broker>, enqueued: Enqueued) -> Self {
        Self {
            broker,
            queue: enqueued.queue,
            id: enqueued.id,
            run_at: enqueued.run_at,
        }
    }

    pub(crate) fn known(broker: Arc<dyn Broker>, queue: QueueName, id: TaskId) -> Self {
        Self {
            broker,
            queue,
            id,
            run_at: None,
        }
    }

    /// Its identity within the queue.
    #[must_use]
    pub fn id(&self) -> &TaskId {
        &self.id
    }

    /// The queue it was put on.
    #[must_use]
    pub fn queue(&self) -> &QueueName {
        &self.queue
    }

    /// When it is to run; `None` for tasks that wait in a group and for [`Client::task`](crate::Client::task).
    #[must_use]
    pub fn run_at(&self) -> Option<Timestamp> {
        self.run_at
    }

    /// Its state now; `None` once it is not in the broker any more.
    ///
    /// # Errors
    ///
    /// If the broker could not be asked.
    pub async fn state(&self) -> Result<Option<TaskState>, BrokerError> {
        let found = self.broker.glance(&self.queue, &self.id).await?;
        Ok(found.map(|task| task.state))
    }

    /// Waits until the task has ended, at most for `patience`, and returns its result. A task that is to be retried has not
    /// ended. Give it a retention (`#[task(retention = "1h")]`, `.retention(…)`): a task without one leaves nothing behind
    /// when it succeeds, which is [`WaitError::Gone`].
    ///
    /// # Errors
    ///
    /// [`WaitError`].
    #[allow(clippy::disallowed_methods)] // bounded pauses between questions: brokers do not announce the ends of tasks
    pub async fn wait(&self, patience: Duration) -> Result<TaskResult, WaitError> {
        // None: forever, or as good as that.
        let until = Instant::now().checked_add(patience);
        let mut pause = FIRST_PAUSE;
        loop {
            // A glance: neither a large payload nor a large result travels at each question.
            let Some(task) = self.broker.glance(&self.queue, &self.id).await? else {
                return Err(WaitError::Gone);
            };
            match task.state {
                TaskState::Completed => return self.result().await,
                TaskState::Archived => return Err(WaitError::Failed(task.record.last_error)),
                state if until.is_some_and(|until| Instant::now() >= until) => return Err(WaitError::NotYet(state)),
                _ => {
                    let next = Instant::now() + pause;
                    tokio::time::sleep_until(until.map_or(next, |until| until.min(next))).await;
                }
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn result(&self) -> Result<TaskResult, WaitError> {
        let whole = self.broker.task(&self.queue, &self.id).await?;
        let bytes = whole.ok_or(WaitError::Gone)?.result.unwrap_or_default();
        Ok(TaskResult { bytes })
    }
}
