//! Signals between processes: there is something to claim, a delayed task was added, an attempt must end.

use std::time::Duration;

use async_trait::async_trait;
use runner_core::task::{QueueName, TaskId};

use super::{BrokerResult, StopRequest};

/// Waiting for signals, and sending those that end attempts.
#[async_trait]
pub trait Signals: Send + Sync {
    /// Returns when one of `queues` may have something to claim, or after `at_most`. A hint, never a promise:
    /// too early costs a look, and a lost wake-up costs at most `at_most`. Tasks of types that this broker does not
    /// claim, and that a claim has seen, do not end the wait.
    async fn wait_for_work(&self, queues: &[QueueName], at_most: Duration);

    /// Returns when another client may have written a task that is due later, or after `at_most`. A hint like
    /// [`Signals::wait_for_work`]: tasks of other programs are found only by polling.
    async fn wait_for_delayed(&self, at_most: Duration);

    /// Requests to end attempts, from now on. Ends when the store is gone; call again then.
    async fn cancellations(&self) -> BrokerResult<tokio::sync::mpsc::Receiver<StopRequest>>;

    /// Asks the worker that holds the task, of this program or in Go, to end its attempt: it fails with
    /// [`CANCELED`](super::CANCELED) and is tried again if retries are left. Workers get only the id: tasks of this id
    /// in other queues are stopped too.
    async fn cancel(&self, id: &TaskId) -> BrokerResult<()>;

    /// Asks the worker of this program that holds the task to end it for good: it is archived with this error, whatever
    /// retries are left. A Go worker does not get it, and nothing happens to a task that no worker holds.
    async fn stop(&self, queue: &QueueName, id: &TaskId, error: &str) -> BrokerResult<()>;
}
