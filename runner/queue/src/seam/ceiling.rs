//! What a store can do at best: the yardstick for a broker's speed.
//!
//! Raw effects in large batches, with nothing decoded and no handler. Not a part of [`crate::Broker`]: for
//! measurements only, in queues of their own.

use async_trait::async_trait;

use super::BrokerResult;

/// The store without the broker: each call does the given work and nothing else; the caller measures the time.
#[async_trait]
pub trait Ceiling: Send + Sync {
    /// Tasks in one script or transaction that are worth comparing; the best of them is the ceiling.
    fn batches(&self) -> &'static [usize];

    /// Enqueues this many tasks, `batch` at a time.
    async fn enqueue(&self, tasks: usize, batch: usize) -> BrokerResult<()>;

    /// Enqueues this many tasks, one a call.
    async fn enqueue_singly(&self, tasks: usize) -> BrokerResult<()>;

    /// Claims and settles, `batch` at a time, until this many are done; there must be as many.
    async fn drain(&self, tasks: usize, batch: usize) -> BrokerResult<()>;

    /// Both at once: enqueues this many and drains them meanwhile.
    async fn steady(&self, tasks: usize, batch: usize) -> BrokerResult<()>;
}
