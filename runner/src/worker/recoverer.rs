//! Takes back tasks of workers that fell silent.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Shop;
use crate::role::Role;

/// Together with [`GRACE`] and the lease this bounds how long a dead worker's task lies still.
const EVERY: Duration = Duration::from_secs(5);

/// How long after the end of its lease a task is taken back: allowance for clocks that differ, since Go
/// workers write leases by their own clock.
const GRACE: Duration = Duration::from_secs(5);

/// Tasks taken back in one call.
const BATCH: usize = 100;

pub(super) struct Recoverer(pub Arc<Shop>);

#[async_trait]
impl Role for Recoverer {
    fn name(&self) -> &'static str {
        "recoverer"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        match self.0.broker.recover(&self.0.queue_names(), GRACE, BATCH).await {
            Ok(recovered) => {
                for task in &recovered {
                    tracing::error!(
                        task_id = %task.id, task_type = %task.kind, queue = %task.queue, state = %task.state,
                        "the lease of a task ran out: its worker died or was cut off; the task was taken back"
                    );
                }
                if !recovered.is_empty() {
                    self.0.delayed.notify_one();
                }
                (recovered.len() >= BATCH).then_some(Duration::ZERO)
            }
            Err(error) => {
                self.0.broker_failed("recover tasks", &error);
                None
            }
        }
    }
}
