//! Which verdict the end of a handler means. Writing it is the processor's affair.

use bytes::Bytes;
use runner_core::schedule::stable_hash;
use runner_core::task::{AttemptOutcome, Backoff, stated_delay};
use runner_queue::{CANCELED, TaskRecord, Verdict};
use runner_sdk::{Outcome, Stop, StopReason};

use super::WorkerContext;

/// How a handler ended.
pub(super) enum HandlerEnd {
    Returned(Outcome),
    Panicked(String),
    /// Dropped after it did not return in time.
    Dropped,
    /// Not called: the task's deadline had passed when it was claimed.
    TooLate,
}

/// Verdict, how the attempt ended, error text, result.
pub(super) fn verdict_of(
    ctx: &WorkerContext,
    task: &TaskRecord,
    end: HandlerEnd,
    stop: &Stop,
    backoff: Backoff,
) -> (Verdict, AttemptOutcome, Option<String>, Option<Bytes>) {
    let outcome = match (end, stop.reason()) {
        (HandlerEnd::Returned(Outcome::Success(result)), _) => {
            return (Verdict::Done, AttemptOutcome::Success, None, result);
        }
        (HandlerEnd::Returned(Outcome::Revoke(why)), _) => {
            return (Verdict::Revoke, AttemptOutcome::Revoked, Some(why), None);
        }
        (_, Some(_)) if stop.ended().is_some() => {
            let error = stop.ended().unwrap_or_default().to_owned();
            return cancelled(verdict_of_outcome(ctx, task, Outcome::Skip(error), backoff));
        }
        (_, Some(StopReason::Shutdown)) => return (Verdict::HandBack, AttemptOutcome::Requeued, None, None),
        // Whatever the handler made of it: asynq does not wait for that.
        (_, Some(StopReason::Cancelled)) => {
            return cancelled(verdict_of_outcome(
                ctx,
                task,
                Outcome::Retry(CANCELED.to_owned()),
                backoff,
            ));
        }
        (HandlerEnd::Returned(outcome), Some(StopReason::Deadline)) => match outcome {
            Outcome::Retry(e) | Outcome::Skip(e) => Outcome::Retry(format!("context deadline exceeded: {e}")),
            _ => Outcome::Retry("context deadline exceeded".to_owned()),
        },
        // Every other attempt would be too late as well.
        (HandlerEnd::TooLate, _) => {
            Outcome::Skip("context deadline exceeded: the task's deadline passed before it began".to_owned())
        }
        (HandlerEnd::Dropped, _) => Outcome::Retry("context deadline exceeded".to_owned()),
        (HandlerEnd::Panicked(text), _) => Outcome::Retry(format!("panic: {text}")),
        (HandlerEnd::Returned(outcome), _) => outcome,
    };
    verdict_of_outcome(ctx, task, outcome, backoff)
}

/// The same attempt, of which is remembered that an operator ended it.
fn cancelled(
    (verdict, _, error, result): (Verdict, AttemptOutcome, Option<String>, Option<Bytes>),
) -> (Verdict, AttemptOutcome, Option<String>, Option<Bytes>) {
    (verdict, AttemptOutcome::Cancelled, error, result)
}

/// The same for a handler that ended by itself.
fn verdict_of_outcome(
    ctx: &WorkerContext,
    task: &TaskRecord,
    outcome: Outcome,
    backoff: Backoff,
) -> (Verdict, AttemptOutcome, Option<String>, Option<Bytes>) {
    match outcome {
        Outcome::Success(result) => (Verdict::Done, AttemptOutcome::Success, None, result),
        Outcome::Revoke(why) => (Verdict::Revoke, AttemptOutcome::Revoked, Some(why), None),
        Outcome::Snooze { delay } => (
            Verdict::Snooze {
                delay,
                waiting_for: None,
            },
            AttemptOutcome::Snoozed,
            None,
            None,
        ),
        Outcome::Skip(error) => (
            Verdict::Archive { error: error.clone() },
            AttemptOutcome::Archived,
            Some(error),
            None,
        ),
        Outcome::Retry(error) | Outcome::RetryAfter { error, .. } if !task.retries_left() => (
            Verdict::Archive { error: error.clone() },
            AttemptOutcome::Archived,
            Some(error),
            None,
        ),
        Outcome::Retry(error) => {
            let random = stable_hash(&[
                task.id.as_str(),
                &task.retried.to_string(),
                &ctx.clock.now().to_string(),
            ]);
            let after = backoff.delay(task.retried, random);
            (
                Verdict::Retry {
                    after,
                    error: error.clone(),
                    counts: true,
                },
                AttemptOutcome::Retry,
                Some(error),
                None,
            )
        }
        Outcome::RetryAfter { after, error } => (
            Verdict::Retry {
                after: stated_delay(after),
                error: error.clone(),
                counts: true,
            },
            AttemptOutcome::Retry,
            Some(error),
            None,
        ),
    }
}
