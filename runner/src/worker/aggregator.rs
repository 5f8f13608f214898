//! Looks for ripe groups with a registered aggregator and takes sets of tasks out of them. Also takes
//! back the sets of instances that died.
//!
//! What happens to a set is in `staged_group`; how long a group whose aggregator keeps failing is skipped, in
//! `group_failures`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_core::task::QueueName;
use runner_queue::{BrokerResult, Lists};
use runner_sdk::Aggregator;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::context::WorkerContext;
use super::group_failures::GroupFailures;
use super::staged_group::OwnedSet;
use crate::background::BackgroundLoop;

/// The longest time between two looks at the groups.
const EVERY: Duration = Duration::from_secs(7);

/// Sets that are aggregated at the same time.
const AT_ONCE: usize = 3;

/// Sets of one group in a row: a group that fills faster than its sets are aggregated must not delay other groups.
const IN_A_ROW: usize = 100;

/// How long after its deadline a set is taken back: allowance for clocks that differ, since Go servers write
/// deadlines by their own.
const RECLAIM_GRACE: Duration = Duration::from_secs(5);

/// Tasks taken back in one call.
const RECLAIM_BATCH: usize = 1000;

pub(super) struct GroupAggregator {
    ctx: Arc<WorkerContext>,
    stop: CancellationToken,
    slots: Arc<Semaphore>,
    sets: TaskTracker,
    failures: Arc<GroupFailures>,
}

impl GroupAggregator {
    /// `sets` tracks the sets that are being aggregated. `stop` ends the search for groups, not these.
    pub(super) fn new(ctx: Arc<WorkerContext>, stop: CancellationToken, sets: TaskTracker) -> Self {
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        Self {
            ctx,
            stop,
            slots,
            sets,
            failures: Arc::default(),
        }
    }

    /// Waits for a free slot; `None` when stopped.
    async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            // The stop is checked first: during a drain a free slot must not take one more set.
            biased;
            () = self.stop.cancelled() => None,
            slot = self.slots.clone().acquire_owned() => slot.ok(),
        }
    }

    async fn look(&self, queue: &QueueName) -> BrokerResult<()> {
        let mut from: Option<String> = None;
        loop {
            let part = self.ctx.broker.group_names(queue, from.as_deref()).await?;
            for group in &part.names {
                if let Some(aggregator) = self.ctx.handlers.aggregator(group) {
                    self.empty(queue, group, &aggregator).await?;
                }
                // A queue may have thousands of groups; a drain must not wait for all of them.
                if self.stop.is_cancelled() {
                    return Ok(());
                }
            }
            from = part.next;
            if from.is_none() {
                return Ok(());
            }
        }
    }

    /// Takes sets out of a group while it is ripe.
    async fn empty(&self, queue: &QueueName, group: &str, aggregator: &Aggregator) -> BrokerResult<()> {
        for _ in 0..IN_A_ROW {
            // Before the set is taken: its time runs from then on, and must not pass while waiting for a slot.
            let Some(slot) = self.slot().await else { break };
            // Also before: a set is owned for a fixed time from when the broker took it, and that is not earlier than
            // this.
            let began = Instant::now();
            if self.failures.pauses(queue, group, began) {
                break;
            }
            let rule = self.ctx.changeable.now().groups;
            let Some(set) = self.ctx.broker.stage(queue, group, &rule).await? else {
                break;
            };
            let (ctx, aggregator, failures) = (self.ctx.clone(), aggregator.clone(), self.failures.clone());
            self.sets.spawn(async move {
                let set = OwnedSet { set, began };
                set.run(&ctx, &aggregator, &failures).await;
                // Held until the set is done, whatever the result.
                drop(slot);
            });
        }
        Ok(())
    }
}

#[async_trait]
impl BackgroundLoop for GroupAggregator {
    fn name(&self) -> &'static str {
        "aggregator"
    }

    fn every(&self) -> Duration {
        EVERY.min(self.ctx.changeable.now().groups.grace)
    }

    async fn turn(&mut self) -> Option<Duration> {
        let queues = match self.ctx.queues_with(Lists::Grouped).await {
            Ok(chunks) => chunks.concat(),
            Err(error) => {
                self.ctx.broker_failed("look for groups", &error);
                return None;
            }
        };
        for queue in queues {
            if let Err(error) = self.look(&queue).await {
                // In a cluster the server of one queue may be unreachable while the others answer.
                self.ctx.broker_failed("look at the groups", &error);
            }
        }
        // A shorter time to wait may have been read meanwhile.
        Some(self.every())
    }
}

/// Puts the tasks of sets whose deadline has passed back into their groups: their aggregator died or failed.
pub(super) async fn reclaim(ctx: &WorkerContext) {
    let pass = async {
        let mut all = Vec::new();
        for queues in ctx.queues_with(Lists::Grouped).await? {
            all.extend(ctx.broker.reclaim(&queues, RECLAIM_GRACE, RECLAIM_BATCH).await?);
        }
        Ok(all)
    };
    match pass.await {
        Ok(reclaimed) => {
            for group in reclaimed {
                tracing::warn!(
                    queue = %group.queue, group = group.group, tasks = group.tasks,
                    "tasks returned to their group: their aggregator died or failed"
                );
            }
        }
        Err(error) => ctx.broker_failed("take back tasks of groups", &error),
    }
}
