//! Obeys what operators order this worker, or all of its host: to claim no tasks, or to run more or fewer at once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_queue::{BrokerResult, OrderTarget, ServerStatus, WorkerOrder};
use tokio::time::{Instant, timeout};

use super::context::WorkerContext;
use crate::background::BackgroundLoop;

/// How soon an order is obeyed.
const EVERY: Duration = Duration::from_secs(2);

/// How long a call may take.
const CALL: Duration = Duration::from_secs(2);

/// How often the time of an order in force is extended.
const RENEW: Duration = Duration::from_secs(3600);

pub(super) struct Orders {
    ctx: Arc<WorkerContext>,
    targets: [OrderTarget; 2],
    renewed: Instant,
}

impl Orders {
    pub(super) fn new(ctx: Arc<WorkerContext>) -> Self {
        let targets = OrderTarget::of(&ctx.info(ServerStatus::Active));
        Self {
            ctx,
            targets,
            renewed: Instant::now(),
        }
    }

    /// What is ordered now. An order for this worker goes before one for its host.
    async fn read(&mut self) -> BrokerResult<WorkerOrder> {
        let store = &*self.ctx.broker;
        let mut all = WorkerOrder::default();
        let renew = self.renewed.elapsed() >= RENEW;
        for target in &self.targets {
            let order = WorkerOrder::read(store, target).await?;
            if renew && !order.is_empty() {
                WorkerOrder::renew(store, target).await?;
            }
            all = all.or(order);
        }
        if renew {
            self.renewed = Instant::now();
        }
        Ok(all)
    }

    fn obey(&self, order: &WorkerOrder) {
        let ctx = &self.ctx;
        let paused = order.paused == Some(true);
        if ctx.instance.quiet.set_by_order(paused) {
            match paused {
                true => tracing::warn!("paused by an order: no new tasks are taken until `runner worker resume`"),
                false => tracing::info!("resumed by an order: new tasks are taken"),
            }
            ctx.announce.notify_one();
        }
        let ordered = order
            .concurrency
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| *n > 0);
        if ctx.set_concurrency(ordered) {
            let (concurrency, by_order) = (ctx.concurrency(), ordered.is_some());
            tracing::info!(
                concurrency,
                by_order,
                "the number of tasks that run at once has changed"
            );
            ctx.announce.notify_one();
        }
    }
}

#[async_trait]
impl BackgroundLoop for Orders {
    fn name(&self) -> &'static str {
        "orders"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        match timeout(CALL, self.read()).await {
            Ok(Ok(order)) => self.obey(&order),
            // What was ordered last stays in force.
            Ok(Err(error)) => self.ctx.broker_failed("read the orders for this worker", &error),
            Err(_) => tracing::debug!("the orders for this worker were not read in time"),
        }
        // Also after a failure: a broker that cannot be read has no tasks to claim either.
        self.ctx.instance.quiet.set_starting(false);
        None
    }
}
