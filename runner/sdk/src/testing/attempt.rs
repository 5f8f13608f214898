//! One attempt of a test queue: the handler with its time limit, and what its end means.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;
use std::time::Duration;

use crate::{Ctx, HandlerMatch, Outcome, Stop, StopReason};

/// How long a handler that was stopped may take to return, as in a worker.
const STOP_GRACE: Duration = Duration::from_secs(15);

const EXCEEDED: &str = "context deadline exceeded";

/// Runs the handler as a worker does.
#[allow(clippy::disallowed_methods)] // the time limit of the attempt, beside what else may end it
pub(super) async fn run(found: &HandlerMatch, cx: Ctx, stop: Stop, limit: Duration) -> Outcome {
    if limit.is_zero() {
        return Outcome::Skip(format!("{EXCEEDED}: the task's deadline passed before it began"));
    }
    let mut call = Box::pin(caught(found, cx));
    let outcome = tokio::select! {
        outcome = &mut call => return outcome,
        () = tokio::time::sleep(limit) => {
            stop.stop(StopReason::Deadline);
            tokio::select! {
                outcome = &mut call => outcome,
                () = tokio::time::sleep(STOP_GRACE) => Outcome::Retry(String::new()),
            }
        }
    };
    match outcome {
        Outcome::Success(_) | Outcome::Revoke(_) => outcome,
        Outcome::Retry(error) | Outcome::Skip(error) if !error.is_empty() => {
            Outcome::Retry(format!("{EXCEEDED}: {error}"))
        }
        _ => Outcome::Retry(EXCEEDED.to_owned()),
    }
}

/// The handler; a panic is an outcome.
async fn caught(found: &HandlerMatch, cx: Ctx) -> Outcome {
    let mut running = None;
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let running = running.get_or_insert_with(|| found.call(cx.clone()));
            running.as_mut().poll(context)
        }));
        polled.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Poll::Ready(Outcome::Retry(format!("panic: {}", text.unwrap_or("of another kind"))))
        })
    })
    .await
}
