//! The seam's `Upkeep`: each pass is one transaction of its subject's file.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::task::QueueName;
use rusqlite::Connection;

use super::writer::Tx;
use super::{EmbeddedBroker, forward, inspect_queues, recover, repair, sweep};
use crate::{ArchiveBounds, BrokerResult, Forwarded, Lists, Recovered, Repaired, Swept, Upkeep};

/// Waiting tasks that are released in one transaction.
const RELEASE_CHUNK: usize = 1_000;

#[async_trait]
impl Upkeep for EmbeddedBroker {
    async fn narrow(&self, queues: &[QueueName], lists: Lists) -> BrokerResult<Vec<QueueName>> {
        let queues = queues.to_vec();
        let query = move |conn: &Connection| inspect_queues::having(conn, &queues, lists);
        self.readers.query("look which queues have tasks", query).await
    }

    async fn forward(&self, queues: &[QueueName], limit: usize) -> BrokerResult<Forwarded> {
        let queues = queues.to_vec();
        let change = move |tx: &mut Tx<'_>| forward::forward(tx, &queues, limit);
        self.writer.write("forward due tasks", change).await
    }

    async fn next_lease_end(&self, queues: &[QueueName]) -> BrokerResult<Option<Timestamp>> {
        let queues = queues.to_vec();
        let query = move |conn: &Connection| recover::next_lease_end(conn, &queues);
        self.readers.query("look for the next lease that ends", query).await
    }

    async fn recover(
        &self,
        queues: &[QueueName],
        grace: Duration,
        limit: usize,
        poison_after: u32,
    ) -> BrokerResult<Vec<Recovered>> {
        let (queues, last_heartbeat) = (queues.to_vec(), Arc::clone(&self.last_heartbeat));
        let given = Arc::clone(&self.given);
        let change = move |tx: &mut Tx<'_>| {
            // The wait for the file may have been long: extend what this process holds first.
            if last_heartbeat.is_behind() {
                return Ok(Vec::new());
            }
            let rules = recover::Rules {
                lease: last_heartbeat.lease(),
                poison_after,
                given: Arc::clone(&given),
            };
            recover::recover(tx, &rules, &queues, grace, limit)
        };
        self.writer.write("recover tasks of silent workers", change).await
    }

    async fn recover_dead(&self, grace: Duration, limit: usize, poison_after: u32) -> BrokerResult<Vec<Recovered>> {
        let held = self.dead_workers.some(grace, limit);
        if held.is_empty() {
            return Ok(Vec::new());
        }
        // Removed from the list only after the commit: the next pass repeats a failed write.
        let (rows, last_heartbeat) = (held.clone(), Arc::clone(&self.last_heartbeat));
        let given = Arc::clone(&self.given);
        let change = move |tx: &mut Tx<'_>| {
            let rules = recover::Rules {
                lease: last_heartbeat.lease(),
                poison_after,
                given: Arc::clone(&given),
            };
            recover::recover_dead(tx, &rules, &rows)
        };
        let recovered = self.writer.write("recover tasks of dead workers", change).await?;
        self.dead_workers.done(&held);
        Ok(recovered)
    }

    async fn sweep(&self, queues: &[QueueName], limit: usize, archive: ArchiveBounds) -> BrokerResult<Swept> {
        let queues = queues.to_vec();
        let change = move |tx: &mut Tx<'_>| sweep::sweep(tx, &queues, limit, archive);
        self.writer.write("sweep old tasks", change).await
    }

    async fn repair(&self, queues: &[QueueName], limit: usize) -> BrokerResult<Repaired> {
        let (queues, after) = (queues.to_vec(), self.repaired_to.load(Ordering::Relaxed));
        let change = move |tx: &mut Tx<'_>| repair::repair(tx, &queues, limit, after);
        let (repaired, after) = self.writer.write("repair what is damaged", change).await?;
        self.repaired_to.store(after, Ordering::Relaxed);
        Ok(repaired)
    }

    async fn release_waiting(&self, queues: &[QueueName], handlers: &[String]) -> BrokerResult<usize> {
        let ranges: Vec<_> = handlers.iter().map(|handler| forward::range(handler)).collect();
        let mut released = 0;
        loop {
            let (queues, ranges) = (queues.to_vec(), ranges.clone());
            let change = move |tx: &mut Tx<'_>| forward::release_waiting(tx, &queues, &ranges, RELEASE_CHUNK);
            let now = self.writer.write("release waiting tasks", change).await?;
            released += now;
            if now < RELEASE_CHUNK {
                return Ok(released);
            }
        }
    }
}
