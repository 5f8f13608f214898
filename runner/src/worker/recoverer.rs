//! Takes back tasks of workers that fell silent.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_queue::Recovered;

use super::Shop;
use crate::role::Role;

/// Tasks taken back in one call.
const BATCH: usize = 100;

pub(super) struct Recoverer(pub Arc<Shop>);

#[async_trait]
impl Role for Recoverer {
    fn name(&self) -> &'static str {
        "recoverer"
    }

    /// A lease that is written after a look ends later than this.
    fn every(&self) -> Duration {
        self.0.settings.lease
    }

    async fn turn(&mut self) -> Option<Duration> {
        let shop = &self.0;
        super::aggregator::reclaim(shop).await;
        let recovered = shop
            .broker
            .recover(
                &shop.queue_names(),
                shop.settings.recover_grace(),
                BATCH,
                shop.settings.poison_after,
            )
            .await;
        match recovered {
            Ok(recovered) => {
                for task in &recovered {
                    report(task);
                    shop.metrics.lost(task.queue.as_str(), task.poison);
                }
                if !recovered.is_empty() {
                    self.0.delayed.notify_one();
                }
                if recovered.len() >= BATCH {
                    return Some(Duration::ZERO);
                }
                self.until_next().await
            }
            Err(error) => {
                self.0.broker_failed("recover tasks", &error);
                Some(self.0.settings.heartbeat_every())
            }
        }
    }
}

impl Recoverer {
    /// Until the next lease may have to be taken back. Together with the lease and the grace this bounds how long a
    /// dead worker's task lies still.
    async fn until_next(&self) -> Option<Duration> {
        let shop = &self.0;
        let soonest = shop.settings.heartbeat_every();
        match shop.broker.next_lease_end(&shop.queue_names()).await {
            Ok(None) => None,
            Ok(Some(end)) => {
                let left = Duration::try_from(end.duration_since(shop.clock.now())).unwrap_or_default();
                Some((left + shop.settings.recover_grace()).max(soonest))
            }
            Err(error) => {
                shop.broker_failed("look for leases", &error);
                Some(soonest)
            }
        }
    }
}

fn report(task: &Recovered) {
    if task.poison {
        tracing::error!(
            task_id = %task.id, task_type = %task.kind, queue = %task.queue, state = %task.state, lost = task.lost,
            "poison: a task was archived because its worker died or was cut off each time it ran"
        );
    } else {
        tracing::error!(
            task_id = %task.id, task_type = %task.kind, queue = %task.queue, state = %task.state, lost = task.lost,
            "the lease of a task ran out: its worker died or was cut off; the task was taken back"
        );
    }
}
