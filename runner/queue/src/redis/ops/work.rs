//! The worker's verbs; how each is done stands in `claim`, `settle`, `maintenance`, `recover`, `repair`, `servers` and `signals`.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::task::QueueName;
use tokio::sync::mpsc;

use crate::redis::RedisBroker;
use crate::{
    Absolved, ArchiveBounds, BrokerResult, Claim, Exchanged, Forwarded, KnownTypes, Lists, Recovered, Repaired,
    ServerInfo, Settled, Settlement, StopRequest, Swept, Work, Working,
};

#[async_trait]
impl Work for RedisBroker {
    fn claims_as(&self, host: &str, pid: u32) {
        self.note_claimant(host, pid);
    }

    fn claims_types(&self, types: &KnownTypes) {
        self.passed.know(types);
    }

    async fn claim(&self, queues: &[QueueName], max: usize, lease: Duration) -> BrokerResult<Vec<Claim>> {
        self.claims_for(lease);
        if self.conn.is_cluster() {
            return self.claim_by_queue(queues, max, lease).await;
        }
        self.claim_tasks(queues, max, lease, None).await
    }

    fn has_unanswered(&self) -> bool {
        self.any_unanswered()
    }

    async fn unanswered(&self, lease: Duration) -> BrokerResult<Vec<Claim>> {
        self.claims_unanswered(lease).await
    }

    async fn narrow(&self, queues: &[QueueName], lists: Lists) -> BrokerResult<Vec<QueueName>> {
        self.having(queues, lists).await
    }

    async fn settle(&self, settlements: &[Settlement]) -> BrokerResult<Vec<Settled>> {
        if self.conn.is_cluster() {
            return self.settle_per_queue(settlements, None).await;
        }
        self.settle_claims(settlements, None).await
    }

    async fn exchange(
        &self,
        settlements: &[Settlement],
        queues: &[QueueName],
        max: usize,
        lease: Duration,
    ) -> BrokerResult<Exchanged> {
        self.claims_for(lease);
        if self.conn.is_cluster() {
            return Ok(self.exchange_apart(settlements, queues, max, lease).await);
        }
        self.exchange_claims(settlements, queues, max, lease).await
    }

    async fn extend(&self, claims: &[Claim], lease: Duration) -> BrokerResult<Vec<Option<Timestamp>>> {
        self.claims_for(lease);
        self.extend_leases(claims, lease).await
    }

    async fn forward(&self, queues: &[QueueName], limit: usize) -> BrokerResult<Forwarded> {
        self.forward_due(queues, limit).await
    }

    async fn wait_for_delayed(&self, at_most: Duration) {
        // Its end by time is as good an answer.
        drop(tokio::time::timeout(at_most, self.delayed.notified()).await);
    }

    async fn next_lease_end(&self, queues: &[QueueName]) -> BrokerResult<Option<Timestamp>> {
        self.first_lease_end(queues).await
    }

    async fn recover(
        &self,
        queues: &[QueueName],
        grace: Duration,
        limit: usize,
        poison_after: u32,
    ) -> BrokerResult<Vec<Recovered>> {
        self.recover_silent(queues, grace, limit, poison_after).await
    }

    /// Workers are on any host: a lease is all that is known of them.
    async fn recover_dead(&self, _: Duration, _: usize, _: u32) -> BrokerResult<Vec<Recovered>> {
        Ok(Vec::new())
    }

    async fn run_alone(&self, claim: &Claim, alone: bool) -> BrokerResult<bool> {
        self.note_alone(claim, alone).await
    }

    async fn absolve(&self, claims: &[Claim]) -> BrokerResult<Vec<Absolved>> {
        self.take_back_crashes(claims).await
    }

    async fn sweep(&self, queues: &[QueueName], limit: usize, archive: ArchiveBounds) -> BrokerResult<Swept> {
        self.sweep_ended(queues, limit, archive).await
    }

    async fn repair(&self, queues: &[QueueName], limit: usize) -> BrokerResult<Repaired> {
        self.repair_some(queues, limit).await
    }

    async fn heartbeat(&self, server: &ServerInfo, working: &[Working], ttl: Duration) -> BrokerResult<()> {
        self.write_server(server, working, ttl).await
    }

    async fn leave(&self, server: &ServerInfo) -> BrokerResult<()> {
        self.clear_server(server).await
    }

    async fn wait_for_work(&self, queues: &[QueueName], at_most: Duration) {
        self.wait_for_push(queues, at_most).await;
    }

    async fn cancellations(&self) -> BrokerResult<mpsc::Receiver<StopRequest>> {
        self.listen_for_cancellations().await
    }

    async fn release_waiting(&self, queues: &[QueueName], handlers: &[String]) -> BrokerResult<usize> {
        self.release_for(queues, handlers).await
    }
}
