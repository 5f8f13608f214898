//! Deletes finished tasks whose retention has ended and keeps the archive within its bounds.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Shop;
use crate::role::Role;

/// asynq's interval.
const EVERY: Duration = Duration::from_secs(8);

/// Tasks deleted in one call and queue.
const BATCH: usize = 500;

pub(super) struct Janitor(pub Arc<Shop>);

#[async_trait]
impl Role for Janitor {
    fn name(&self) -> &'static str {
        "janitor"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        let shop = &self.0;
        let swept = shop
            .broker
            .sweep(&shop.queue_names(), BATCH, shop.settings.archive)
            .await;
        match swept {
            Ok(swept) => {
                shop.metrics.trimmed(swept.trimmed);
                if swept.trimmed > 0 {
                    tracing::warn!(
                        trimmed = swept.trimmed,
                        "archived tasks beyond the archive's bounds were deleted"
                    );
                }
                swept.more.then_some(Duration::from_millis(50))
            }
            Err(error) => {
                shop.broker_failed("clean up", &error);
                None
            }
        }
    }
}
