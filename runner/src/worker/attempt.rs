//! One try at one task: call its handler, bound it, and turn what happens into a verdict.
//!
//! A panic of the handler ends the try and nothing else.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::CatchUnwind;
use jiff::Timestamp;
use runner_core::task::{AttemptOutcome, Backoff, DEFAULT_TIMEOUT};
use runner_queue::{Attempt, Claim, MAX_ERROR_BYTES, MAX_RESULT_BYTES, Settlement, TaskRecord, Verdict};
use runner_sdk::{BoxFuture, Ctx, CtxParts, HandlerMatch, Outcome, Stop, StopReason};
use tokio::time::Instant;

use super::WorkerContext;
use super::in_flight::{InFlightTask, Slot};
use super::inline::{self, InlineBudget};
use super::outbox::OutboxGuard;
use super::verdict::{HandlerEnd, verdict_of};
use crate::background::panic_text;

/// How long a handler that was told to stop may take to return before it is dropped; less once its lease is lost.
const STOP_GRACE: Duration = Duration::from_secs(15);

/// How long the broker may take to note whether a run is alone, and the pause before it is asked again.
const NOTE_LIMIT: Duration = Duration::from_secs(5);
const NOTE_AGAIN: Duration = Duration::from_millis(500);

/// An attempt whose handler was called.
#[allow(clippy::large_enum_variant)] // the large one is the usual case, and taken apart at once
pub(super) enum Started {
    /// It waited for nothing. Without a settlement nothing may be written, because the lease was lost.
    Over(Option<Settlement>),
    UnderWay(Box<RunningAttempt>),
}

/// An attempt whose handler waits for something.
pub(super) struct RunningAttempt {
    running: Running,
    limit: Duration,
    known: AttemptFacts,
}

/// What is known of an attempt from its beginning.
struct AttemptFacts {
    claim: Claim,
    stop: Stop,
    cx: Ctx,
    backoff: Backoff,
    started_at: Timestamp,
    began: Instant,
}

/// Calls the handler of a task in work, and runs it until it waits for something.
pub(super) fn begin(ctx: &WorkerContext, in_work: InFlightTask) -> Started {
    let InFlightTask {
        claim,
        stop,
        started_at,
        deadline,
        ..
    } = in_work;
    let task = claim.task();
    let Some(found) = ctx.handlers.find(&task.kind) else {
        return Started::Over(Some(without_handler(ctx, claim)));
    };
    // A run gets one line, at its end.
    tracing::debug!(
        task_id = %task.id, task_type = %task.kind, queue = %task.queue, attempt = task.retried + 1,
        start = %started_at, "task started"
    );
    let began = Instant::now();
    let cx = Ctx::new(
        parts_of(task, deadline, started_at),
        stop.clone(),
        ctx.handlers.states(),
    );
    let limit = Duration::try_from(deadline.duration_since(started_at)).unwrap_or(Duration::ZERO);
    let known = AttemptFacts {
        claim,
        stop,
        cx,
        backoff: found.backoff(),
        started_at,
        began,
    };
    if limit.is_zero() {
        known.stop.stop(StopReason::Deadline);
        return Started::Over(ended(ctx, known, HandlerEnd::TooLate));
    }
    let mut running = Running::new(found, known.cx.clone());
    // Whoever waits for the rest asks again, and is woken then.
    match running.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(end) => Started::Over(ended(ctx, known, end)),
        Poll::Pending => Started::UnderWay(Box::new(RunningAttempt { running, limit, known })),
    }
}

impl RunningAttempt {
    /// Waits for the handler, tells it to stop when its time is up, drops it when it does not listen.
    pub(super) async fn end(self: Box<Self>, ctx: &WorkerContext) -> Option<Settlement> {
        let Self { running, limit, known } = *self;
        let end = watch(ctx, running, &known.stop, limit).await;
        ended(ctx, known, end)
    }
}

/// An attempt from its beginning to its end, as a task of the runtime.
pub(super) async fn run_spawned(ctx: Arc<WorkerContext>, place: Slot, task: InFlightTask) {
    let leaving = OutboxGuard::new(&ctx.ended, place);
    let mut turn = InlineBudget::new();
    match begin(&ctx, task) {
        Started::Over(settlement) => leaving.post(settlement, inline::is_moment(turn.lap())),
        Started::UnderWay(rest) => leaving.post(rest.end(&ctx).await, false),
    }
}

/// An attempt of a suspect that has the process to itself: if that ends, it was this task.
pub(super) async fn run_suspect(ctx: Arc<WorkerContext>, place: Slot, task: InFlightTask) {
    let noted = tokio::time::timeout(NOTE_LIMIT, ctx.broker.run_alone(&task.claim, true)).await;
    match noted {
        Ok(Ok(true)) => run_spawned(ctx, place, task).await,
        Ok(Ok(false)) => OutboxGuard::new(&ctx.ended, place).post(None, false),
        // Its crash would prove nothing then; but it has waited long enough.
        Ok(Err(_)) | Err(_) => run_spawned(ctx, place, task).await,
    }
}

/// Says that this run is not alone any more, until the broker knows it or the run is over.
#[allow(clippy::disallowed_methods)] // a named back-off; the end of the run ends it
pub(super) async fn not_alone(ctx: &WorkerContext, claim: &Claim) {
    loop {
        match tokio::time::timeout(NOTE_LIMIT, ctx.broker.run_alone(claim, false)).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => ctx.broker_failed("note that a run is not alone", &error),
            Err(_) => (),
        }
        tokio::time::sleep(NOTE_AGAIN).await;
    }
}

/// The rest of an attempt, likewise.
pub(super) async fn run_on(ctx: Arc<WorkerContext>, place: Slot, rest: Box<RunningAttempt>) {
    let leaving = OutboxGuard::new(&ctx.ended, place);
    leaving.post(rest.end(&ctx).await, false);
}

/// What is to be written of an attempt that is over. `None` when nothing may be, because the lease was lost.
fn ended(ctx: &WorkerContext, known: AttemptFacts, end: HandlerEnd) -> Option<Settlement> {
    let AttemptFacts {
        claim,
        stop,
        cx,
        backoff,
        started_at,
        began,
    } = known;
    let task = claim.task();
    let reason = stop.reason();
    // A success is still offered: the broker's fence refuses it if the task is someone else's by now.
    let succeeded = matches!(end, HandlerEnd::Returned(Outcome::Success(_)));
    if reason == Some(StopReason::LeaseLost) && !succeeded {
        tracing::error!(task_id = %task.id, task_type = %task.kind, "lease lost; the handler was stopped, nothing is written");
        return None;
    }
    let (verdict, outcome, error, result) = verdict_of(ctx, task, end, &stop, backoff);
    let result = result.or_else(|| cx.take_result());
    let error = error.map(|mut text| {
        text.truncate(text.floor_char_boundary(MAX_ERROR_BYTES));
        text
    });
    let result = bounded(task, &cx, result);
    let took = began.elapsed();
    report(task, outcome, error.as_deref(), took);
    match ctx.successes.get(&task.queue) {
        Some(successes) if outcome == AttemptOutcome::Success => successes.add(took),
        _ => ctx.metrics.attempt(task.queue.as_str(), outcome, took),
    }
    let log = cx.log().take();
    // A task that is put off stays in the store, and says nowhere else that it was tried.
    let stays = outcome == AttemptOutcome::Snoozed || !task.retention.is_zero();
    let keep_attempt = error.is_some() || log.is_some() || stays || task.leaves_trace();
    let attempt = keep_attempt.then(|| Attempt {
        number: task.retried + 1,
        started_at,
        ended_at: ctx.clock.now(),
        outcome,
        error,
        server: ctx.server_name(),
        log,
    });
    Some(Settlement {
        claim,
        verdict,
        result,
        attempt,
    })
}

/// Drops a result that is too long to be kept; the task succeeded all the same.
fn bounded(task: &TaskRecord, cx: &Ctx, result: Option<Bytes>) -> Option<Bytes> {
    let bytes = result.as_ref().map_or(0, Bytes::len);
    if bytes <= MAX_RESULT_BYTES {
        return result;
    }
    if !task.retention.is_zero() {
        tracing::warn!(task_id = %task.id, task_type = %task.kind, bytes, most = MAX_RESULT_BYTES, "the result is too long and was not kept");
        let note = format!("the result of {bytes} bytes is longer than {MAX_RESULT_BYTES} and was not kept");
        cx.log().push("log", &note);
    }
    None
}

#[allow(clippy::disallowed_methods)] // the time limit of the attempt, beside what else may end it
async fn watch(ctx: &WorkerContext, mut running: Running, stop: &Stop, limit: Duration) -> HandlerEnd {
    tokio::select! {
        end = running.end() => return end,
        () = tokio::time::sleep(limit) => stop.stop(StopReason::Deadline),
        _ = stop.stopped() => (),
    }
    let last_moment = async {
        stop.lease_lost().await;
        tokio::time::sleep(ctx.settings.last_moment()).await;
    };
    tokio::select! {
        end = running.end() => return end,
        () = tokio::time::sleep(STOP_GRACE) => (),
        () = last_moment => (),
        () = ctx.board.abandoned() => (),
    }
    running.drop_it();
    HandlerEnd::Dropped
}

type Caught = CatchUnwind<AssertUnwindSafe<BoxFuture<'static, Outcome>>>;

/// A handler's future. A panic of it, also while it is dropped, ends the try and nothing else.
struct Running(Option<Caught>);

impl Running {
    fn new(found: HandlerMatch, cx: Ctx) -> Self {
        // What a handler does before its first await happens when it is polled.
        let call: BoxFuture<'static, Outcome> = Box::pin(async move { found.call(cx).await });
        Self(Some(AssertUnwindSafe(call).catch_unwind()))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<HandlerEnd> {
        let Some(running) = &mut self.0 else {
            return Poll::Ready(HandlerEnd::Dropped);
        };
        running.poll_unpin(cx).map(|ended| match ended {
            Ok(outcome) => HandlerEnd::Returned(outcome),
            Err(panic) => HandlerEnd::Panicked(panic_text(panic.as_ref())),
        })
    }

    async fn end(&mut self) -> HandlerEnd {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn drop_it(&mut self) {
        let handler = self.0.take();
        if std::panic::catch_unwind(AssertUnwindSafe(|| drop(handler))).is_err() {
            tracing::error!("a handler panicked while it was dropped");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.drop_it();
    }
}

/// Its type was claimed, but no handler knows it any more: it goes back to where it was, for whoever does.
fn without_handler(ctx: &WorkerContext, claim: Claim) -> Settlement {
    let task = claim.task();
    tracing::debug!(task_id = %task.id, task_type = %task.kind, queue = %task.queue, "no handler here; handed back");
    ctx.broker.claims_types(&ctx.known.refuse(&ctx.handlers, &task.kind));
    ctx.metrics
        .attempt(task.queue.as_str(), AttemptOutcome::NoHandler, Duration::ZERO);
    Settlement {
        claim,
        verdict: Verdict::HandBack,
        result: None,
        attempt: None,
    }
}

fn report(task: &TaskRecord, outcome: AttemptOutcome, error: Option<&str>, took: Duration) {
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    match error {
        None => tracing::info!(
            task_id = %task.id, task_type = %task.kind, queue = %task.queue, attempt = task.retried + 1,
            duration_ms, outcome = outcome.as_str(), "task ended"
        ),
        // The handler found that there is nothing to do any more, which is no failure.
        Some(reason) if outcome == AttemptOutcome::Revoked => tracing::info!(
            task_id = %task.id, task_type = %task.kind, queue = %task.queue, attempt = task.retried + 1,
            duration_ms, outcome = outcome.as_str(), reason, "task revoked"
        ),
        Some(error) => tracing::error!(
            task_id = %task.id, task_type = %task.kind, queue = %task.queue, attempt = task.retried + 1,
            duration_ms, outcome = outcome.as_str(), error, "task failed"
        ),
    }
}

fn parts_of(task: &TaskRecord, deadline: Timestamp, now: Timestamp) -> CtxParts {
    CtxParts {
        id: task.id.clone(),
        kind: task.kind.clone(),
        payload: task.payload.clone(),
        queue: task.queue.clone(),
        attempt: task.retried + 1,
        max_attempts: task.max_retry.saturating_add(1),
        headers: task.headers.clone(),
        deadline: Some(deadline),
        time_limit: Duration::try_from(deadline.duration_since(now)).ok(),
    }
}

/// The earlier of timeout and deadline; 30 minutes when the task has neither, as asynq reads it.
pub(super) fn deadline_of(task: &TaskRecord, now: Timestamp) -> Timestamp {
    let after = |d: Duration| now.checked_add(d).unwrap_or(Timestamp::MAX);
    match (task.timeout.is_zero(), task.deadline) {
        (true, None) => after(DEFAULT_TIMEOUT),
        (true, Some(deadline)) => deadline,
        (false, None) => after(task.timeout),
        (false, Some(deadline)) => after(task.timeout).min(deadline),
    }
}
