//! Deletes finished tasks whose retention has ended and keeps the archive within its bounds.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_queue::{BrokerResult, Lists, Swept};

use super::context::WorkerContext;
use crate::background::BackgroundLoop;

/// asynq's interval, while there is something to delete.
const BUSY: Duration = Duration::from_secs(8);

/// The longest time between two looks: a finished task may stay a little longer.
const EVERY: Duration = Duration::from_secs(60);

/// Tasks deleted in one call and queue.
const BATCH: usize = 500;

pub(super) struct Janitor(pub Arc<WorkerContext>);

#[async_trait]
impl BackgroundLoop for Janitor {
    fn name(&self) -> &'static str {
        "janitor"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        let ctx = &self.0;
        match self.pass().await {
            Ok(swept) => {
                ctx.metrics.trimmed(swept.trimmed);
                if swept.trimmed > 0 {
                    tracing::warn!(
                        trimmed = swept.trimmed,
                        "archived tasks beyond the archive's bounds were deleted"
                    );
                }
                match (swept.more, swept.expired + swept.trimmed) {
                    (true, _) => Some(Duration::from_millis(50)),
                    (false, 0) => None,
                    (false, _) => Some(BUSY),
                }
            }
            Err(error) => {
                ctx.broker_failed("clean up", &error);
                None
            }
        }
    }
}

impl Janitor {
    /// Visits all queues once.
    async fn pass(&self) -> BrokerResult<Swept> {
        let mut all = Swept::default();
        for queues in self.0.queues_with(Lists::Ended).await? {
            let bounds = self.0.changeable.now().archive;
            let swept = self.0.broker.sweep(&queues, BATCH, bounds).await?;
            all.expired += swept.expired;
            all.trimmed += swept.trimmed;
            all.more |= swept.more;
        }
        Ok(all)
    }
}
