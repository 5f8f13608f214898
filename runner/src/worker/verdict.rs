//! Which verdict follows from the end of a handler, and which outcome is stored with the attempt. Pure; writing it is
//! the claim loop's task.

use bytes::Bytes;
use runner_core::clock::Clock;
use runner_core::schedule::stable_hash;
use runner_core::task::{AttemptOutcome, Backoff, stated_delay};
use runner_queue::{CANCELED, TaskRecord, Verdict};
use runner_sdk::{Outcome, Stop, StopReason};

/// The error of an attempt that was stopped because it gave no sign of life.
const STALLED: &str = "stalled: no sign of life for as long as its handler allows";

/// How a handler ended.
pub(super) enum HandlerEnd {
    Returned(Outcome),
    Panicked(String),
    /// Dropped after it did not return in time.
    Dropped,
    /// Not called: the task's deadline had passed when it was claimed.
    TooLate,
}

impl HandlerEnd {
    /// What it returned.
    pub fn result(&self) -> Option<&[u8]> {
        match self {
            Self::Returned(Outcome::Success(result)) => result.as_deref(),
            _ => None,
        }
    }
}

/// The result of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AttemptEnd {
    pub verdict: Verdict,
    pub outcome: AttemptOutcome,
    pub error: Option<String>,
    pub result: Option<Bytes>,
}

impl AttemptEnd {
    fn new(verdict: Verdict, outcome: AttemptOutcome, error: Option<String>) -> Self {
        Self {
            verdict,
            outcome,
            error,
            result: None,
        }
    }

    fn archived(error: String) -> Self {
        let verdict = Verdict::Archive { error: error.clone() };
        Self::new(verdict, AttemptOutcome::Archived, Some(error))
    }

    fn retried(after: std::time::Duration, error: String) -> Self {
        let verdict = Verdict::Retry {
            after,
            error: error.clone(),
            counts: true,
        };
        Self::new(verdict, AttemptOutcome::Retry, Some(error))
    }

    /// The same attempt, recorded as ended by an operator.
    fn cancelled(self) -> Self {
        Self {
            outcome: AttemptOutcome::Cancelled,
            ..self
        }
    }
}

/// The result of an attempt at `task` whose handler ended like this and had, or had not, been stopped.
///
/// The order of the cases is the order of precedence: a success counts even if the handler was stopped, and what an
/// operator asked for takes precedence over what the handler returned.
pub(super) fn verdict_of(
    task: &TaskRecord,
    end: HandlerEnd,
    stop: &Stop,
    backoff: Backoff,
    clock: &dyn Clock,
) -> AttemptEnd {
    let of_outcome = |outcome| verdict_of_outcome(task, outcome, backoff, clock);
    match (end, stop.reason()) {
        (HandlerEnd::Returned(outcome @ (Outcome::Success(_) | Outcome::Revoke(_))), _) => of_outcome(outcome),
        // Whichever reason came first: an operator ended the task for good.
        (_, Some(_)) if stop.ended().is_some() => {
            of_outcome(Outcome::Skip(stop.ended().unwrap_or_default().to_owned())).cancelled()
        }
        // It did not fail, it was interrupted: no retry is used up.
        (_, Some(StopReason::Shutdown)) => AttemptEnd::new(Verdict::HandBack, AttemptOutcome::Requeued, None),
        // Whichever error the handler returned: asynq does not wait for it.
        (_, Some(StopReason::Cancelled)) => of_outcome(Outcome::Retry(CANCELED.to_owned())).cancelled(),
        (HandlerEnd::Returned(outcome), Some(StopReason::Deadline)) => of_outcome(match outcome {
            // No skip and no stated delay: the handler may have failed only because it was stopped.
            Outcome::Retry(e) | Outcome::Skip(e) => Outcome::Retry(format!("context deadline exceeded: {e}")),
            _ => Outcome::Retry("context deadline exceeded".to_owned()),
        }),
        (HandlerEnd::Returned(outcome), Some(StopReason::Stalled)) => of_outcome(match outcome {
            Outcome::Retry(e) | Outcome::Skip(e) => Outcome::Retry(format!("{STALLED}: {e}")),
            _ => Outcome::Retry(STALLED.to_owned()),
        }),
        (HandlerEnd::Dropped, Some(StopReason::Stalled)) => of_outcome(Outcome::Retry(STALLED.to_owned())),
        // Every other attempt would be too late as well.
        (HandlerEnd::TooLate, _) => of_outcome(Outcome::Skip(
            "context deadline exceeded: the task's deadline passed before it began".to_owned(),
        )),
        (HandlerEnd::Dropped, _) => of_outcome(Outcome::Retry("context deadline exceeded".to_owned())),
        (HandlerEnd::Panicked(text), _) => of_outcome(Outcome::Retry(format!("panic: {text}"))),
        (HandlerEnd::Returned(outcome), _) => of_outcome(outcome),
    }
}

/// The same for a handler that ended by itself.
fn verdict_of_outcome(task: &TaskRecord, outcome: Outcome, backoff: Backoff, clock: &dyn Clock) -> AttemptEnd {
    match outcome {
        Outcome::Success(result) => AttemptEnd {
            result,
            ..AttemptEnd::new(Verdict::Done, AttemptOutcome::Success, None)
        },
        Outcome::Revoke(why) => AttemptEnd::new(Verdict::Revoke, AttemptOutcome::Revoked, Some(why)),
        Outcome::Snooze { delay } => {
            let waiting_for = None;
            AttemptEnd::new(Verdict::Snooze { delay, waiting_for }, AttemptOutcome::Snoozed, None)
        }
        Outcome::Skip(error) => AttemptEnd::archived(error),
        Outcome::Retry(error) | Outcome::RetryAfter { error, .. } if !task.retries_left() => {
            AttemptEnd::archived(error)
        }
        Outcome::Retry(error) => {
            // Differs between tasks that failed together, and between the attempts of one.
            let random = stable_hash(&[task.id.as_str(), &task.retried.to_string(), &clock.now().to_string()]);
            AttemptEnd::retried(backoff.delay(task.retried, random), error)
        }
        Outcome::RetryAfter { after, error } => AttemptEnd::retried(stated_delay(after), error),
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
