//! Takes back tasks of workers whose leases are over, because they died or lost the broker.
//!
//! In this order: nothing while the clock seems wrong; sets of groups, whose deadlines do not depend on leases; what
//! dead processes of this host held, which needs no lease to end; then leases that are over by more than the grace.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_queue::{BrokerResult, Lists, Recovered};
use tokio::time::Instant;

use super::context::WorkerContext;
use super::heartbeat::REMEMBERED;
use crate::background::BackgroundLoop;

/// Tasks taken back in one call.
const BATCH: usize = 100;

pub(super) struct Recoverer {
    ctx: Arc<WorkerContext>,
    /// The last look, by the wall clock and by the monotonic one.
    looked: Option<(Timestamp, Instant)>,
}

#[async_trait]
impl BackgroundLoop for Recoverer {
    fn name(&self) -> &'static str {
        "recoverer"
    }

    /// A lease that is written after a look does not end before the next one.
    fn every(&self) -> Duration {
        self.ctx.settings.lease
    }

    async fn turn(&mut self) -> Option<Duration> {
        if self.clock_was_set() {
            // The heartbeat writes the leases of this worker by the new time first; so do those of others on this
            // machine.
            return Some(self.ctx.settings.heartbeat_every() * 2);
        }
        // Does not wait until this worker has been listed: unlike leases, deadlines of sets are never stretched, also
        // not by a worker that is alone.
        super::aggregator::reclaim(&self.ctx).await;
        if self.take_from_dead().await >= BATCH {
            return Some(Duration::ZERO);
        }
        let settings = &self.ctx.settings;
        // A worker that was alone until now runs on without leases; it must have seen this one before its tasks are
        // taken.
        if self.ctx.broker.lists_first() && !self.ctx.listed.for_long(settings.listed_first(), REMEMBERED) {
            return Some(settings.heartbeat_every());
        }
        match self.pass().await {
            Ok(recovered) => {
                self.report(
                    &recovered,
                    "the lease of a task ran out: its worker died or was cut off; the task was taken back",
                );
                if recovered.len() >= BATCH {
                    return Some(Duration::ZERO);
                }
                self.until_next().await
            }
            Err(error) => {
                self.ctx.broker_failed("recover tasks", &error);
                Some(self.ctx.settings.heartbeat_every())
            }
        }
    }
}

impl Recoverer {
    pub(super) fn new(ctx: Arc<WorkerContext>) -> Self {
        Self { ctx, looked: None }
    }

    /// Whether the wall clock was set forward since the last look, or the machine slept: leases end by that clock, so
    /// they seem to be over then although their handlers run.
    fn clock_was_set(&mut self) -> bool {
        let (wall, steady) = (self.ctx.clock.now(), Instant::now());
        let Some((wall_then, steady_then)) = self.looked.replace((wall, steady)) else {
            return false;
        };
        // What the wall clock moved beyond what the monotonic one did. A step back only makes leases last longer.
        let went_by = Duration::try_from(wall.duration_since(wall_then)).unwrap_or_default();
        let ahead = went_by.saturating_sub(steady - steady_then);
        if ahead <= self.ctx.settings.recover_grace() {
            return false;
        }
        tracing::warn!(
            ?ahead,
            "the clock was set forward, or the machine slept; leases are checked again a little later"
        );
        true
    }

    /// Takes back the tasks of processes that are known to be dead. Returns their number. Commands that these started
    /// end within the grace.
    async fn take_from_dead(&self) -> usize {
        let grace = self.ctx.settings.recover_grace();
        let poison_after = self.ctx.changeable.now().poison_after;
        match self.ctx.broker.recover_dead(grace, BATCH, poison_after).await {
            Ok(recovered) => {
                self.report(
                    &recovered,
                    "the process that ran a task has died; the task was taken back",
                );
                recovered.len()
            }
            Err(error) => {
                self.ctx.broker_failed("recover tasks of dead workers", &error);
                0
            }
        }
    }

    fn report(&self, recovered: &[Recovered], what: &str) {
        for task in recovered {
            log(task, what);
            self.ctx.metrics.lost(task.queue.as_str(), task.poison);
            self.ctx.events.recovered(task);
        }
        // They are delayed tasks now: the forwarder must know when the first of them is due.
        if !recovered.is_empty() {
            self.ctx.delayed.notify_one();
        }
    }

    /// Takes back tasks of all queues, [`BATCH`] at most.
    async fn pass(&self) -> BrokerResult<Vec<Recovered>> {
        let (ctx, mut recovered) = (&self.ctx, Vec::new());
        for queues in ctx.queues_with(Lists::Active).await? {
            let (grace, left) = (ctx.settings.recover_grace(), BATCH - recovered.len());
            let poison_after = ctx.changeable.now().poison_after;
            recovered.extend(ctx.broker.recover(&queues, grace, left, poison_after).await?);
            if recovered.len() >= BATCH {
                break;
            }
        }
        Ok(recovered)
    }

    async fn first_end(&self) -> BrokerResult<Option<Timestamp>> {
        let mut first = None;
        for queues in self.ctx.queues_with(Lists::Active).await? {
            let end = self.ctx.broker.next_lease_end(&queues).await?;
            first = [first, end].into_iter().flatten().min();
        }
        Ok(first)
    }

    /// Until the next lease may have to be taken back. Together with the lease and the grace this bounds how long a
    /// dead worker's task is left waiting.
    async fn until_next(&self) -> Option<Duration> {
        let ctx = &self.ctx;
        let soonest = ctx.settings.heartbeat_every();
        match self.first_end().await {
            Ok(None) => None,
            Ok(Some(end)) => {
                let left = Duration::try_from(end.duration_since(ctx.clock.now())).unwrap_or_default();
                Some((left + ctx.settings.recover_grace()).max(soonest))
            }
            Err(error) => {
                ctx.broker_failed("look for leases", &error);
                Some(soonest)
            }
        }
    }
}

fn log(task: &Recovered, what: &str) {
    if task.poison {
        tracing::error!(
            task_id = %task.id, task_type = %task.kind, queue = %task.queue, state = %task.state, lost = task.lost,
            "poison: a task was archived because its worker died each time it ran, at last with nothing beside it"
        );
    } else {
        tracing::error!(
            task_id = %task.id, task_type = %task.kind, queue = %task.queue, state = %task.state, lost = task.lost,
            "{what}"
        );
    }
}
