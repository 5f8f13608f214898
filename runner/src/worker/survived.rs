//! Runs that were lost although this process lives: it says so, so that none of them counts as a crash.
//!
//! A lease can be lost to an outage of the broker, a frozen process, a verdict that could not be written. Only the
//! process itself knows that it did not die; a worker that takes its tasks back cannot.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runner_queue::{Absolved, Claim};
use tokio::time::Instant;

use super::WorkerContext;

/// Claims that are remembered; the oldest go first.
const KEPT: usize = 10_000;

/// How long they are: until then the run was taken back by anybody who looks after its queue, or never will be.
const REMEMBERED: Duration = Duration::from_secs(600);

/// Claims reported in one call.
const BATCH: usize = 500;

/// Claims of this process that ended without a verdict that was accepted.
#[derive(Default)]
pub(super) struct Survived(Mutex<VecDeque<(Instant, Claim)>>);

impl Survived {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(Instant, Claim)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, claims: impl IntoIterator<Item = Claim>) {
        let now = Instant::now();
        let mut all = self.lock();
        all.extend(claims.into_iter().map(|claim| (now, claim)));
        let surplus = all.len().saturating_sub(KEPT);
        all.drain(..surplus);
    }

    fn take(&self) -> Vec<(Instant, Claim)> {
        let mut all = self.lock();
        all.retain(|(since, _)| since.elapsed() < REMEMBERED);
        let count = all.len().min(BATCH);
        all.drain(..count).collect()
    }

    /// Those that were not reported go to the end, so that the others have their turn.
    fn put_back(&self, some: impl IntoIterator<Item = (Instant, Claim)>) {
        self.lock().extend(some);
    }
}

/// Reports what there is; what the broker does not know yet is reported again.
pub(super) async fn report(ctx: &WorkerContext, within: Duration) {
    let some = ctx.survived.take();
    if some.is_empty() {
        return;
    }
    let claims: Vec<Claim> = some.iter().map(|(_, claim)| claim.clone()).collect();
    let answers = match tokio::time::timeout(within, ctx.broker.absolve(&claims)).await {
        Ok(Ok(answers)) => answers,
        Ok(Err(error)) => {
            ctx.broker_failed("report that this worker lives", &error);
            Vec::new()
        }
        Err(_) => Vec::new(),
    };
    let mut again = Vec::new();
    for (number, (since, claim)) in some.into_iter().enumerate() {
        match answers.get(number) {
            Some(Absolved::Corrected) => {
                let task = claim.task();
                ctx.metrics.lost_alive(task.queue.as_str());
                tracing::info!(
                    task_id = %task.id, task_type = %task.kind, queue = %task.queue,
                    "a lost run is not counted as a crash: its worker lives"
                );
            }
            Some(Absolved::Gone) => (),
            Some(Absolved::Held) | None => again.push((since, claim)),
        }
    }
    ctx.survived.put_back(again);
}
