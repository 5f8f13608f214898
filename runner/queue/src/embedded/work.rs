//! The seam's `Work`, for worker processes: each call asks or writes what its subject's file says.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::task::QueueName;
use rusqlite::Connection;
use tokio::sync::mpsc;

use super::writer::Tx;
use super::{EmbeddedBroker, cancel, claim, forward, inspect, recover, repair, servers, settle, sweep, wait};
use crate::{
    Absolved, ArchiveBounds, BrokerResult, Claim, Exchanged, Forwarded, KnownTypes, Lists, Recovered, Repaired,
    ServerInfo, Settled, Settlement, StopRequest, Swept, Work, Working,
};

/// Waiting tasks that are released in one transaction.
const RELEASE_CHUNK: usize = 1_000;

impl EmbeddedBroker {
    fn wanted(&self, queues: &[QueueName], max: usize, lease: Duration) -> claim::Wanted {
        claim::Wanted {
            queues: queues.to_vec(),
            max,
            lease,
            by: self.claimant.get().cloned(),
            filter: Arc::clone(&self.type_filter),
        }
    }

    /// Before a claim: how long it lasts, and, once, what dead processes hold.
    async fn prepare_claim(&self, lease: Duration) {
        self.presence.claims_for(lease);
        self.dead_workers.look(&self.readers, self.claimant.get()).await;
    }
}

#[async_trait]
impl Work for EmbeddedBroker {
    fn claims_as(&self, host: &str, pid: u32) {
        self.claimant.get_or_init(|| format!("{host}:{pid}"));
        self.dead_workers.announce(&self.path);
    }

    fn claims_types(&self, types: &KnownTypes) {
        self.signals.wake(self.type_filter.set_types(types));
    }

    async fn claim(&self, queues: &[QueueName], max: usize, lease: Duration) -> BrokerResult<Vec<Claim>> {
        self.prepare_claim(lease).await;
        let wanted = self.wanted(queues, max, lease);
        let change = move |tx: &mut Tx<'_>| claim::claim(tx, &wanted);
        // A power cut ends the worker together with its claims: the tasks wait again then.
        self.writer.write_unsynced("claim tasks", change).await
    }

    async fn narrow(&self, queues: &[QueueName], lists: Lists) -> BrokerResult<Vec<QueueName>> {
        let queues = queues.to_vec();
        let ask = move |conn: &Connection| inspect::having(conn, &queues, lists);
        self.readers.ask("look which queues have tasks", ask).await
    }

    async fn settle(&self, settlements: &[Settlement]) -> BrokerResult<Vec<Settled>> {
        let settlements = settlements.to_vec();
        let change = move |tx: &mut Tx<'_>| settle::settle(tx, &settlements);
        self.writer.write("settle claims", change).await
    }

    /// One transaction for both: neither half fails alone.
    async fn exchange(
        &self,
        settlements: &[Settlement],
        queues: &[QueueName],
        max: usize,
        lease: Duration,
    ) -> BrokerResult<Exchanged> {
        self.prepare_claim(lease).await;
        let (settled, claims) = match (settlements, max) {
            ([], _) => (Vec::new(), self.claim(queues, max, lease).await?),
            (some, 0) => (self.settle(some).await?, Vec::new()),
            (some, _) => {
                let (some, wanted) = (some.to_vec(), self.wanted(queues, max, lease));
                let change = move |tx: &mut Tx<'_>| Ok((settle::settle(tx, &some)?, claim::claim(tx, &wanted)?));
                self.writer.write("settle and claim tasks", change).await?
            }
        };
        let (settled, claims) = (Ok(settled), Ok(claims));
        Ok(Exchanged { settled, claims })
    }

    async fn extend(&self, claims: &[Claim], lease: Duration) -> BrokerResult<Vec<Option<Timestamp>>> {
        self.presence.claims_for(lease);
        let claims = claims.to_vec();
        let change = move |tx: &mut Tx<'_>| settle::extend(tx, &claims, lease);
        // A power cut ends the leases too.
        self.writer.write_unsynced("extend leases", change).await
    }

    async fn forward(&self, queues: &[QueueName], limit: usize) -> BrokerResult<Forwarded> {
        let queues = queues.to_vec();
        let change = move |tx: &mut Tx<'_>| forward::forward(tx, &queues, limit);
        self.writer.write("forward due tasks", change).await
    }

    async fn wait_for_delayed(&self, at_most: Duration) {
        self.signals.wait_for_delayed(at_most).await;
    }

    async fn next_lease_end(&self, queues: &[QueueName]) -> BrokerResult<Option<Timestamp>> {
        let queues = queues.to_vec();
        let ask = move |conn: &Connection| recover::next_lease_end(conn, &queues);
        self.readers.ask("look for the next lease that ends", ask).await
    }

    async fn recover(
        &self,
        queues: &[QueueName],
        grace: Duration,
        limit: usize,
        poison_after: u32,
    ) -> BrokerResult<Vec<Recovered>> {
        let (queues, presence) = (queues.to_vec(), Arc::clone(&self.presence));
        let change = move |tx: &mut Tx<'_>| {
            // The wait for the file may have been long: what this process holds is extended first.
            if presence.is_behind() {
                return Ok(Vec::new());
            }
            let rules = recover::Rules {
                lease: presence.lease(),
                poison_after,
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
        // Dropped from the list only after the commit: a write that fails is tried again by the next pass.
        let (rows, presence) = (held.clone(), Arc::clone(&self.presence));
        let change = move |tx: &mut Tx<'_>| {
            let rules = recover::Rules {
                lease: presence.lease(),
                poison_after,
            };
            recover::recover_dead(tx, &rules, &rows)
        };
        let recovered = self.writer.write("recover tasks of dead workers", change).await?;
        self.dead_workers.done(&held);
        Ok(recovered)
    }

    async fn run_alone(&self, claim: &Claim, alone: bool) -> BrokerResult<bool> {
        let claim = claim.clone();
        let change = move |tx: &mut Tx<'_>| recover::set_alone(tx, &claim, alone);
        // The run ends with the power, and is no crash then.
        self.writer.write_unsynced("note whether a run is alone", change).await
    }

    async fn absolve(&self, claims: &[Claim]) -> BrokerResult<Vec<Absolved>> {
        let claims = claims.to_vec();
        let change = move |tx: &mut Tx<'_>| recover::absolve(tx, &claims);
        self.writer.write("report that a worker lives", change).await
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

    async fn heartbeat(&self, server: &ServerInfo, working: &[Working], ttl: Duration) -> BrokerResult<()> {
        self.claims_as(&server.host, server.pid);
        let (server, working) = (server.clone(), working.to_vec());
        let change = move |tx: &mut Tx<'_>| servers::heartbeat(tx, &server, &working, ttl);
        self.writer
            .write_unsynced("report that this server lives", change)
            .await?;
        self.presence.heartbeat_sent();
        Ok(())
    }

    async fn is_alone(&self, server: &ServerInfo) -> BrokerResult<bool> {
        let server = server.clone();
        let ask = move |conn: &Connection| servers::others(conn, &server);
        Ok(!self.readers.ask("look for other servers", ask).await?)
    }

    fn lists_first(&self) -> bool {
        true
    }

    async fn leave(&self, server: &ServerInfo) -> BrokerResult<()> {
        let server = server.clone();
        let change = move |tx: &mut Tx<'_>| servers::leave(tx, &server);
        self.writer.write("take this server off the list", change).await
    }

    async fn wait_for_work(&self, queues: &[QueueName], at_most: Duration) {
        wait::wait_for_work(&self.readers, &self.signals, &self.type_filter, queues, at_most).await;
    }

    async fn cancellations(&self) -> BrokerResult<mpsc::Receiver<StopRequest>> {
        cancel::listen(self.readers.clone(), Arc::clone(&self.signals)).await
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
