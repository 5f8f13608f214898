//! Claiming tasks, and settling and claiming in one round trip: `exchange.lua`.
//!
//! Not here: the rest of a claim (`claim`), and claims in a cluster (`per_queue`).

use std::time::Duration;

use redis::Value;
use runner_core::task::QueueName;
use tokio::time::Instant;

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::{convert, keys, reply};
use crate::redis::net::conn::RoundTrip;
use crate::redis::ops::gates::refused_of;
use crate::redis::ops::passed_over::CallContext;
use crate::redis::ops::quarantine::Unreadable;
use crate::redis::ops::settle;
use crate::{BrokerResult, Claim, Exchanged, Settlement, Suspicion, TaskRecord};

const CLAIM: &str = "claim tasks";
const EXCHANGE: &str = "settle and claim tasks";

/// Claims a script call, during which Redis does nothing else: about 1 ms.
const BATCH: usize = 256;

/// Calls of one claim that end early because many tasks wait for a limit now: each moves about 250 of them.
pub(in crate::redis) const ROUNDS: usize = 64;

impl RedisBroker {
    /// `within`: see [`RoundTrip::within`]. `rounds`: how many calls may end early and be followed by another one. Returns also
    /// whether the last one ended early.
    pub(in crate::redis) async fn claim_tasks(
        &self,
        queues: &[QueueName],
        max: usize,
        lease: Duration,
        (within, mut rounds): (Option<Duration>, usize),
    ) -> BrokerResult<(Vec<Claim>, bool)> {
        let (mut claims, mut more) = (Vec::new(), false);
        // Bounded by the tasks there are: a call that brings fewer than it asked for ends the loop.
        while claims.len() < max && !queues.is_empty() {
            let wanted = (max - claims.len()).min(BATCH);
            match self.claim_batch(queues, wanted, lease, within, &mut claims).await {
                Ok(took) if took.tasks == wanted => (),
                Ok(took) if took.more && rounds > 0 => rounds -= 1,
                Ok(took) => {
                    more = took.more;
                    break;
                }
                // What was claimed must reach the caller.
                Err(error) if claims.is_empty() => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, "some tasks were claimed before the server failed");
                    break;
                }
            }
        }
        Ok((claims, more))
    }

    async fn claim_batch(
        &self,
        queues: &[QueueName],
        wanted: usize,
        lease: Duration,
        within: Option<Duration>,
        claims: &mut Vec<Claim>,
    ) -> BrokerResult<Took> {
        self.passed.prepare(&self.conn, queues).await;
        // Before the call is even connected: whatever the server does for it happens after this.
        let began = Instant::now();
        let mut trip = self.conn.trip(CLAIM).await?;
        trip.within(within);
        let context = self.add_claim(&mut trip, queues, wanted, lease, None);
        let answer = trip.one().await;
        self.note_unanswered(&answer, queues, began);
        Ok(self.read_claims(&context, queues, reply::list(answer?), claims).await)
    }

    /// `ending`: the queue whose claims end in the same call; these arguments follow.
    fn add_claim(
        &self,
        trip: &mut RoundTrip<'_>,
        queues: &[QueueName],
        wanted: usize,
        lease: Duration,
        ending: Option<&QueueName>,
    ) -> CallContext {
        let pending = queues.iter().map(|q| keys::part(q.as_str(), "pending"));
        let active = ending.map(|queue| keys::part(queue.as_str(), "active"));
        let touched: Vec<String> = pending.chain(active).collect();
        trip.script(Script::Exchange, &touched)
            .arg(wanted)
            .arg(convert::millis(lease))
            .arg(self.claimant.get().map_or("", String::as_str))
            .arg(queues.len())
            .arg(self.limits.text().as_bytes());
        self.passed.add(&self.conn, trip, queues, |trip, queue| {
            trip.arg(keys::queue(queue.as_str())).arg(keys::own(queue.as_str()));
        })
    }

    /// Reads claims from an answer of the script; archives tasks that cannot be read.
    async fn read_claims(
        &self,
        context: &CallContext,
        queues: &[QueueName],
        answer: Vec<Value>,
        claims: &mut Vec<Claim>,
    ) -> Took {
        let mut answer = answer.into_iter().skip(1);
        let Some(lease_until) = answer.next().and_then(reply::seconds) else {
            // An empty answer: the script did not find a list of types that the call refers to, and claimed nothing.
            self.passed.forgotten(context);
            return Took::default();
        };
        self.passed.learn(context, queues, answer.next().unwrap_or(Value::Nil));
        let suspects = suspects_of(answer.next().map(reply::list).unwrap_or_default());
        let mut limits = answer.next().map(reply::list).unwrap_or_default().into_iter();
        let more = limits.next().map_or(0, reply::count) > 0;
        let refused = refused_of(limits);
        let (mut taken, first) = (0, claims.len());
        while let Some((place, count, run)) = next_head(&mut answer) {
            let Some(queue) = queues.get(place) else { break };
            let mut unreadable = Vec::new();
            // The counts come first and the rows behind them; a truncated answer ends both loops and loses only claims
            // whose leases then end.
            for _ in 0..count {
                let Some((id, message, waited)) = next_row(&mut answer) else {
                    break;
                };
                taken += 1;
                match convert::decode(message, queue, &id) {
                    Ok(record) => {
                        let known = suspects.iter().find(|s| s.place == place && s.id == id);
                        let limit = refused.iter().find(|(at, task, _)| *at == place && *task == id);
                        let claim =
                            Claim::new(record, run, lease_until).refused(limit.map(|(_, _, name)| name.as_str()));
                        claims.push(claim.suspected(known.map(|s| s.suspicion)).after_waiting(waited));
                    }
                    Err(why) => {
                        let run = run.to_string().into_bytes();
                        unreadable.push(Unreadable { id, run, why });
                    }
                }
            }
            // The tasks that were claimed must reach the caller: what cannot be archived now stays active,
            // and is found again when its lease has expired.
            if let Err(error) = self.quarantine(queue, &unreadable).await {
                tracing::warn!(queue = %queue, %error, "tasks that cannot be read stay active for now");
            }
        }
        let stripped = claims[first..]
            .iter_mut()
            .filter(|claim| convert::lost_headers(claim.task()));
        self.give_back_headers(stripped.map(Claim::record_mut).collect()).await;
        Took { tasks: taken, more }
    }

    /// Restores lost headers of schedules' tasks. A task without headers is better than none.
    pub(in crate::redis) async fn give_back_headers(&self, records: Vec<&mut TaskRecord>) {
        if records.is_empty() {
            return;
        }
        let kept = async {
            let mut trip = self.conn.trip("read what a schedule said of its task").await?;
            for record in &records {
                let key = keys::task(record.queue.as_str(), record.id.as_str());
                trip.command("HGET").arg(key).arg("headers");
            }
            trip.each().await
        };
        let kept = kept.await.unwrap_or_else(|error| {
            tracing::debug!(%error, "headers are restored from the ids of tasks");
            Vec::new()
        });
        let mut kept = kept.into_iter().map(|answer| answer.ok().and_then(reply::bytes));
        for record in records {
            convert::restore_headers(record, kept.next().flatten());
        }
    }

    /// Settles and claims in one round trip.
    pub(in crate::redis) async fn exchange_claims(
        &self,
        settlements: &[Settlement],
        queues: &[QueueName],
        max: usize,
        lease: Duration,
    ) -> BrokerResult<Exchanged> {
        // Verdicts first in the pipeline: the server runs commands in order, so their tasks are out of the way, and a
        // lock that a verdict releases is free, before the claim.
        let batches = settle::by_queue(settlements.iter().map(|s| &s.claim.task().queue), BATCH);
        let wanted = if queues.is_empty() { 0 } else { max.min(BATCH) };
        let began = Instant::now();
        if wanted > 0 {
            self.passed.prepare(&self.conn, queues).await;
        }
        let ends = self.given.ends(settlements);
        if let [only] = &batches[..]
            && settle::leaves_nothing(&ends, only)
        {
            return self.exchange_at_once(settlements, only, queues, wanted, lease).await;
        }
        let mut trip = self.conn.trip(EXCHANGE).await?;
        settle::add_settles(&mut trip, &ends, &batches, None);
        let context = (wanted > 0).then(|| self.add_claim(&mut trip, queues, wanted, lease, None));
        let answers = trip.each().await;
        if wanted > 0 {
            self.note_unanswered(&answers, queues, began);
        }
        let mut answers = answers?.into_iter();
        // Each half keeps its own error: claims must reach the caller even if a verdict was refused.
        let ended: BrokerResult<Vec<Value>> = answers.by_ref().take(batches.len()).collect();
        let claims = answers.next();
        // The claim itself may have got no answer although the trip did, as when its connection broke half-way.
        if let Some(claims) = &claims {
            self.note_unanswered(claims, queues, began);
        }
        let mut more = false;
        let claims = match claims.zip(context) {
            None => Ok(Vec::new()),
            Some((Err(error), _)) => Err(error),
            Some((Ok(answer), context)) => {
                let mut claims = Vec::new();
                let took = self
                    .read_claims(&context, queues, reply::list(answer), &mut claims)
                    .await;
                more = took.more;
                Ok(claims)
            }
        };
        Ok(Exchanged {
            settled: ended.map(|answers| settle::settled(settlements.len(), &batches, answers)),
            claims,
            more,
        })
    }

    /// The same in one script call: the usual case of a busy worker, whose tasks succeed and leave nothing.
    async fn exchange_at_once(
        &self,
        settlements: &[Settlement],
        batch: &settle::Batch<'_>,
        queues: &[QueueName],
        wanted: usize,
        lease: Duration,
    ) -> BrokerResult<Exchanged> {
        let began = Instant::now();
        let mut trip = self.conn.trip(EXCHANGE).await?;
        let context = self.add_claim(&mut trip, queues, wanted, lease, Some(batch.0));
        settle::end_args(&mut trip, settlements, batch);
        let answer = trip.one().await;
        if wanted > 0 {
            self.note_unanswered(&answer, queues, began);
        }
        let mut answer = reply::list(answer?);
        // The same layout as without verdicts: the first element is theirs, and `read_claims` skips it.
        let stale = answer.first_mut().map(std::mem::take).unwrap_or_default();
        let mut claims = Vec::new();
        let took = self.read_claims(&context, queues, answer, &mut claims).await;
        Ok(Exchanged {
            settled: Ok(settle::settled(
                settlements.len(),
                std::slice::from_ref(batch),
                [Value::Array(vec![stale])],
            )),
            claims: Ok(claims),
            more: took.more,
        })
    }
}

/// What a call of the script took.
#[derive(Debug, Clone, Copy, Default)]
struct Took {
    /// How many tasks, including those that cannot be read.
    tasks: usize,
    /// Whether it ended early and there may be more.
    more: bool,
}

/// A suspect among the tasks that were taken.
struct Suspect {
    place: usize,
    id: Vec<u8>,
    suspicion: Suspicion,
}

/// See `exchange.lua`. Counts that cannot be read are replaced by the lowest.
fn suspects_of(answer: Vec<Value>) -> Vec<Suspect> {
    let mut answer = answer.into_iter();
    let next = || {
        let place = usize::try_from(reply::number(answer.next()?)?).ok()?.checked_sub(1)?;
        let id = reply::bytes(answer.next()?)?;
        let number = |value: Value| reply::text(value).and_then(|text| text.parse::<u64>().ok());
        let crashes = answer.next().and_then(number).unwrap_or(1);
        let ran = answer.next().and_then(number).unwrap_or(0);
        let suspicion = Suspicion {
            crashes: u32::try_from(crashes).unwrap_or(u32::MAX).max(1),
            ran: Duration::from_millis(ran),
        };
        Some(Suspect { place, id, suspicion })
    };
    std::iter::from_fn(next).collect()
}

/// Place of the queue, how many tasks of it follow, their run.
fn next_head(answer: &mut impl Iterator<Item = Value>) -> Option<(usize, u64, u64)> {
    let number = usize::try_from(reply::number(answer.next()?)?).ok()?;
    let count = reply::count(answer.next()?);
    let run = reply::count(answer.next()?);
    Some((number.checked_sub(1)?, count, run))
}

/// Id, message, and how long the task was pending.
fn next_row(answer: &mut impl Iterator<Item = Value>) -> Option<(Vec<u8>, Vec<u8>, Option<Duration>)> {
    let (id, message) = (reply::bytes(answer.next()?)?, reply::bytes(answer.next()?)?);
    let waited = reply::text(answer.next()?).and_then(|text| text.parse().ok());
    Some((id, message, waited.map(Duration::from_millis)))
}
