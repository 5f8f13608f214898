//! Writes the output and the progress of runs in progress to the store each second, where pages and commands of any process
//! find them; and keeps the files and the long output that a run leaves.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_core::chain::chain;
use runner_queue::{ArtifactList, BrokerResult, LiveRun, MAX_LIVE_BYTES, MAX_OUTPUT_BYTES, whole_output};
use runner_sdk::{Ctx, Progress, Stop, StopReason};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::context::WorkerContext;
use super::live::EVERY;
use crate::background::BackgroundLoop;
use crate::run_output;

/// How long one call may take.
const CALL: Duration = Duration::from_secs(2);

/// How long the files of a run, or its output, may take to be stored before its end is written: the lease is extended meanwhile.
const FILES: Duration = Duration::from_secs(20);
const FILES_AT_SHUTDOWN: Duration = Duration::from_secs(1);

/// Writes the views.
pub(super) struct LiveReporter(pub Arc<WorkerContext>);

#[async_trait]
impl BackgroundLoop for LiveReporter {
    fn name(&self) -> &'static str {
        "live output"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        let ctx = &self.0;
        for (place, cx, state) in ctx.live.due() {
            let view = view_of(ctx, &cx, state.progress.clone());
            // Before the call: a run that ends during it must be known as written.
            if !ctx.live.note(place, &cx, state) {
                continue;
            }
            let written = timeout(CALL, view.write(&*ctx.broker, cx.queue(), cx.id())).await;
            if !self.is_fine("write what a run prints", written) {
                return None;
            }
        }
        while let Some((queue, id)) = ctx.live.take_over() {
            // A view that stays expires by itself, and pages check the attempt.
            let removed = timeout(CALL, LiveRun::remove(&*ctx.broker, &queue, &id)).await;
            if !self.is_fine("remove what a run printed", removed) {
                return None;
            }
        }
        None
    }
}

impl LiveReporter {
    /// Whether the store answered: a turn ends with the first call that it does not answer.
    fn is_fine(&self, what: &'static str, answer: Result<BrokerResult<()>, Elapsed>) -> bool {
        if let Ok(Err(error)) = &answer {
            self.0.broker_failed(what, error);
        }
        matches!(answer, Ok(Ok(())))
    }
}

fn view_of(ctx: &WorkerContext, cx: &Ctx, progress: Option<Progress>) -> LiveRun {
    let (done, note) = progress.map_or((None, String::new()), |p| (Some(p.done), p.note));
    LiveRun {
        attempt: cx.attempt(),
        server: ctx.server_name(),
        at: ctx.clock.now(),
        done,
        note,
        output: cx.log().last_lines(MAX_LIVE_BYTES).unwrap_or_default(),
    }
}

/// Stores the files that a run left, before its end is written; a failure is a line in its log.
pub(super) async fn keep_artifacts(ctx: &WorkerContext, cx: &Ctx, stop: &Stop) {
    let files = cx.take_artifacts();
    if files.is_empty() {
        return;
    }
    let files = files
        .into_iter()
        .map(|file| (file.name, file.content.to_vec()))
        .collect();
    let kept = ArtifactList::write(&*ctx.broker, (cx.queue(), cx.id()), cx.attempt(), files);
    if let Some(why) = stored(ctx, stop, "keep the files of a run", kept).await {
        cx.log()
            .push("log", &format!("the files of this run were not kept: {why}"));
    }
}

/// Whether the record of a run has room for a part of its output only.
pub(super) fn is_long(cx: &Ctx, result: Option<&[u8]>) -> bool {
    cx.log().bytes().max(result.map_or(0, <[u8]>::len)) > MAX_OUTPUT_BYTES
}

/// Stores the whole output of a run, where its record has a part only, before its end is written; a failure is a line in
/// its log.
pub(super) async fn keep_output(ctx: &WorkerContext, cx: &Ctx, stop: &Stop, result: Option<&[u8]>) {
    if !is_long(cx, result) {
        return;
    }
    let log = cx.log().text();
    let Some(output) = whole_output(log.as_deref(), result).filter(|output| output.len() > MAX_OUTPUT_BYTES) else {
        return;
    };
    let Ok(packed) = run_output::pack(cx.attempt(), output) else {
        return;
    };
    let kept = ctx.broker.keep_output(cx.queue(), cx.id(), packed);
    if let Some(why) = stored(ctx, stop, "keep the output of a run", kept).await {
        cx.log()
            .push("log", &format!("the whole output of this run was not kept: {why}"));
    }
}

/// Waits for a write before the end of an attempt; why it failed. After a lost lease nothing is written, because another
/// attempt may have left its own by now.
async fn stored(
    ctx: &WorkerContext,
    stop: &Stop,
    what: &'static str,
    write: impl Future<Output = BrokerResult<()>>,
) -> Option<String> {
    if stop.is_lease_lost() {
        return None;
    }
    // A process that ends must still write the verdict.
    let limit = match stop.reason() {
        Some(StopReason::Shutdown) => FILES_AT_SHUTDOWN,
        _ => FILES,
    };
    let write = async {
        tokio::select! {
            written = write => Some(written),
            () = stop.lease_lost() => None,
        }
    };
    match timeout(limit, write).await {
        Ok(Some(Ok(())) | None) => None,
        Ok(Some(Err(error))) => {
            ctx.broker_failed(what, &error);
            Some(chain(&error))
        }
        Err(_) => Some("the store did not answer in time".to_owned()),
    }
}
