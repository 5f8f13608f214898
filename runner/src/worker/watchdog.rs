//! Stops handlers whose lease was not extended for too long, before another worker may run their tasks.
//!
//! A role of its own that waits for no broker: the heartbeat waits for it just when the broker is what fails.
//!
//! A worker that is alone at a store on its host stops none: while nothing can be written, no other worker can take its
//! tasks. That holds only as long as no other worker comes, so it asks at each look, a few looks before it would stop
//! handlers otherwise; and a new worker is listed for a while before it takes anything back (`listed`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_queue::ServerStatus;
use tokio::time::Instant;

use super::context::WorkerContext;
use crate::background::BackgroundLoop;

pub(super) struct Watchdog {
    ctx: Arc<WorkerContext>,
    /// Whether it was logged that handlers run on without a lease.
    logged: bool,
    /// When this worker was last known to be alone, or first had to ask.
    unsure: Option<Instant>,
}

impl Watchdog {
    pub(super) fn new(ctx: Arc<WorkerContext>) -> Self {
        Self {
            ctx,
            logged: false,
            unsure: None,
        }
    }

    /// Whether handlers may run on although their leases are over, because there is no other worker to take their
    /// tasks.
    async fn is_alone(&mut self) -> bool {
        let ctx = &self.ctx;
        if !ctx.broker.lists_first() {
            return false;
        }
        let info = ctx.info(ServerStatus::Active);
        let answer = tokio::time::timeout(ctx.settings.fence_every() * 2, ctx.broker.is_alone(&info)).await;
        let now = Instant::now();
        let since = *self.unsure.get_or_insert(now);
        match answer {
            Ok(Ok(true)) => {
                self.unsure = Some(now);
                true
            }
            Ok(Ok(false)) => false,
            // A busy machine sometimes answers late; it was alone a moment ago. Not for longer than a fifth of a lease:
            // a worker that started meanwhile does not take anything back sooner.
            Ok(Err(_)) | Err(_) => now - since < ctx.settings.lease / 5,
        }
    }
}

#[async_trait]
impl BackgroundLoop for Watchdog {
    fn name(&self) -> &'static str {
        "fence"
    }

    fn every(&self) -> Duration {
        self.ctx.settings.fence_every()
    }

    async fn turn(&mut self) -> Option<Duration> {
        let limit = self.ctx.settings.fence_after();
        // Some looks before handlers would be stopped: the answer must arrive in time, and so must the new limits
        // of handlers in other processes, which end by themselves.
        let look = match self.ctx.broker.lists_first() {
            true => limit.saturating_sub(self.every() * 4),
            false => limit,
        };
        if !self.ctx.in_flight.is_overdue(look) {
            (self.logged, self.unsure) = (false, None);
            return None;
        }
        if self.is_alone().await {
            let hold = self.ctx.settings.hold_alone(Instant::now());
            self.ctx.in_flight.hold_overdue(look, self.every() / 2, hold);
            if !std::mem::replace(&mut self.logged, true) {
                tracing::warn!(
                    "leases cannot be extended, but no other worker is at this store; running tasks continue, and end when \
                     it can be written again"
                );
            }
            return None;
        }
        let stopped = self.ctx.in_flight.stop_overdue(limit);
        if stopped > 0 {
            tracing::error!(
                stopped,
                "leases could not be extended in time; handlers were stopped before another worker takes over"
            );
        }
        None
    }
}
