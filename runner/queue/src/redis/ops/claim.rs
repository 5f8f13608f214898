//! The seam's `Claims`: claimants, leases, and notes about runs.
//!
//! Not here: taking tasks (`exchange`, `per_queue`) and writing verdicts (`settle`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::limit::Limits;
use runner_core::task::QueueName;

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::{convert, keys, reply};
use crate::redis::ops::exchange::ROUNDS;
use crate::redis::ops::partial::PartialFailure;
use crate::redis::ops::settle;
use crate::{
    Absolved, BrokerResult, Claim, Claims, Exchanged, FollowUps, KnownTypes, RecordedTypes, Settled, Settlement,
};

#[async_trait]
impl Claims for RedisBroker {
    fn claims_as(&self, host: &str, pid: u32) {
        // Two containers may have one host name, and process id 1 each.
        let sign = || uuid::Uuid::new_v4().as_fields().0;
        self.claimant.get_or_init(|| format!("{host}:{pid} {:08x}", sign()));
    }

    fn claims_types(&self, types: &KnownTypes) {
        self.passed.know(types);
    }

    fn claims_limits(&self, limits: &Limits) {
        self.limits.set(limits);
    }

    fn follow_by(&self, follow_ups: Arc<dyn FollowUps>) {
        self.given.set(follow_ups);
    }

    fn record_types(&self, types: Arc<RecordedTypes>) {
        self.given.record(types);
    }

    async fn claim(&self, queues: &[QueueName], max: usize, lease: Duration) -> BrokerResult<Vec<Claim>> {
        self.claims_for(lease);
        if self.conn.is_cluster() {
            return Ok(self.claim_by_queue(queues, max, lease, ROUNDS).await?.0);
        }
        Ok(self.claim_tasks(queues, max, lease, (None, ROUNDS)).await?.0)
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
        let mut ends = vec![None; claims.len()];
        let batches = settle::by_queue(claims.iter().map(|c| &c.task().queue), settle::BATCH);
        if batches.is_empty() {
            return Ok(ends);
        }
        let mut trip = self.conn.trip("extend leases").await?;
        for (queue, places) in &batches {
            trip.script(Script::Extend, &[keys::part(queue.as_str(), "lease")])
                .arg(keys::queue(queue.as_str()))
                .arg(keys::own(queue.as_str()))
                .arg(convert::millis(lease))
                .arg(places.len());
            for place in places {
                trip.arg(claims[*place].task().id.as_str());
            }
            for place in places {
                let claim = &claims[*place];
                trip.arg(claim.run()).arg(claim.lease_until().as_second());
            }
        }
        for ((_, places), answer) in batches.iter().zip(trip.send().await?) {
            let mut answer = reply::list(answer).into_iter();
            let end = answer.next().and_then(reply::seconds);
            for (place, kept) in places.iter().zip(answer) {
                if reply::number(kept) == Some(1) {
                    ends[*place] = end;
                }
            }
        }
        Ok(ends)
    }

    fn has_unanswered(&self) -> bool {
        self.any_unanswered()
    }

    async fn unanswered(&self, known: &[Claim], lease: Duration) -> BrokerResult<Vec<Claim>> {
        self.claims_unanswered(known, lease).await
    }

    async fn run_alone(&self, claim: &Claim, alone: bool) -> BrokerResult<bool> {
        let (queue, id) = (claim.task().queue.as_str(), claim.task().id.as_str());
        let mut trip = self.conn.trip("note whether a run is alone").await?;
        trip.script(Script::RunAlone, &[keys::part(queue, "active")])
            .arg(keys::queue(queue))
            .arg(keys::own(queue))
            .arg(id)
            .arg(claim.run())
            .arg(if alone { "1" } else { "" });
        Ok(reply::number(trip.one().await?) == Some(1))
    }

    /// Runs of queues on an unreachable server must be reported again.
    async fn absolve(&self, claims: &[Claim]) -> BrokerResult<Vec<Absolved>> {
        let batches = settle::by_queue(claims.iter().map(|c| &c.task().queue), settle::BATCH);
        let mut answers = vec![Absolved::Held; claims.len()];
        if batches.is_empty() {
            return Ok(answers);
        }
        let mut trip = self.conn.trip("report that a worker is alive").await?;
        for (queue, places) in &batches {
            trip.script(Script::Absolve, &[keys::part(queue.as_str(), "active")])
                .arg(keys::queue(queue.as_str()))
                .arg(keys::own(queue.as_str()));
            for place in places {
                let claim = &claims[*place];
                trip.arg(claim.task().id.as_str()).arg(claim.run());
            }
        }
        let (mut failures, mut answered) = (PartialFailure::default(), false);
        for ((queue, places), answer) in batches.iter().zip(trip.each().await?) {
            let Some(answer) = failures.part(queue, answer) else {
                continue;
            };
            answered = true;
            for (place, answer) in places.iter().zip(reply::list(answer)) {
                answers[*place] = match reply::number(answer) {
                    Some(1) => Absolved::Corrected,
                    Some(2) => Absolved::Held,
                    _ => Absolved::Gone,
                };
            }
        }
        failures.unless(answered)?;
        Ok(answers)
    }
}
