//! One attempt at one task: calls its handler, stops it in time, and turns the result into a settlement.
//!
//! Knows neither the claim loop nor slots: the caller decides where the settlement goes. What the end of a
//! handler means is decided by `verdict`.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use runner_core::task::{AttemptOutcome, Backoff, DEFAULT_TIMEOUT, TraceContext};
use runner_queue::{
    Attempt, Claim, MAX_ERROR_BYTES, MAX_LOG_BYTES, MAX_RESULT_BYTES, Settlement, TaskRecord, Verdict, ends_of_output,
};
use runner_sdk::{Ctx, CtxParts, Outcome, Stop, StopReason};
use tokio::time::Instant;

use super::context::WorkerContext;
use super::handler_call::HandlerCall;
use super::in_flight::InFlightTask;
use super::live_reporter;
use super::verdict::{AttemptEnd, HandlerEnd, verdict_of};
use crate::telemetry::{OpenSpan, TaskOfAttempt, Telemetry};

/// How long a handler that was stopped may take to return before it is dropped; less once its lease is lost.
const STOP_GRACE: Duration = Duration::from_secs(15);

/// An attempt whose handler was called.
#[allow(clippy::large_enum_variant)] // the large one is the usual case, and is destructured at once
pub(super) enum Started {
    /// It returned without waiting. `None`: nothing may be written, because the lease was lost.
    Over(Option<Settlement>),
    UnderWay(Box<RunningAttempt>),
}

/// An attempt that waits for something: its handler does, or its files are to be kept.
pub(super) struct RunningAttempt {
    call: HandlerCall,
    /// How the handler ended, if it has.
    over: Option<HandlerEnd>,
    limit: Duration,
    silence: Option<Duration>,
    facts: AttemptFacts,
}

/// What an attempt knows from its beginning.
struct AttemptFacts {
    claim: Claim,
    stop: Stop,
    cx: Ctx,
    /// What is sent of it, where anything is.
    span: Option<OpenSpan>,
    backoff: Backoff,
    started_at: Timestamp,
    began: Instant,
}

impl AttemptFacts {
    /// Whether something is to be stored before the verdict, which takes a wait.
    fn leaves_more(&self, ctx: &WorkerContext, end: &HandlerEnd) -> bool {
        let long = || live_reporter::is_long(&self.cx, end.result()) && is_recorded(ctx, self.claim.task());
        self.cx.has_artifacts() || long()
    }
}

/// Whether a run of this task is recorded.
fn is_recorded(ctx: &WorkerContext, task: &TaskRecord) -> bool {
    task.is_recorded() || ctx.recorded.records(&task.kind)
}

fn count_wait(ctx: &WorkerContext, claim: &Claim) {
    let queue = &claim.task().queue;
    match (claim.waited(), ctx.successes.get(queue)) {
        (None, _) => {}
        (Some(waited), Some(counters)) => counters.waited(waited),
        (Some(waited), None) => ctx.metrics.waited(queue.as_str(), waited),
    }
}

/// Calls the handler of a task in flight, and runs it until it waits for something.
pub(super) fn begin(ctx: &WorkerContext, task: InFlightTask) -> Started {
    let InFlightTask {
        claim,
        stop,
        started_at,
        deadline,
        ..
    } = task;
    let task = claim.task();
    let Some(found) = ctx.handlers.find(&task.kind) else {
        return Started::Over(Some(without_handler(ctx, claim)));
    };
    // A run gets one line at the usual level, at its end.
    tracing::debug!(
        task_id = %task.id, task_type = %task.kind, queue = %task.queue, attempt = task.retried + 1,
        start = %started_at, "task started"
    );
    count_wait(ctx, &claim);
    let began = Instant::now();
    let deadline = found
        .timeout()
        .and_then(|limit| started_at.checked_add(limit).ok())
        .map_or(deadline, |limit| deadline.min(limit));
    let (parts, span) = parts_of(&claim, deadline, started_at, &ctx.telemetry);
    let cx = Ctx::new(parts, stop.clone(), ctx.handlers.states(), ctx.services.clone());
    let limit = Duration::try_from(deadline.duration_since(started_at)).unwrap_or(Duration::ZERO);
    let facts = AttemptFacts {
        claim,
        stop,
        cx,
        span,
        backoff: found.backoff(),
        started_at,
        began,
    };
    if limit.is_zero() {
        facts.stop.stop(StopReason::Deadline);
        return Started::Over(ended(ctx, facts, HandlerEnd::TooLate));
    }
    if let Some(fault) = ctx.functions.payload_fault(facts.cx.kind(), facts.cx.payload()) {
        return Started::Over(ended(
            ctx,
            facts,
            HandlerEnd::Returned(Outcome::Skip(fault.to_string())),
        ));
    }
    if let Some(limit) = facts.claim.refused_by() {
        let why = format!("skipped: limit {limit}");
        return Started::Over(ended(ctx, facts, HandlerEnd::Returned(Outcome::Revoke(why))));
    }
    let silence = found.silence();
    let before = ctx
        .before_run
        .as_ref()
        .and_then(|asked| asked.before(facts.claim.task()));
    let mut call = HandlerCall::new(found, facts.cx.clone(), before, &ctx.telemetry);
    // Wake-ups of this first poll go nowhere; `RunningAttempt::end` polls again before it waits, with a waker of its
    // own.
    match call.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(end) if !facts.leaves_more(ctx, &end) => Started::Over(ended(ctx, facts, end)),
        polled => Started::UnderWay(Box::new(RunningAttempt {
            call,
            over: match polled {
                Poll::Ready(end) => Some(end),
                Poll::Pending => None,
            },
            limit,
            silence,
            facts,
        })),
    }
}

impl RunningAttempt {
    /// Waits for the handler, stops it when its time is up, drops it when it ignores that.
    pub(super) async fn end(self: Box<Self>, ctx: &WorkerContext) -> Option<Settlement> {
        let Self {
            call,
            over,
            limit,
            silence,
            facts,
        } = *self;
        let end = match over {
            Some(end) => end,
            None => {
                let _place = ctx.live.enter(&facts.cx);
                watch(ctx, call, &facts, limit, silence).await
            }
        };
        live_reporter::keep_artifacts(ctx, &facts.cx, &facts.stop).await;
        if is_recorded(ctx, facts.claim.task()) {
            live_reporter::keep_output(ctx, &facts.cx, &facts.stop, end.result()).await;
        }
        ended(ctx, facts, end)
    }
}

/// What to write after an attempt. `None` when nothing may be written, because the lease was lost.
fn ended(ctx: &WorkerContext, facts: AttemptFacts, end: HandlerEnd) -> Option<Settlement> {
    let AttemptFacts {
        claim,
        stop,
        cx,
        span,
        backoff,
        started_at,
        began,
    } = facts;
    let task = claim.task();
    let reason = stop.reason();
    // A success is still offered: the broker refuses it if another worker has claimed the task since, by the run
    // number. Any other result would count against a task that may be running elsewhere by now.
    let succeeded = matches!(end, HandlerEnd::Returned(Outcome::Success(_)));
    if reason == Some(StopReason::LeaseLost) && !succeeded {
        tracing::error!(task_id = %task.id, task_type = %task.kind, "lease lost; the handler was stopped, nothing is written");
        ctx.telemetry.attempt_ended(span, None, None);
        return None;
    }
    let AttemptEnd {
        verdict,
        outcome,
        error,
        result,
    } = verdict_of(task, end, &stop, backoff, &*ctx.clock);
    let result = result.or_else(|| cx.take_result());
    let error = error.map(|mut text| {
        text.truncate(text.floor_char_boundary(MAX_ERROR_BYTES));
        text
    });
    let result = bounded(task, &cx, result);
    let took = began.elapsed();
    report(task, cx.trace(), outcome, error.as_deref(), took);
    ctx.telemetry.attempt_ended(span, Some(outcome), error.as_deref());
    ctx.metrics.attempt_of(&task.kind, outcome, took);
    match ctx.successes.get(&task.queue) {
        Some(successes) if outcome == AttemptOutcome::Success => successes.add(took),
        _ => ctx.metrics.attempt(task.queue.as_str(), outcome, took),
    }
    // The whole is kept with the record of the run, if there is one.
    let log = cx.log().take().map(|log| ends_of_output(&log, MAX_LOG_BYTES));
    // Nothing is stored for a task that succeeds and is gone: that is the usual case and must cost nothing. A task that
    // is postponed stays in the store, which has no other trace of the attempt.
    let stays = outcome == AttemptOutcome::Snoozed || !task.retention.is_zero();
    // Every run is noted, whether or not something else keeps it.
    let recorded = ctx.recorded.any() && ctx.recorded.note(&task.kind, outcome, ctx.clock.now());
    let keep_attempt = error.is_some() || log.is_some() || stays || recorded || task.leaves_trace();
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

/// Drops a result that is too long for the store; the task has succeeded anyway.
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

/// Waits until the handler returns, or is dropped because it runs on for too long after it was stopped.
#[allow(clippy::disallowed_methods)] // the time limit of the attempt, beside what else may end it
async fn watch(
    ctx: &WorkerContext,
    mut call: HandlerCall,
    facts: &AttemptFacts,
    limit: Duration,
    silence: Option<Duration>,
) -> HandlerEnd {
    let stop = &facts.stop;
    tokio::select! {
        end = call.end() => return end,
        () = tokio::time::sleep(limit) => stop.stop(StopReason::Deadline),
        () = silent(&facts.cx, silence) => stop.stop(StopReason::Stalled),
        _ = stop.stopped() => (),
    }
    // The lease may be lost during the grace as well; then the handler must be gone before the lease is over, because
    // another worker may run the task from then on.
    let last_moment = async {
        stop.lease_lost().await;
        tokio::time::sleep(ctx.settings.last_moment()).await;
    };
    tokio::select! {
        end = call.end() => return end,
        () = tokio::time::sleep(STOP_GRACE) => (),
        () = last_moment => (),
        () = ctx.in_flight.abandoned() => (),
    }
    call.drop_handler();
    HandlerEnd::Dropped
}

/// Waits until the run has given no sign of life for this long.
#[allow(clippy::disallowed_methods)] // a time limit of the attempt
async fn silent(cx: &Ctx, limit: Option<Duration>) {
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    while let Some(rest) = limit.checked_sub(cx.log().silence()).filter(|rest| !rest.is_zero()) {
        tokio::time::sleep(rest).await;
    }
}

/// Its type was claimed, but has no handler any more: it goes back to its queue, for workers that have one, and the
/// type is not claimed again.
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

fn report(
    task: &TaskRecord,
    trace: Option<TraceContext>,
    outcome: AttemptOutcome,
    error: Option<&str>,
    took: Duration,
) {
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let trace_id = trace.map(|trace| tracing::field::display(trace.trace_id()));
    match error {
        None => tracing::info!(
            task_id = %task.id, task_type = %task.kind, queue = %task.queue, attempt = task.retried + 1,
            duration_ms, outcome = outcome.as_str(), trace_id, "task ended"
        ),
        // The handler found that there is nothing left to do, which is not a failure.
        Some(reason) if outcome == AttemptOutcome::Revoked => tracing::info!(
            task_id = %task.id, task_type = %task.kind, queue = %task.queue, attempt = task.retried + 1,
            duration_ms, outcome = outcome.as_str(), reason, trace_id, "task revoked"
        ),
        Some(error) => tracing::error!(
            task_id = %task.id, task_type = %task.kind, queue = %task.queue, attempt = task.retried + 1,
            duration_ms, outcome = outcome.as_str(), error, trace_id, "task failed"
        ),
    }
}

/// What the handler gets, and the span of the attempt, which its headers name.
fn parts_of(claim: &Claim, deadline: Timestamp, now: Timestamp, telemetry: &Telemetry) -> (CtxParts, Option<OpenSpan>) {
    let task = claim.task();
    let mut headers = task.headers.clone();
    let facts = TaskOfAttempt {
        id: &task.id,
        kind: &task.kind,
        queue: &task.queue,
        attempt: task.retried + 1,
        payload: task.payload.len(),
    };
    let span = telemetry.attempt(&mut headers, claim.run(), &facts, now);
    let parts = CtxParts {
        id: task.id.clone(),
        kind: task.kind.clone(),
        payload: task.payload.clone(),
        queue: task.queue.clone(),
        attempt: task.retried + 1,
        max_attempts: task.max_retry.saturating_add(1),
        headers,
        deadline: Some(deadline),
        time_limit: Duration::try_from(deadline.duration_since(now)).ok(),
    };
    (parts, span)
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
