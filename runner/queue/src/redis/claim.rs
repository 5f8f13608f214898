//! Claiming tasks and keeping their leases.

use std::time::Duration;

use redis::Value;
use runner_core::task::QueueName;

use super::scripts::Script;
use super::{RedisBroker, convert, keys, reply};
use crate::{BrokerResult, Claim};

/// Claims a script call: Redis does nothing else meanwhile, about 1 ms.
const BATCH: usize = 256;

/// An active task that cannot be read.
pub(super) struct Unreadable {
    pub id: Vec<u8>,
    pub run: Vec<u8>,
    pub why: String,
}

impl RedisBroker {
    pub(super) async fn claim_tasks(
        &self,
        queues: &[QueueName],
        max: usize,
        lease: Duration,
    ) -> BrokerResult<Vec<Claim>> {
        let mut claims = Vec::new();
        while claims.len() < max && !queues.is_empty() {
            let wanted = (max - claims.len()).min(BATCH);
            let taken = self.claim_batch(queues, wanted, lease, &mut claims).await?;
            if taken < wanted {
                break;
            }
        }
        Ok(claims)
    }

    /// How many were taken, those that could not be read included.
    async fn claim_batch(
        &self,
        queues: &[QueueName],
        wanted: usize,
        lease: Duration,
        claims: &mut Vec<Claim>,
    ) -> BrokerResult<usize> {
        let pending: Vec<String> = queues.iter().map(|q| keys::part(q.as_str(), "pending")).collect();
        let mut trip = self.conn.trip("claim tasks").await?;
        trip.script(Script::Claim, &pending)
            .arg(wanted)
            .arg(convert::millis(lease));
        for queue in queues {
            trip.arg(keys::queue(queue.as_str())).arg(keys::own(queue.as_str()));
        }
        trip.arg(self.claimant.get().map_or("", String::as_str));
        let mut answer = reply::list(trip.one().await?).into_iter();
        let lease_until = answer.next().and_then(reply::seconds).unwrap_or_default();
        let mut taken = 0;
        let mut unreadable: Vec<Vec<Unreadable>> = Vec::new();
        unreadable.resize_with(queues.len(), Vec::new);
        while let Some((place, id, message, run)) = next_row(&mut answer) {
            taken += 1;
            let (Some(queue), Some(bad)) = (queues.get(place), unreadable.get_mut(place)) else {
                continue;
            };
            let number = std::str::from_utf8(&run).ok().and_then(|r| r.parse().ok());
            match convert::decode(message, queue, &id) {
                Ok(record) => claims.push(Claim::new(record, number.unwrap_or(0), lease_until)),
                Err(why) => bad.push(Unreadable { id, run, why }),
            }
        }
        for (queue, bad) in queues.iter().zip(unreadable) {
            // The tasks that were claimed must reach the caller: what cannot be put aside now stays active,
            // and is found again when its lease has run out.
            if let Err(error) = self.quarantine(queue, &bad).await {
                tracing::warn!(queue = %queue, %error, "tasks that cannot be read stay active for now");
            }
        }
        Ok(taken)
    }

    /// Puts active tasks that cannot be read aside as archived.
    pub(super) async fn quarantine(&self, queue: &QueueName, bad: &[Unreadable]) -> BrokerResult<()> {
        if bad.is_empty() {
            return Ok(());
        }
        let mut trip = self.conn.trip("put tasks aside that cannot be read").await?;
        trip.script(Script::Quarantine, &[keys::part(queue.as_str(), "active")])
            .arg(keys::queue(queue.as_str()));
        for task in bad {
            let id = String::from_utf8_lossy(&task.id);
            tracing::warn!(queue = %queue, task = %id, why = task.why, "a task cannot be read; archived");
            trip.arg(&task.id[..]).arg(&task.run[..]);
        }
        trip.one().await?;
        Ok(())
    }

    pub(super) async fn extend_leases(
        &self,
        claims: &[Claim],
        lease: Duration,
    ) -> BrokerResult<Vec<Option<jiff::Timestamp>>> {
        let mut ends = vec![None; claims.len()];
        let batches = super::settle::by_queue(claims.iter().map(|c| &c.task().queue), BATCH);
        if batches.is_empty() {
            return Ok(ends);
        }
        let mut trip = self.conn.trip("extend leases").await?;
        for (queue, places) in &batches {
            trip.script(Script::Extend, &[keys::part(queue.as_str(), "lease")])
                .arg(keys::queue(queue.as_str()))
                .arg(convert::millis(lease));
            for place in places {
                let claim = &claims[*place];
                trip.arg(claim.task().id.as_str()).arg(claim.run());
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
}

/// Place of the queue, id, message, run.
type Row = (usize, Vec<u8>, Vec<u8>, Vec<u8>);

fn next_row(answer: &mut impl Iterator<Item = Value>) -> Option<Row> {
    let number = usize::try_from(reply::number(answer.next()?)?).ok()?;
    let id = reply::bytes(answer.next()?)?;
    let message = reply::bytes(answer.next()?)?;
    let run = reply::bytes(answer.next()?)?;
    Some((number.checked_sub(1)?, id, message, run))
}
