//! Looks for damage in the broker every few minutes, and repairs it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_queue::{BrokerResult, Lists, Repaired};

use super::context::WorkerContext;
use crate::background::BackgroundLoop;

/// Damage is rare and not urgent; a pass costs a few milliseconds of the store's time.
const EVERY: Duration = Duration::from_secs(180);

/// Tasks of each list, and keys, that a pass looks at.
const LOOKED_AT: usize = 2_000;

pub(super) struct Repairer(pub Arc<WorkerContext>);

#[async_trait]
impl BackgroundLoop for Repairer {
    fn name(&self) -> &'static str {
        "repairer"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        match self.pass().await {
            Ok(repaired) => {
                self.0.metrics.repaired(&repaired.each());
                if repaired.total() > 0 {
                    tracing::warn!(
                        ghosts = repaired.ghosts,
                        orphans = repaired.orphans,
                        unleased = repaired.unleased,
                        misplaced = repaired.misplaced,
                        quarantined = repaired.quarantined,
                        "damage in the broker was repaired"
                    );
                }
                None
            }
            Err(error) => {
                self.0.broker_failed("repair damage", &error);
                None
            }
        }
    }
}

impl Repairer {
    /// Checks a part of all queues.
    async fn pass(&self) -> BrokerResult<Repaired> {
        let mut all = Repaired::default();
        for queues in self.0.queues_with(Lists::Any).await? {
            all += &self.0.broker.repair(&queues, LOOKED_AT).await?;
        }
        Ok(all)
    }
}
