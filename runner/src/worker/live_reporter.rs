//! Writes the output and the progress of runs in progress to the store each second, where pages and commands of any process
//! find them; and keeps the files that a run leaves.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_core::chain::chain;
use runner_queue::{ArtifactList, BrokerResult, LiveRun, MAX_LIVE_BYTES};
use runner_sdk::{Ctx, Progress, Stop, StopReason};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::context::WorkerContext;
use super::live::EVERY;
use crate::background::BackgroundLoop;

/// How long one call may take.
const CALL: Duration = Duration::from_secs(2);

/// How long the files of a run may take to be stored before its end is written: the lease is extended meanwhile.
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

/// Stores the files that a run left, before its end is written; a failure is a line in its log. After a lost lease another
/// attempt may have left its own by now.
pub(super) async fn keep_artifacts(ctx: &WorkerContext, cx: &Ctx, stop: &Stop) {
    if stop.is_lease_lost() {
        return;
    }
    // A process that ends must still write the verdict.
    let limit = match stop.reason() {
        Some(StopReason::Shutdown) => FILES_AT_SHUTDOWN,
        _ => FILES,
    };
    let files = cx.take_artifacts();
    if files.is_empty() {
        return;
    }
    let files = files
        .into_iter()
        .map(|file| (file.name, file.content.to_vec()))
        .collect();
    let kept = ArtifactList::write(&*ctx.broker, (cx.queue(), cx.id()), cx.attempt(), files);
    let kept = async {
        tokio::select! {
            kept = kept => Some(kept),
            () = stop.lease_lost() => None,
        }
    };
    let why = match timeout(limit, kept).await {
        Ok(Some(Ok(())) | None) => return,
        Ok(Some(Err(error))) => {
            ctx.broker_failed("keep the files of a run", &error);
            chain(&error)
        }
        Err(_) => "the store did not answer in time".to_owned(),
    };
    cx.log()
        .push("log", &format!("the files of this run were not kept: {why}"));
}
