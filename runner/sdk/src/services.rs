//! What handlers may ask of the worker that runs them. The worker implements it; a trial records it.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use runner_core::task::{InvalidTask, QueueName, Task, TaskId};

use crate::{BoxFuture, Outcome};

/// Why a task was not enqueued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotEnqueued {
    /// There is a task with its id, or with its queue, type and payload under a uniqueness lock.
    #[error("the task already exists")]
    Duplicate,
    /// An option is out of bounds.
    #[error(transparent)]
    Invalid(#[from] InvalidTask),
    /// The broker could not be asked; whether it took the task is unknown.
    #[error("{0}")]
    Unavailable(String),
}

/// One answer for each task, in order.
pub type EnqueueAnswers = Result<Vec<Result<TaskId, NotEnqueued>>, NotEnqueued>;

/// The worker, as its handlers see it.
pub trait Services: fmt::Debug + Send + Sync + 'static {
    /// Enqueues tasks, each on its own: one that is refused does not touch the others.
    fn enqueue(&self, tasks: Vec<Task>) -> BoxFuture<'_, EnqueueAnswers>;

    /// Makes a token with which the end of this task's work may be reported, for this long.
    fn await_report(
        &self,
        queue: &QueueName,
        task: &TaskId,
        valid: Duration,
    ) -> BoxFuture<'_, Result<String, NotEnqueued>> {
        let _ = (queue, task, valid);
        Box::pin(async { Err(unsupported()) })
    }

    /// The report with this token, if it has arrived.
    fn reported(&self, token: &str) -> BoxFuture<'_, Result<Option<Outcome>, NotEnqueued>> {
        let _ = token;
        Box::pin(async { Err(unsupported()) })
    }

    /// Stops waiting for a report, and returns the one that has arrived, if any.
    fn close_report(&self, token: &str) -> BoxFuture<'_, Result<Option<Outcome>, NotEnqueued>> {
        let _ = token;
        Box::pin(async { Err(unsupported()) })
    }
}

/// The answer where the worker knows no reports, as in a trial.
fn unsupported() -> NotEnqueued {
    NotEnqueued::Unavailable("reports are not supported here".to_owned())
}

/// Keeps what would be enqueued, for trials.
#[derive(Debug, Default)]
pub(crate) struct Recorded(Mutex<Vec<Task>>);

impl Recorded {
    pub(crate) fn take(&self) -> Vec<Task> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn keep(&self, task: Task) -> Result<TaskId, NotEnqueued> {
        task.check()?;
        let id = task.id.clone().unwrap_or_else(TaskId::random);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(task);
        Ok(id)
    }
}

impl Services for Recorded {
    fn enqueue(&self, tasks: Vec<Task>) -> BoxFuture<'_, EnqueueAnswers> {
        Box::pin(async move { Ok(tasks.into_iter().map(|task| self.keep(task)).collect()) })
    }
}
