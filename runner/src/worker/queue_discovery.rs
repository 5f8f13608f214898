//! Looks for queues that match the patterns of the settings and, when these are very many, for those that have tasks.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_core::task::QueueName;
use runner_queue::{BrokerResult, Lists};
use tokio::time::Instant;

use super::context::WorkerContext;
use crate::background::BackgroundLoop;

/// How soon a new queue is served.
const DISCOVER: Duration = Duration::from_secs(2);

/// How soon a task in one of very many queues is found, if a look takes little time.
const SOONEST: Duration = Duration::from_millis(500);

/// A look may take at most this fraction (one part in …) of the time between two.
const SHARE: u32 = 50;

/// The longest time between two looks.
const LATEST: Duration = Duration::from_secs(5);

/// Queues looked at in one call: well below a millisecond of the store's time.
const CHUNK: usize = 500;

pub(super) struct QueueDiscovery {
    ctx: Arc<WorkerContext>,
    discovered: Option<Instant>,
}

impl QueueDiscovery {
    pub(super) fn new(ctx: Arc<WorkerContext>) -> Self {
        Self { ctx, discovered: None }
    }

    async fn look(&mut self) -> BrokerResult<()> {
        let ctx = &self.ctx;
        if self.discovered.is_none_or(|last| last.elapsed() >= DISCOVER) {
            ctx.served.discover(&ctx.broker.queue_names().await?);
            self.discovered = Some(Instant::now());
        }
        if ctx.served.are_few() {
            return Ok(());
        }
        let all: Vec<QueueName> = ctx.served.all().iter().map(|(queue, _)| queue.clone()).collect();
        let mut ready = Vec::new();
        for chunk in all.chunks(CHUNK) {
            ready.extend(ctx.broker.narrow(chunk, Lists::Pending).await?);
        }
        ctx.served.have_tasks(&ready);
        Ok(())
    }
}

#[async_trait]
impl BackgroundLoop for QueueDiscovery {
    fn name(&self) -> &'static str {
        "queue discovery"
    }

    fn every(&self) -> Duration {
        LATEST
    }

    async fn turn(&mut self) -> Option<Duration> {
        let began = Instant::now();
        if let Err(error) = self.look().await {
            self.ctx.broker_failed("look for queues", &error);
            return None;
        }
        let soonest = if self.ctx.served.are_few() { DISCOVER } else { SOONEST };
        // The more queues there are, the longer a look takes, and the rarer it is.
        Some((began.elapsed() * SHARE).clamp(soonest, LATEST))
    }
}
