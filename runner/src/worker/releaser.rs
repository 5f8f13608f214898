//! Passes the types that this worker claims to its broker when they change, and releases tasks that an older version of
//! this program postponed because it had no handler for them.
//!
//! A role of its own, because those tasks may be many: the heartbeat must not wait for it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_queue::{BrokerResult, Lists};

use super::context::WorkerContext;
use crate::background::BackgroundLoop;

/// How soon a task of a function that was just added is claimed.
const EVERY: Duration = Duration::from_millis(500);

pub(super) struct Releaser {
    ctx: Arc<WorkerContext>,
    /// The handlers for which tasks were released last; nothing is done until there are others.
    released_for: Vec<String>,
}

impl Releaser {
    pub(super) fn new(ctx: Arc<WorkerContext>) -> Self {
        let released_for = Vec::new();
        Self { ctx, released_for }
    }

    /// Visits all queues once.
    async fn pass(&self, handlers: &[String]) -> BrokerResult<usize> {
        let mut released = 0;
        for queues in self.ctx.queues_with(Lists::Delayed).await? {
            released += self.ctx.broker.release_waiting(&queues, handlers).await?;
        }
        Ok(released)
    }
}

#[async_trait]
impl BackgroundLoop for Releaser {
    fn name(&self) -> &'static str {
        "releaser"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        if let Some(types) = self.ctx.known.look(&self.ctx.handlers) {
            self.ctx.broker.claims_types(&types);
        }
        let handlers = self.ctx.handlers.names();
        if handlers == self.released_for {
            return None;
        }
        let ctx = &self.ctx;
        match self.pass(&handlers).await {
            Ok(released) => {
                if released > 0 {
                    tracing::info!(released, "tasks that waited for a handler were released");
                }
                // Only now: after a failure the same handlers are tried again.
                self.released_for = handlers;
            }
            Err(error) => ctx.broker_failed("release waiting tasks", &error),
        }
        None
    }
}
