//! What must be in place before the handler of a task is called, as far as that needs time.
//!
//! Knows nothing of what that is: rooms that the worker may not know say so through [`BeforeRun`].

use runner_queue::TaskRecord;
use runner_sdk::BoxFuture;

/// Says what must be in place before a task runs.
pub trait BeforeRun: Send + Sync {
    /// What is to be waited for; an error is why the task must not run, for its attempt. `None`, for nearly all tasks: nothing.
    /// Asked on the way of every attempt, so it must answer at once.
    fn before(&self, task: &TaskRecord) -> Option<BoxFuture<'static, Result<(), String>>>;
}
