//! Moves due tasks to their queues, and sleeps until the next one is due.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_queue::{BrokerResult, Forwarded, Lists};
use tokio_util::sync::CancellationToken;

use super::context::WorkerContext;
use crate::background::BackgroundLoop;

/// The longest sleep: a delayed task of another program is found after this long at the latest; asynq's interval.
const EVERY: Duration = Duration::from_secs(5);

/// The shortest sleep.
const SHORTEST: Duration = Duration::from_millis(10);

/// Tasks moved in one call and list.
const BATCH: usize = 500;

pub(super) struct Forwarder(pub Arc<WorkerContext>);

/// Wakes the forwarder when a delayed task was written, until `stop`.
pub(super) async fn listen(ctx: Arc<WorkerContext>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = ctx.broker.wait_for_delayed(EVERY) => ctx.delayed.notify_one(),
        }
    }
}

#[async_trait]
impl BackgroundLoop for Forwarder {
    fn name(&self) -> &'static str {
        "forwarder"
    }

    /// The listener wakes it sooner.
    fn every(&self) -> Duration {
        EVERY * 2
    }

    async fn turn(&mut self) -> Option<Duration> {
        match self.pass().await {
            Ok(done) if done.more => Some(Duration::ZERO),
            // The broker's clock decides what is due; by this one it may seem due already. Not at once again: it would
            // ask without pause until the clocks agree.
            Ok(done) => {
                let until = |due: Timestamp| due.duration_since(self.0.clock.now());
                let due = done
                    .next_due
                    .map(until)
                    .map(|until| Duration::try_from(until).unwrap_or(SHORTEST));
                let next = [due, done.look_after].into_iter().flatten().min()?;
                Some(next.max(SHORTEST))
            }
            Err(error) => {
                self.0.broker_failed("move due tasks", &error);
                None
            }
        }
    }
}

impl Forwarder {
    /// Visits all queues once.
    async fn pass(&self) -> BrokerResult<Forwarded> {
        let mut all = Forwarded::default();
        for queues in self.0.queues_with(Lists::Delayed).await? {
            let done = self.0.broker.forward(&queues, BATCH).await?;
            all.moved += done.moved;
            all.more |= done.more;
            all.next_due = [all.next_due, done.next_due].into_iter().flatten().min();
            all.look_after = [all.look_after, done.look_after].into_iter().flatten().min();
        }
        Ok(all)
    }
}
