//! Claims and verdicts in a cluster: queues are on different servers, and an unreachable one must not stop the others.
//!
//! Each queue has a script call of its own, in the order given. With one server a single call takes from all queues:
//! see `exchange`. Leases start with the claim, so tasks of one server are handed over before another one that hangs
//! has used up the time.

use std::time::Duration;

use futures_util::future::join;
use redis::Value;
use runner_core::task::QueueName;
use tokio::time::Instant;

use crate::redis::RedisBroker;
use crate::redis::format::{keys, reply};
use crate::redis::ops::settle;
use crate::{BrokerError, BrokerResult, Claim, Exchanged, Settled, Settlement};

/// The part of a lease that may pass until its task is handed over: one in this many. For the default lease that is
/// longer than any wait for an answer.
const HANDED_OVER: u32 = 4;

impl RedisBroker {
    /// Settles and claims concurrently, with separate calls.
    pub(in crate::redis) async fn exchange_apart(
        &self,
        settlements: &[Settlement],
        queues: &[QueueName],
        max: usize,
        lease: Duration,
    ) -> Exchanged {
        // Not one after the other: a queue whose verdicts wait for a server that hangs would delay all claims.
        let settled = self.settle_per_queue(settlements, Some(lease / HANDED_OVER));
        let (settled, claims) = join(settled, self.claim_by_queue(queues, max, lease, 0)).await;
        let more = claims.as_ref().is_ok_and(|(_, more)| *more);
        let claims = claims.map(|(claims, _)| claims);
        Exchanged { settled, claims, more }
    }

    /// Verdicts for an unreachable server stay unknown; an error only if no server answered.
    pub(in crate::redis) async fn settle_per_queue(
        &self,
        settlements: &[Settlement],
        within: Option<Duration>,
    ) -> BrokerResult<Vec<Settled>> {
        let batches = settle::by_queue(settlements.iter().map(|s| &s.claim.task().queue), settle::BATCH);
        let mut trip = self.conn.trip("settle tasks").await?;
        trip.within(within);
        settle::add_settles(&mut trip, &self.given.ends(settlements), &batches, None);
        let (mut known, mut away, mut failure) = (Vec::new(), Vec::new(), None);
        for ((_, places), answer) in batches.iter().zip(trip.each().await?) {
            known.push(answer.unwrap_or_else(|error| {
                away.push(places);
                failure = Some(error);
                Value::Nil
            }));
        }
        match failure {
            Some(error) if away.len() == batches.len() => Err(error),
            _ => {
                let mut settled = settle::settled(settlements.len(), &batches, known);
                for place in away.into_iter().flatten() {
                    settled[*place] = Settled::Unknown;
                }
                Ok(settled)
            }
        }
    }

    /// A queue whose server is unreachable yields nothing; an error only if no queue could be asked.
    ///
    /// The first queue is tried at once. Of the others those that are empty are left out, all asked together, so
    /// that an idle worker with many queues makes two round trips and not one for each. Once there are claims, no
    /// server is waited for until their leases are over. `rounds`: see `claim_tasks`.
    pub(in crate::redis) async fn claim_by_queue(
        &self,
        queues: &[QueueName],
        max: usize,
        lease: Duration,
        rounds: usize,
    ) -> BrokerResult<(Vec<Claim>, bool)> {
        let (mut claims, mut more) = (Vec::new(), false);
        let (mut answered, mut failure) = (queues.is_empty(), None);
        let (mut skipped, mut hand_over) = (Vec::new(), None::<Instant>);
        // The first server asked may be the one that hangs: the tasks of the others must not wait for it either.
        let patience = lease / HANDED_OVER;
        for (nth, queue) in queues.iter().enumerate() {
            if claims.len() >= max {
                break;
            }
            let left = hand_over.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            if nth == 1 {
                match self
                    .without_work(&queues[1..], left.or(Some(patience)), &mut failure)
                    .await
                {
                    Ok(found) => skipped = found,
                    Err(error) => failure = Some(error),
                }
                answered |= skipped.contains(&SkipReason::Empty);
            }
            if nth > 0 && skipped.get(nth - 1).is_some_and(|why| *why != SkipReason::No) {
                continue;
            }
            let one = std::slice::from_ref(queue);
            let began = Instant::now();
            let left = hand_over.map_or(patience, |end| end.saturating_duration_since(began));
            match self
                .claim_tasks(one, max - claims.len(), lease, (Some(left), rounds))
                .await
            {
                Ok((mut some, early)) => {
                    answered = true;
                    more |= early;
                    if !some.is_empty() {
                        // From the first claim on: its handlers start only when this returns, and its lease runs
                        // already.
                        hand_over.get_or_insert(began + lease / HANDED_OVER);
                    }
                    claims.append(&mut some);
                }
                // What was claimed must reach the caller, whatever the other servers do.
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if !answered => Err(error),
            Some(error) => {
                tracing::debug!(%error, "some queues cannot be reached; continuing with the others");
                Ok((claims, more))
            }
            None => Ok((claims, more)),
        }
    }

    /// Which queues need not be asked for tasks. `within`: see `RoundTrip::within`.
    async fn without_work(
        &self,
        queues: &[QueueName],
        within: Option<Duration>,
        failure: &mut Option<BrokerError>,
    ) -> BrokerResult<Vec<SkipReason>> {
        let mut trip = self.conn.trip("look for work").await?;
        trip.within(within);
        for queue in queues {
            trip.command("LLEN").arg(keys::part(queue.as_str(), "pending"));
        }
        let lengths = trip.each().await?.into_iter();
        Ok(lengths
            .map(|length| match length {
                Ok(length) => match reply::count(length) {
                    0 => SkipReason::Empty,
                    _ => SkipReason::No,
                },
                Err(error @ BrokerError::Unreachable { .. }) => {
                    *failure = Some(error);
                    SkipReason::Away
                }
                // The claim repairs a key of the wrong type.
                Err(_) => SkipReason::No,
            })
            .collect())
    }
}

/// Whether a queue is left out of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SkipReason {
    No,
    Empty,
    /// Its server did not answer, and would not answer a claim.
    Away,
}
