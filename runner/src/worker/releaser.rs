//! Lets tasks that wait for a handler go on once this worker has one.
//!
//! A role of its own, because that may be many: the heartbeat must not wait for it with the leases it keeps.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Shop;
use crate::role::Role;

pub(super) struct Releaser {
    shop: Arc<Shop>,
    /// Task types whose tasks were released last; nothing is done until there are others.
    released_for: Vec<String>,
}

impl Releaser {
    pub(super) fn new(shop: Arc<Shop>) -> Self {
        let released_for = Vec::new();
        Self { shop, released_for }
    }
}

#[async_trait]
impl Role for Releaser {
    fn name(&self) -> &'static str {
        "releaser"
    }

    fn every(&self) -> Duration {
        self.shop.settings.heartbeat_every()
    }

    async fn turn(&mut self) -> Option<Duration> {
        let handlers = self.shop.handlers.names();
        if handlers == self.released_for {
            return None;
        }
        let (shop, queues) = (&self.shop, self.shop.queue_names());
        match shop.broker.release_waiting(&queues, &handlers).await {
            Ok(released) => {
                if released > 0 {
                    tracing::info!(released, "tasks that waited for a handler go on");
                }
                self.released_for = handlers;
            }
            Err(error) => shop.broker_failed("release waiting tasks", &error),
        }
        None
    }
}
