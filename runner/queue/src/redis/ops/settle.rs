//! Settling claims: verdicts encoded for the script, one call for each queue and batch.

use std::time::Duration;

use redis::Value;
use runner_core::task::QueueName;

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::{convert, keys, reply};
use crate::redis::net::conn::RoundTrip;
use crate::redis::ops::follow::follow_args;
use crate::redis::ops::runs::trace_args;
use crate::seam::{Ends, keeps_what_is_revoked};
use crate::{BrokerResult, Settled, Settlement, Verdict};

/// Settlements a script call, during which Redis does nothing else: about 1 ms.
pub(in crate::redis) const BATCH: usize = 256;

/// Places of an input, by the queue they belong to, at most `batch` together; order is kept within a queue.
pub(in crate::redis) fn by_queue<'a>(queues: impl Iterator<Item = &'a QueueName>, batch: usize) -> Batches<'a> {
    let mut batches: Batches<'a> = Vec::new();
    // Few queues: a walk from the end beats hashing.
    for (place, queue) in queues.enumerate() {
        match batches
            .iter_mut()
            .rfind(|(name, places)| *name == queue && places.len() < batch)
        {
            Some((_, places)) => places.push(place),
            None => batches.push((queue, vec![place])),
        }
    }
    batches
}

impl RedisBroker {
    /// With `expired_for`, only claims whose lease expired at least that long ago are ended.
    pub(in crate::redis) async fn settle_claims(
        &self,
        settlements: &[Settlement],
        expired_for: Option<Duration>,
    ) -> BrokerResult<Vec<Settled>> {
        let batches = by_queue(settlements.iter().map(|s| &s.claim.task().queue), BATCH);
        if batches.is_empty() {
            return Ok(Vec::new());
        }
        let mut trip = self.conn.trip("settle tasks").await?;
        add_settles(&mut trip, &self.given.ends(settlements), &batches, expired_for);
        let answers = trip.send().await?;
        Ok(settled(settlements.len(), &batches, answers))
    }
}

/// Places of an input together with their queue.
pub(in crate::redis) type Batch<'a> = (&'a QueueName, Vec<usize>);
pub(in crate::redis) type Batches<'a> = Vec<Batch<'a>>;

/// Adds one call of a script for each batch.
pub(in crate::redis) fn add_settles(
    trip: &mut RoundTrip<'_>,
    ends: &Ends<'_>,
    batches: &Batches<'_>,
    expired_for: Option<Duration>,
) {
    for batch in batches {
        // The cheaper script reads the claims of a whole batch with one command. It cannot check that a lease is over,
        // which a recovery needs.
        if expired_for.is_none() && leaves_nothing(ends, batch) {
            trip.script(Script::Exchange, &[keys::part(batch.0.as_str(), "active")])
                .arg(0)
                .arg(0)
                .arg("")
                .arg(0);
            // Nothing is claimed, so limits and known types do not matter.
            trip.arg("").arg("").arg("").arg(0);
            end_args(trip, &ends.settlements, batch);
        } else {
            add_settle(trip, ends, batch, expired_for);
        }
    }
}

/// Whether all verdicts of a batch end tasks that leave nothing behind: no lock, no run record, no task that follows.
pub(in crate::redis) fn leaves_nothing(ends: &Ends<'_>, (_, places): &Batch<'_>) -> bool {
    places.iter().all(|place| {
        let settlement = &ends.settlements[*place];
        letter(settlement) == b'd' && !ends.leaves_trace(settlement) && ends.after(*place).is_empty()
    })
}

/// Encodes such a batch for the script that also claims: see `exchange.lua`.
pub(in crate::redis) fn end_args(trip: &mut RoundTrip<'_>, settlements: &[Settlement], (queue, places): &Batch<'_>) {
    let run_of = |place: &usize| settlements[*place].claim.run();
    // Those that were claimed together have one run and one lease, and mostly end together.
    let groups = places.chunk_by(|a, b| run_of(a) == run_of(b));
    trip.arg(keys::queue(queue.as_str()))
        .arg(keys::own(queue.as_str()))
        .arg(groups.clone().count());
    for group in groups {
        let claim = &settlements[group[0]].claim;
        trip.arg(claim.run())
            .arg(claim.lease_until().as_second())
            .arg(group.len());
    }
    for place in places {
        trip.arg(settlements[*place].claim.task().id.as_str());
    }
}

fn add_settle(trip: &mut RoundTrip<'_>, ends: &Ends<'_>, (queue, places): &Batch<'_>, expired_for: Option<Duration>) {
    let (settlements, apart) = (&ends.settlements, trip.is_apart());
    trip.script(Script::Settle, &[keys::part(queue.as_str(), "active")])
        .arg(keys::queue(queue.as_str()))
        .arg(keys::own(queue.as_str()))
        // Empty: a verdict of the claim's own worker. Otherwise the script requires that the lease is over for this
        // long.
        .arg(expired_for.map_or(String::new(), |grace| convert::millis(grace).to_string()))
        .arg(
            places
                .iter()
                .map(|place| letter(&settlements[*place]))
                .collect::<Vec<u8>>(),
        );
    for place in places {
        let settlement = &settlements[*place];
        verdict_args(trip, settlement);
        // Only a recovery raises suspicion. A task that is archived instead needs none: it does not run again by
        // itself.
        if expired_for.is_some() && letter(settlement) == b'r' {
            let suspicion = settlement.claim.suspicion();
            trip.arg(suspicion.map_or(1, |s| s.crashes))
                .arg(convert::millis(suspicion.map_or(Duration::ZERO, |s| s.ran)));
        }
    }
    // Attempts, run records and further tasks come after all verdicts, each with its number: most verdicts have none.
    for (number, place) in (1..).zip(places) {
        let settlement = &settlements[*place];
        attempt_args(trip, number, settlement);
        if let Some(trace) = ends.trace(settlement) {
            let again = matches!(settlement.verdict, Verdict::Retry { .. });
            trace_args(trip, number, &trace.tried_again(again));
        }
        follow_args(trip, (number, *queue), ends.after(*place), apart);
    }
}

/// What the script's answers mean, one for each batch.
pub(in crate::redis) fn settled(
    count: usize,
    batches: &[Batch<'_>],
    answers: impl IntoIterator<Item = Value>,
) -> Vec<Settled> {
    // The script names the stale ones only: usually there are none, and the answer is empty.
    let mut settled = vec![Settled::Accepted; count];
    for ((_, places), answer) in batches.iter().zip(answers) {
        let stale = reply::list(answer).into_iter().next();
        for number in stale.map(reply::list).unwrap_or_default() {
            let place = reply::number(number)
                .and_then(|n| usize::try_from(n).ok()?.checked_sub(1))
                .and_then(|nth| places.get(nth));
            if let Some(place) = place {
                settled[*place] = Settled::Stale;
            }
        }
    }
    settled
}

/// Whether nothing of the task remains after this verdict.
fn ends_it(settlement: &Settlement) -> bool {
    match settlement.verdict {
        Verdict::Done => settlement.claim.task().retention.as_secs() == 0,
        Verdict::Revoke => !keeps_what_is_revoked(settlement.claim.task()),
        _ => false,
    }
}

/// See `settle.lua` for the letters and what follows them.
fn letter(settlement: &Settlement) -> u8 {
    match &settlement.verdict {
        Verdict::Done | Verdict::Revoke if ends_it(settlement) => match settlement.claim.task().unique_key {
            None => b'd',
            Some(_) => b'u',
        },
        Verdict::Done | Verdict::Revoke => b'c',
        Verdict::Retry { counts: true, .. } => b'r',
        Verdict::Retry { counts: false, .. } => b'n',
        Verdict::Archive { .. } => b'a',
        Verdict::HandBack => b'h',
        Verdict::Snooze { .. } => b's',
    }
}

fn verdict_args(trip: &mut RoundTrip<'_>, settlement: &Settlement) {
    let task = settlement.claim.task();
    let lock = task.unique_key.as_deref();
    trip.arg(task.id.as_str())
        .arg(settlement.claim.run())
        .arg(settlement.claim.lease_until().as_second());
    match &settlement.verdict {
        Verdict::Done | Verdict::Revoke if ends_it(settlement) => {
            if let Some(lock) = lock {
                trip.arg(lock);
            }
        }
        Verdict::Done | Verdict::Revoke => {
            // The message is sent as two halves around the time, which only the server knows.
            let halves = convert::completed(task);
            trip.arg(halves.head)
                .arg(halves.tail)
                .arg(convert::seconds(task.retention))
                .arg(lock.unwrap_or_default())
                .arg(settlement.result.as_deref().unwrap_or_default());
        }
        Verdict::Retry { after, error, counts } => {
            let halves = convert::failed(task, error, *counts);
            trip.arg(halves.head)
                .arg(halves.tail)
                .arg(convert::millis(*after))
                .arg(settlement.result.as_deref().unwrap_or_default());
        }
        Verdict::Archive { error } => {
            let halves = convert::failed(task, error, false);
            trip.arg(halves.head)
                .arg(halves.tail)
                .arg(settlement.result.as_deref().unwrap_or_default());
        }
        Verdict::HandBack => {}
        Verdict::Snooze { delay, waiting_for } => {
            trip.arg(convert::millis(*delay))
                .arg(waiting_for.as_deref().unwrap_or_default());
        }
    }
}

fn attempt_args(trip: &mut RoundTrip<'_>, number: usize, settlement: &Settlement) {
    let Some(attempt) = settlement.attempt.as_ref().filter(|_| !ends_it(settlement)) else {
        return;
    };
    let task = settlement.claim.task();
    match serde_json::to_vec(attempt) {
        Ok(json) => {
            trip.arg(number).arg(json);
        }
        // Plain text and numbers can always be serialised; a verdict must not fail because of its record.
        Err(error) => tracing::warn!(task = %task.id, %error, "an attempt cannot be recorded"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn batches_keep_queues_apart_and_bounded() {
        let (a, b): (QueueName, QueueName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let batches = by_queue([&a, &b, &a, &a, &b].into_iter(), 2);
        assert_eq!(batches, vec![(&a, vec![0, 2]), (&b, vec![1, 4]), (&a, vec![3])]);
    }
}
