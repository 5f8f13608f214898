//! Looks for damage in the broker every few minutes, and puts it right.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Shop;
use crate::role::Role;

/// Damage is rare and waits; a pass costs a few milliseconds of the store's time.
const EVERY: Duration = Duration::from_secs(180);

/// Tasks of each list, and keys, that a pass looks at.
const LOOKED_AT: usize = 2_000;

pub(super) struct Mender(pub Arc<Shop>);

#[async_trait]
impl Role for Mender {
    fn name(&self) -> &'static str {
        "mender"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        match self.0.broker.repair(&self.0.queue_names(), LOOKED_AT).await {
            Ok(repaired) => {
                self.0.metrics.repaired(&repaired.each());
                if repaired.total() > 0 {
                    tracing::warn!(
                        ghosts = repaired.ghosts,
                        orphans = repaired.orphans,
                        unleased = repaired.unleased,
                        misplaced = repaired.misplaced,
                        quarantined = repaired.quarantined,
                        "damage in the broker was put right"
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
