//! Takes back tasks whose leases expired.
//!
//! The script lists them with all that is known of the run; the next state of each is decided here and written by the
//! script that ends claims, under the condition that the lease is still over then.

use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use redis::Value;
use runner_core::schedule::stable_hash;
use runner_core::task::{AttemptOutcome, QueueName, TaskId, TaskState, recovery_delay};

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::{convert, keys, reply};
use crate::redis::ops::partial::PartialFailure;
use crate::redis::ops::quarantine::Unreadable;
use crate::redis::ops::repair;
use crate::{
    Attempt, BrokerResult, Claim, LEASE_EXPIRED, LONGEST_LEASE, Recovered, Settled, Settlement, Suspicion, TaskRecord,
    Verdict, after_crash, longest_run, poison,
};

/// Tasks a call of the script that looks for them, during which Redis does nothing else.
const BATCH: usize = 500;

/// Tasks a call of the script that takes them back. Each is written to its hash and to a sorted set that may have grown
/// large, up to 0.1 ms together. The calls are sent one by one: Redis would run a pipeline of them without a pause.
const TAKEN: usize = 40;

/// How long after its end the lease of a Go worker is left untouched: that worker writes it by its own clock,
/// and asynq itself allows this much.
const FOREIGN_GRACE: Duration = Duration::from_secs(30);

/// The assumed duration of a run whose start was not recorded, as with a Go worker.
const UNKNOWN: Duration = Duration::from_secs(60);

/// A task whose lease expired, as the script reports it.
struct Row {
    id: Vec<u8>,
    message: Vec<u8>,
    /// Of its last claim, `0` if that was a Go worker's.
    run: Vec<u8>,
    /// Crashes that were counted before this run.
    lost: u32,
    /// Whether the run was alone in its process.
    alone: bool,
    /// When it was claimed and by which server, if that was noted.
    claimed: Option<(Timestamp, String)>,
    /// When its lease ended, rounded up: scores are whole seconds, rounded down.
    until: Timestamp,
}

/// A readable task, and its verdict.
struct ExpiredClaim {
    settlement: Settlement,
    lost: u32,
    poison: bool,
}

impl RedisBroker {
    pub(in crate::redis) async fn recover_expired(
        &self,
        queues: &[QueueName],
        grace: Duration,
        limit: usize,
        poison_after: u32,
    ) -> BrokerResult<Vec<Recovered>> {
        let mut recovered = Vec::new();
        let mut failures = PartialFailure::default();
        for queue in queues {
            let left = limit.saturating_sub(recovered.len()).min(BATCH);
            if left == 0 {
                break;
            }
            let mut trip = self.conn.trip("look for expired leases").await?;
            trip.script(Script::Recover, &[keys::part(queue.as_str(), "active")])
                .arg(keys::queue(queue.as_str()))
                .arg(convert::millis(grace))
                .arg(convert::millis(grace.max(FOREIGN_GRACE)))
                .arg(left)
                .arg(keys::own(queue.as_str()))
                .arg(repair::nowhere(self.present()))
                .arg(convert::millis(LONGEST_LEASE));
            let Some(answer) = failures.part(queue, trip.one().await) else {
                continue;
            };
            let mut answer = reply::list(answer).into_iter();
            let now = answer.next().and_then(reply::number);
            let now = now
                .and_then(|ms| Timestamp::from_millisecond(ms).ok())
                .unwrap_or_default();
            self.repairs
                .note_all(queue, answer.next().map(reply::list).unwrap_or_default());
            let rows: Vec<Row> = std::iter::from_fn(|| next_row(&mut answer)).collect();
            // Decided here rather than in the script: the delay, the attempt and the message need the decoded task. The
            // second script checks again that the same run is still expired, so a worker that wakes in between wins.
            let (silent, unreadable) = sort(queue, rows, (now, self.lease()), poison_after);
            // Each queue, and each half of it, fails by itself: one that cannot be written must not keep the leases of
            // the others.
            let done = self.archive_unreadable(queue, unreadable, &mut recovered).await;
            failures.part(queue, done);
            let done = self.take_back(silent, grace, &mut recovered).await;
            failures.part(queue, done);
        }
        failures.unless(!recovered.is_empty())?;
        Ok(recovered)
    }

    async fn archive_unreadable(
        &self,
        queue: &QueueName,
        unreadable: Vec<Unreadable>,
        recovered: &mut Vec<Recovered>,
    ) -> BrokerResult<()> {
        self.quarantine(queue, &unreadable).await?;
        for bad in unreadable {
            // An id that is not text can be archived but not named.
            if let Some(id) = String::from_utf8(bad.id).ok().and_then(|id| TaskId::new(id).ok()) {
                recovered.push(Recovered {
                    queue: queue.clone(),
                    id,
                    kind: String::new(),
                    state: TaskState::Archived,
                    lost: 0,
                    poison: false,
                });
            }
        }
        Ok(())
    }

    async fn take_back(
        &self,
        silent: Vec<ExpiredClaim>,
        grace: Duration,
        recovered: &mut Vec<Recovered>,
    ) -> BrokerResult<()> {
        for silent in silent.chunks(TAKEN) {
            let settlements: Vec<Settlement> = silent.iter().map(|s| s.settlement.clone()).collect();
            // The worker may have extended the lease meanwhile; then the claim is still valid.
            let settled = self.settle_claims(&settlements, Some(grace)).await?;
            let taken = silent.iter().zip(settled).filter(|(_, s)| *s == Settled::Accepted);
            recovered.extend(taken.map(|(silent, _)| silent.recovered()));
        }
        Ok(())
    }
}

impl ExpiredClaim {
    fn recovered(&self) -> Recovered {
        let task = self.settlement.claim.task();
        Recovered {
            queue: task.queue.clone(),
            id: task.id.clone(),
            kind: task.kind.clone(),
            state: match self.settlement.verdict {
                Verdict::Archive { .. } => TaskState::Archived,
                _ => TaskState::Retry,
            },
            lost: self.lost,
            poison: self.poison,
        }
    }
}

impl RedisBroker {
    /// Remembers how long claims of this process last.
    pub(in crate::redis) fn claims_for(&self, lease: Duration) {
        // Relaxed: a hint for estimates, which nothing else is ordered by.
        self.lease_ms.store(convert::millis(lease), Ordering::Relaxed);
    }

    /// Zero if it has made none.
    fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms.load(Ordering::Relaxed))
    }
}

fn next_row(answer: &mut impl Iterator<Item = Value>) -> Option<Row> {
    let id = reply::bytes(answer.next()?)?;
    let message = reply::bytes(answer.next()?)?;
    let run = reply::bytes(answer.next()?)?;
    let lost = answer.next().and_then(reply::shown)?;
    let alone = answer.next().and_then(reply::number)? == 1;
    let by = answer.next().and_then(reply::shown)?;
    let until = answer.next().and_then(reply::number)?;
    let claimed = by.split_once(' ').and_then(|(millis, claimant)| {
        let at = Timestamp::from_millisecond(millis.parse().ok()?).ok()?;
        let server = claimant.split_once(' ').map_or(claimant, |(server, _)| server);
        Some((at, server.to_owned()))
    });
    Some(Row {
        id,
        message,
        run,
        lost: lost.parse().unwrap_or(0),
        alone,
        claimed,
        until: Timestamp::from_second(until.saturating_add(1)).unwrap_or(Timestamp::MAX),
    })
}

/// Splits them into readable tasks and others. `lease`: how long claims of this process last.
fn sort(
    queue: &QueueName,
    rows: Vec<Row>,
    (now, lease): (Timestamp, Duration),
    poison_after: u32,
) -> (Vec<ExpiredClaim>, Vec<Unreadable>) {
    let (mut silent, mut unreadable) = (Vec::new(), Vec::new());
    for row in rows {
        let number = std::str::from_utf8(&row.run).ok().and_then(|r| r.parse().ok());
        match convert::decode(row.message, queue, &row.id) {
            Ok(record) => {
                let (lost, poison) = after_crash(row.lost, row.alone, poison_after);
                let known = row.claimed.as_ref();
                let ran = known.map_or(UNKNOWN, |(at, _)| longest_run(*at, row.until, lease, now));
                let attempt = attempt(&record, row.claimed, now);
                let suspicion = Suspicion { crashes: lost, ran };
                silent.push(ExpiredClaim {
                    settlement: Settlement {
                        verdict: verdict(&record, lost, poison),
                        // A claim that no worker holds: its run number is what the script compares. That of a Go
                        // worker is 0, which matches tasks without an entry in `claims`.
                        claim: Claim::new(record, number.unwrap_or(0), Timestamp::UNIX_EPOCH)
                            .suspected(Some(suspicion)),
                        result: None,
                        attempt: Some(attempt),
                    },
                    lost,
                    poison,
                });
            }
            Err(why) => unreadable.push(Unreadable {
                id: row.id,
                run: row.run,
                why,
            }),
        }
    }
    (silent, unreadable)
}

fn verdict(record: &TaskRecord, lost: u32, poisonous: bool) -> Verdict {
    if poisonous {
        return Verdict::Archive { error: poison(lost) };
    }
    // Poison before retries: a task that kills its worker must not use them up, one worker each.
    let error = LEASE_EXPIRED.to_owned();
    if !record.retries_left() {
        return Verdict::Archive { error };
    }
    Verdict::Retry {
        // Spread by the id: tasks that were lost together would otherwise meet again and could kill the next worker
        // together.
        after: recovery_delay(record.retried, stable_hash(&[record.id.as_str()])),
        error,
        counts: true,
    }
}

/// The attempt that is recorded for the run; its worker can add nothing.
fn attempt(record: &TaskRecord, claimed: Option<(Timestamp, String)>, now: Timestamp) -> Attempt {
    let (started_at, server) = claimed.unwrap_or_else(|| (now, String::new()));
    Attempt {
        number: record.retried.saturating_add(1),
        started_at,
        ended_at: now,
        outcome: AttemptOutcome::Lost,
        error: Some(LEASE_EXPIRED.to_owned()),
        server,
        log: None,
    }
}
