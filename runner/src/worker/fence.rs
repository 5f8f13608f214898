//! Stops what could run into another worker's turn: handlers whose lease was not extended for too long.
//!
//! A role of its own, because the heartbeat waits for the broker just when the broker is what fails.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Shop;
use crate::role::Role;

pub(super) struct Fence(pub Arc<Shop>);

#[async_trait]
impl Role for Fence {
    fn name(&self) -> &'static str {
        "fence"
    }

    fn every(&self) -> Duration {
        self.0.settings.fence_every()
    }

    async fn turn(&mut self) -> Option<Duration> {
        let stopped = self.0.board.stop_overdue(self.0.settings.fence_after());
        if stopped > 0 {
            tracing::error!(
                stopped,
                "leases could not be extended in time; handlers were told to stop before another worker takes over"
            );
        }
        None
    }
}
