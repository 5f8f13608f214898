//! Reports that this worker is alive, and extends the leases of its tasks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_core::task::QueueName;
use runner_queue::{Absolved, Claim, ServerStatus};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::context::WorkerContext;
use super::in_flight::Slot;
use crate::background::BackgroundLoop;

/// How long a server is listed after its last heartbeat; asynq's.
pub(super) const REMEMBERED: Duration = Duration::from_secs(10);

/// A claim and its slot in the table of tasks in flight.
type Held = (Slot, Claim);

pub(super) struct Heartbeat {
    ctx: Arc<WorkerContext>,
    intake: CancellationToken,
}

impl Heartbeat {
    pub(super) fn new(ctx: Arc<WorkerContext>, intake: CancellationToken) -> Self {
        Self { ctx, intake }
    }

    /// Whether the broker answered at once.
    async fn extend_leases(&self) -> bool {
        let all = self.ctx.in_flight.all().into_iter();
        let all: Vec<Held> = all.map(|(slot, task)| (slot, task.claim)).collect();
        if self.extend(&all).await {
            return true;
        }
        // Queues may be on different servers: an unreachable one must not cost the others their leases.
        let mut by_queue: BTreeMap<&QueueName, Vec<Held>> = BTreeMap::new();
        for (slot, claim) in &all {
            let of = by_queue.entry(&claim.task().queue).or_default();
            of.push((*slot, claim.clone()));
        }
        // With one queue this would repeat the call that just failed.
        if by_queue.len() > 1 {
            for held in by_queue.values() {
                self.extend(held).await;
            }
        }
        false
    }

    /// Whether the broker answered.
    async fn extend(&self, held: &[Held]) -> bool {
        if held.is_empty() {
            return true;
        }
        let claims: Vec<Claim> = held.iter().map(|(_, claim)| claim.clone()).collect();
        // Before the call: the lease begins some time during it, and must not be assumed to be longer than it is.
        let began = Instant::now();
        let lease = self.ctx.settings.lease;
        let hold = self.ctx.settings.hold(began);
        match tokio::time::timeout(self.every(), self.ctx.broker.extend(&claims, lease)).await {
            Ok(Ok(answers)) => {
                for ((slot, claim), answer) in held.iter().zip(answers) {
                    if answer.is_some() {
                        self.ctx.in_flight.extended(*slot, claim, began, hold);
                    } else {
                        // Taken back, or ended by an operator: its handler works in vain.
                        self.ctx.in_flight.lost(*slot, claim);
                    }
                }
                return true;
            }
            Ok(Err(error)) => self.ctx.broker_failed("extend leases", &error),
            Err(_) => tracing::warn!("the broker did not extend the leases in time"),
        }
        false
    }

    async fn report_alive(&self) {
        let status = if self.intake.is_cancelled() || self.ctx.instance.quiet.is_paused() {
            ServerStatus::Stopped
        } else {
            ServerStatus::Active
        };
        let (info, working) = (self.ctx.info(status), self.ctx.in_flight.working());
        self.ctx.metrics.set_active(working.len());
        let call = self.ctx.broker.heartbeat(&info, &working, REMEMBERED);
        match tokio::time::timeout(self.every(), call).await {
            Ok(Ok(())) => self.ctx.listed.heard(REMEMBERED),
            Ok(Err(error)) => self.ctx.broker_failed("send a heartbeat", &error),
            Err(_) => tracing::warn!("the broker did not take the heartbeat in time"),
        }
    }
}

#[async_trait]
impl BackgroundLoop for Heartbeat {
    fn name(&self) -> &'static str {
        "heartbeat"
    }

    /// Also the longest wait for one call: several must fit before the fence.
    fn every(&self) -> Duration {
        self.ctx.settings.heartbeat_every()
    }

    async fn turn(&mut self) -> Option<Duration> {
        // A listed worker may take tasks back, so its own leases come first: if it woke from a freeze, they may be
        // over, and it would take back what it runs itself.
        if self.extend_leases().await || !self.ctx.broker.lists_first() {
            self.report_alive().await;
        }
        report_survived(&self.ctx, self.every()).await;
        None
    }
}

/// Reports lost runs, the oldest first, so that they do not count as crashes. Runs that no worker has taken back yet
/// are reported again: the broker can correct a crash only once it was counted.
async fn report_survived(ctx: &WorkerContext, within: Duration) {
    let some = ctx.survived.take();
    if some.is_empty() {
        return;
    }
    let claims: Vec<Claim> = some.iter().map(|(_, claim)| claim.clone()).collect();
    let answers = match tokio::time::timeout(within, ctx.broker.absolve(&claims)).await {
        Ok(Ok(answers)) => answers,
        Ok(Err(error)) => {
            ctx.broker_failed("report that this worker is alive", &error);
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
                    "a lost run is not counted as a crash: its worker is alive"
                );
            }
            Some(Absolved::Gone) => (),
            Some(Absolved::Held) | None => again.push((since, claim)),
        }
    }
    ctx.survived.put_back(again);
}
