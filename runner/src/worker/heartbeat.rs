//! Says that this worker lives, keeps the leases of its tasks, and stops a handler before its lease can end.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_queue::{Claim, ServerStatus};
use runner_sdk::StopReason;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{LEASE, Shop};
use crate::role::Role;

/// asynq's interval; the server is forgotten after twice as long.
const EVERY: Duration = Duration::from_secs(5);

/// A handler whose lease was not extended for this long (80 % of it) is stopped: G7 of "no overlap by us".
const FENCE: Duration = Duration::from_secs(LEASE.as_secs() * 8 / 10);

/// The longest wait for one call: several must fit before the fence.
const CALL_LIMIT: Duration = Duration::from_secs(4);

pub(super) struct Heartbeat {
    shop: Arc<Shop>,
    intake: CancellationToken,
    /// Task types that were told to the broker last; a change releases tasks that wait for one.
    told: Vec<String>,
}

impl Heartbeat {
    pub(super) fn new(shop: Arc<Shop>, intake: CancellationToken) -> Self {
        Self {
            shop,
            intake,
            told: Vec::new(),
        }
    }

    async fn extend_leases(&self) {
        let claims: Vec<Claim> = self.shop.board.all().into_iter().map(|w| w.claim).collect();
        if claims.is_empty() {
            return;
        }
        let began = Instant::now();
        match tokio::time::timeout(CALL_LIMIT, self.shop.broker.extend(&claims, LEASE)).await {
            Ok(Ok(answers)) => {
                for (claim, answer) in claims.iter().zip(answers) {
                    if answer.is_some() {
                        self.shop.board.extended(claim, began);
                    } else {
                        self.shop.board.lost(claim);
                    }
                }
            }
            Ok(Err(error)) => self.shop.broker_failed("extend leases", &error),
            Err(_) => tracing::warn!("the broker did not extend the leases in time"),
        }
    }

    /// Stops whatever could run into another worker's turn.
    fn fence(&self) {
        for in_work in self.shop.board.all() {
            if in_work.extended_at.elapsed() >= FENCE {
                in_work.stop.stop(StopReason::LeaseLost);
            }
        }
    }

    async fn tell(&mut self) {
        let status = if self.intake.is_cancelled() {
            ServerStatus::Stopped
        } else {
            ServerStatus::Active
        };
        let (info, working) = (self.shop.info(status), self.shop.board.working());
        self.shop.metrics.set_active(working.len());
        let call = self.shop.broker.heartbeat(&info, &working, EVERY * 2);
        match tokio::time::timeout(CALL_LIMIT, call).await {
            Ok(Ok(())) => self.shop.broker_answered(),
            Ok(Err(error)) => return self.shop.broker_failed("send a heartbeat", &error),
            Err(_) => return tracing::warn!("the broker did not take the heartbeat in time"),
        }
        if info.handlers != self.told {
            match self
                .shop
                .broker
                .release_waiting(&self.shop.queue_names(), &info.handlers)
                .await
            {
                Ok(released) => {
                    if released > 0 {
                        tracing::info!(released, "tasks that waited for a handler go on");
                    }
                    self.told = info.handlers;
                }
                Err(error) => self.shop.broker_failed("release waiting tasks", &error),
            }
        }
    }
}

#[async_trait]
impl Role for Heartbeat {
    fn name(&self) -> &'static str {
        "heartbeat"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        self.extend_leases().await;
        self.fence();
        self.tell().await;
        None
    }
}
