//! Signals between processes: there is something to claim, a task is due later, an attempt is to end.

use std::time::Duration;

use async_trait::async_trait;
use runner_core::task::{QueueName, TaskId};

use super::{BrokerResult, StopRequest};

/// Waiting for signals, and sending those that end attempts.
#[async_trait]
pub trait Signals {
    /// Returns when one of `queues` may have something to claim, or after `at_most`. A hint, never a promise:
    /// too early costs a look, and a lost wake-up costs at most `at_most`. Tasks of types that this broker does not
    /// claim, and that a claim has seen, are nothing to wake up for.
    async fn wait_for_work(&self, queues: &[QueueName], at_most: Duration);

    /// Returns when somebody may have written a task that is due later, or after `at_most`. A hint like
    /// [`Signals::wait_for_work`]: tasks that other programs write are seen only by looking.
    async fn wait_for_delayed(&self, at_most: Duration);

    /// Requests to end attempts, from now on. Ends when the store is gone; call again then.
    async fn cancellations(&self) -> BrokerResult<tokio::sync::mpsc::Receiver<StopRequest>>;

    /// Asks whichever worker holds the task, here or in Go, to end its attempt: it has failed with [`CANCELED`](super::CANCELED)
    /// and is tried again if retries are left. Workers get the id alone: tasks of this id in other
    /// queues are stopped too.
    async fn cancel(&self, id: &TaskId) -> BrokerResult<()>;

    /// Asks the worker of this program that holds the task to end it for good: it is archived with this error, whatever retries
    /// are left. One in Go does not hear of it, and nothing happens to a task that no worker holds.
    async fn stop(&self, queue: &QueueName, id: &TaskId, error: &str) -> BrokerResult<()>;
}
