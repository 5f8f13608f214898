//! The outcome of a stopped run; the same for every built-in handler.

use std::time::Duration;

use runner_sdk::{Ctx, StopReason, TaskError};

/// The outcome of a run that was stopped for this reason.
pub(crate) fn stopped(reason: StopReason, cx: &Ctx) -> TaskError {
    match (reason, cx.time_limit()) {
        // The worker adds who requested it.
        (StopReason::Cancelled, _) => TaskError::retry("cancelled on request"),
        (StopReason::Ended, _) => TaskError::skip("stopped on request"),
        (StopReason::Deadline, Some(limit)) => TaskError::retry(format!("timeout after {limit:?}")),
        (StopReason::Deadline, None) => TaskError::retry("timeout: the deadline has passed"),
        (StopReason::Stalled, _) => TaskError::retry("stalled: no sign of life"),
        // Not the task's fault: the worker hands it back, or writes nothing, so this text is never shown.
        (StopReason::Shutdown | StopReason::LeaseLost, _) => {
            TaskError::retry_after(Duration::ZERO, format!("stopped: {reason}"))
        }
    }
}
