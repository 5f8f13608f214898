//! A request of an operator to end a running attempt, and the error that the task gets.

use runner_core::task::{QueueName, TaskId};
use serde::{Deserialize, Serialize};

/// The error of a cancelled attempt: asynq's text, which tools look for.
pub const CANCELED: &str = "context canceled";

/// The longest error of a task that is ended for good, in bytes.
pub const MAX_STOP_BYTES: usize = 1024;

/// A request to end an attempt, on its way to the worker that runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRequest {
    /// The task.
    pub id: TaskId,
    /// Its queue; `None`: of this id in any queue, because asynq's channel carries ids only.
    pub queue: Option<QueueName>,
    /// Archive the task with this error, whatever retries are left. `None`: the attempt has failed with [`CANCELED`],
    /// and is tried again if retries are left.
    pub for_good: Option<String>,
}

impl StopRequest {
    /// As asynq's cancellation.
    #[must_use]
    pub fn cancel(id: TaskId) -> Self {
        Self {
            id,
            queue: None,
            for_good: None,
        }
    }

    /// Ends the task for good. Of the error the first [`MAX_STOP_BYTES`] are kept.
    #[must_use]
    pub fn for_good(queue: QueueName, id: TaskId, mut error: String) -> Self {
        error.truncate(error.floor_char_boundary(MAX_STOP_BYTES));
        Self {
            id,
            queue: Some(queue),
            for_good: Some(error),
        }
    }
}

/// The error of a task that was ended for good: who, and why.
#[must_use]
pub fn stopped_by(who: &str, why: Option<&str>) -> String {
    match why {
        Some(why) => format!("stopped by {who}: {why}"),
        None => format!("stopped by {who}"),
    }
}
