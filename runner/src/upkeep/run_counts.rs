//! Adds what this process has counted of runs to the store, every ten seconds and at the end. Charts are drawn from that.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_queue::Broker;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::background::{self, BackgroundLoop};
use crate::health::Health;
use crate::metrics::Metrics;

/// How often counts are added: a chart of minutes is at most this much behind, and errs by half of it.
const EVERY: Duration = Duration::from_secs(10);

struct RunCountsLoop {
    broker: Arc<dyn Broker>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    last: Instant,
}

/// Adds counts until `stop`.
pub fn watch(broker: Arc<dyn Broker>, (metrics, health): (Arc<Metrics>, Arc<Health>), stop: CancellationToken) {
    let counts = RunCountsLoop {
        broker,
        metrics,
        health,
        last: Instant::now(),
    };
    tokio::spawn(async move { background::run(counts, &Notify::new(), &stop).await });
}

/// Adds what was counted since the last call, at the end of a program.
pub async fn add_last(broker: &dyn Broker, metrics: &Metrics, health: &Health) {
    add(broker, metrics, health, Duration::ZERO).await;
}

/// Counts whose call failed are lost: they may have been added, and nothing is to be counted twice.
async fn add(broker: &dyn Broker, metrics: &Metrics, health: &Health, ago: Duration) {
    let counted = metrics.take_run_counts();
    if counted.is_empty() {
        return;
    }
    if let Err(error) = broker.add_run_counts(&counted, ago).await {
        health.failed("add counts of runs", &error);
    }
}

#[async_trait]
impl BackgroundLoop for RunCountsLoop {
    fn name(&self) -> &'static str {
        "run counts"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        let since = self.last.elapsed();
        self.last = Instant::now();
        // The middle of the time in which they ended.
        add(&*self.broker, &self.metrics, &self.health, since / 2).await;
        None
    }
}
