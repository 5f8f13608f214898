//! Finds and repairs inconsistencies piece by piece: keys that belong together may disagree after a crash of another
//! program between two commands, a restored copy, or a manual change.
//!
//! Each task is checked and repaired within one script, so that no worker changes it in between. A pass is
//! bounded and continues where the last one of this process ended: through every list of the queues by position, and
//! through the keys of tasks, which is the only way to find one that is in no list.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use jiff::Timestamp;
use redis::Value;
use runner_core::task::{AttemptOutcome, QueueName};

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::{keys, reply};
use crate::redis::ops::partial::PartialFailure;
use crate::{Attempt, BrokerResult, Repaired};

/// Tasks a script call, during which Redis does nothing else: about a millisecond.
const PAGE: usize = 200;

/// Keys that one step of a scan visits.
const SCANNED: usize = 500;

const AMONG_TASKS: &str = "look for damage among tasks";

/// Damaged tasks that a pass logs by name; more are counted only.
const LOGGED: usize = 20;

/// A list of ids.
const PLACES: [&str; 7] = [
    "pending",
    "active",
    "lease",
    "scheduled",
    "retry",
    "archived",
    "completed",
];

/// Where the next pass continues.
#[derive(Default)]
pub(in crate::redis) struct RepairCursor {
    lists: BTreeMap<(QueueName, &'static str), usize>,
    scan: Option<String>,
    scans: BTreeMap<QueueName, String>,
    claims: BTreeMap<QueueName, String>,
}

/// Repairs that were not reported yet.
#[derive(Default)]
pub(in crate::redis) struct UnreportedRepairs(std::sync::Mutex<Repaired>);

impl UnreportedRepairs {
    pub(in crate::redis) fn add(&self, more: &Repaired) {
        if more.total() > 0 {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) += more;
        }
    }

    /// Counts and logs one task that a script repaired.
    pub(in crate::redis) fn note(&self, queue: &QueueName, done: &str, id: &[u8]) {
        self.add(&counted(done));
        let id = String::from_utf8_lossy(id);
        if done == "displaced" {
            let kept = "a week, under runner:displaced:";
            tracing::warn!(queue = %queue, key = %id, kept, "a value of the wrong type was moved out of the way");
            return;
        }
        tracing::warn!(queue = %queue, task_id = %id, found = done, "a damaged task was repaired");
    }

    /// The same for pairs of repair and id.
    pub(in crate::redis) fn note_all(&self, queue: &QueueName, pairs: Vec<Value>) {
        let mut pairs = pairs.into_iter();
        let mut logged = 0;
        while let (Some(done), Some(id)) = (pairs.next().and_then(reply::text), pairs.next().and_then(reply::bytes)) {
            if logged < LOGGED {
                self.note(queue, &done, &id);
            } else {
                self.add(&counted(&done));
            }
            logged += 1;
        }
    }

    pub(in crate::redis) fn take(&self) -> Repaired {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn counted(done: &str) -> Repaired {
    let mut one = Repaired::default();
    match done {
        "ghost" => one.ghosts = 1,
        "orphan" => one.orphans = 1,
        "unleased" => one.unleased = 1,
        "quarantined" | "displaced" => one.quarantined = 1,
        _ => one.misplaced = 1,
    }
    one
}

/// Why a task was archived, recorded as an attempt because operators look there.
pub(in crate::redis) fn archival_note(why: &str, now: Timestamp) -> Vec<u8> {
    let attempt = Attempt {
        number: 0,
        started_at: now,
        ended_at: now,
        outcome: AttemptOutcome::Archived,
        error: Some(why.to_owned()),
        server: String::new(),
        log: None,
    };
    // Text and numbers can always be serialised.
    serde_json::to_vec(&attempt).unwrap_or_default()
}

/// The same for a task whose state is unknown.
pub(in crate::redis) fn nowhere(now: Timestamp) -> Vec<u8> {
    archival_note("damaged: it was in no list and in no known state", now)
}

/// Where a scan continues, and the keys it found.
fn part(answer: Value) -> (Option<String>, Vec<Vec<u8>>) {
    let mut answer = reply::list(answer).into_iter();
    let next = answer.next().and_then(reply::text).filter(|next| next != "0");
    let found = answer.next().map(reply::list).unwrap_or_default();
    (next, found.into_iter().filter_map(reply::bytes).collect())
}

impl RedisBroker {
    /// The present, for notes only.
    pub(in crate::redis) fn present(&self) -> Timestamp {
        use runner_core::clock::{Clock as _, SystemClock};
        self.conn.clock().map_or_else(|| SystemClock.now(), |clock| clock.now())
    }

    pub(in crate::redis) async fn walk_lists(
        &self,
        queues: &[QueueName],
        limit: usize,
        rounds: &mut RepairCursor,
    ) -> BrokerResult<()> {
        let mut failures = PartialFailure::default();
        let mut open: Vec<(&QueueName, &'static str, usize)> = queues
            .iter()
            .flat_map(|queue| PLACES.map(|place| (queue, place, limit)))
            .collect();
        while !open.is_empty() {
            let mut trip = self.conn.trip("look for damage in lists").await?;
            for (queue, place, left) in &open {
                let from = rounds.lists.get(&((*queue).clone(), *place)).copied().unwrap_or(0);
                trip.script(Script::Repair, &[keys::part(queue.as_str(), "pending")])
                    .arg(keys::queue(queue.as_str()))
                    .arg(keys::own(queue.as_str()))
                    .arg(nowhere(self.present()))
                    .arg(*place)
                    .arg(from)
                    .arg((*left).min(PAGE));
            }
            let answers = trip.each().await?;
            let mut again = Vec::new();
            for ((queue, place, left), answer) in open.into_iter().zip(answers) {
                let Some(answer) = failures.part(queue, answer) else {
                    continue;
                };
                let mut answer = reply::list(answer).into_iter();
                let next = usize::try_from(answer.next().map_or(0, reply::count)).unwrap_or(0);
                self.repairs.note_all(queue, answer.collect());
                if next == 0 {
                    rounds.lists.remove(&(queue.clone(), place));
                    continue;
                }
                // Positions shift while tasks come and go, so a pass may miss some; the next round finds them.
                rounds.lists.insert((queue.clone(), place), next);
                if left > PAGE {
                    again.push((queue, place, left - PAGE));
                }
            }
            open = again;
        }
        failures.unless(false)
    }

    /// On one server a single scan covers all queues; in a cluster each queue has one on its node.
    pub(in crate::redis) async fn walk_keys(
        &self,
        queues: &[QueueName],
        limit: usize,
        rounds: &mut RepairCursor,
    ) -> BrokerResult<()> {
        let steps = limit.div_ceil(SCANNED);
        let mut failures = PartialFailure::default();
        if !self.conn.is_cluster() {
            for _ in 0..steps {
                let cursor = rounds.scan.take().unwrap_or_else(|| "0".to_owned());
                let mut trip = self.conn.trip(AMONG_TASKS).await?;
                trip.command("SCAN").arg(cursor).arg("MATCH").arg(keys::TASKS);
                trip.arg("COUNT").arg(SCANNED);
                let (next, found) = part(trip.one().await?);
                for queue in queues {
                    let prefix = keys::task(queue.as_str(), "");
                    let ids = found.iter().filter_map(|key| key.strip_prefix(prefix.as_bytes()));
                    // A queue that fails is left out: the cursor moves on for the others.
                    let looked = self.look_at(queue, &ids.collect::<Vec<_>>()).await;
                    failures.part(queue, looked);
                }
                rounds.scan = next;
                if rounds.scan.is_none() {
                    break;
                }
            }
            return failures.unless(false);
        }
        for queue in queues {
            let mut cursor = rounds.scans.remove(queue);
            for _ in 0..steps {
                let step = self.scan_beside(queue, cursor.take()).await;
                cursor = failures.part(queue, step).flatten();
                if cursor.is_none() {
                    break;
                }
            }
            if let Some(cursor) = cursor {
                rounds.scans.insert(queue.clone(), cursor);
            }
        }
        failures.unless(false)
    }

    /// One step through the keys of the server that has the queue; returns where to continue.
    async fn scan_beside(&self, queue: &QueueName, cursor: Option<String>) -> BrokerResult<Option<String>> {
        let mut trip = self.conn.trip(AMONG_TASKS).await?;
        trip.script(Script::RepairScan, &[keys::part(queue.as_str(), "pending")])
            .arg(keys::task(queue.as_str(), ""))
            .arg(cursor.as_deref().unwrap_or("0"))
            .arg(SCANNED);
        let mut answer = reply::list(trip.one().await?).into_iter();
        let next = answer.next().and_then(reply::text).filter(|next| next != "0");
        let ids: Vec<Vec<u8>> = answer.filter_map(reply::bytes).collect();
        self.look_at(queue, &ids.iter().map(|id| &id[..]).collect::<Vec<_>>())
            .await?;
        Ok(next)
    }

    /// Drops claims on tasks that a Go server took over, and all claims of a queue without active tasks: not damage,
    /// but nothing else would delete them. The rest is kept for another month.
    pub(in crate::redis) async fn walk_claims(
        &self,
        queues: &[QueueName],
        limit: usize,
        rounds: &mut RepairCursor,
    ) -> BrokerResult<()> {
        let mut failures = PartialFailure::default();
        let mut trip = self.conn.trip("look for abandoned claims").await?;
        for queue in queues {
            trip.script(Script::RepairClaims, &[keys::claims(queue.as_str())])
                .arg(keys::queue(queue.as_str()))
                .arg(keys::own(queue.as_str()))
                .arg(rounds.claims.get(queue).map_or("0", String::as_str))
                .arg(limit.min(SCANNED));
        }
        for (queue, answer) in queues.iter().zip(trip.each().await?) {
            let Some(answer) = failures.part(queue, answer) else {
                continue;
            };
            let next = reply::list(answer).into_iter().next().and_then(reply::text);
            match next.filter(|next| next != "0") {
                Some(next) => rounds.claims.insert(queue.clone(), next),
                None => rounds.claims.remove(queue),
            };
        }
        failures.unless(false)
    }

    async fn look_at(&self, queue: &QueueName, ids: &[&[u8]]) -> BrokerResult<()> {
        for page in ids.chunks(PAGE) {
            let mut trip = self.conn.trip(AMONG_TASKS).await?;
            trip.script(Script::Repair, &[keys::part(queue.as_str(), "pending")])
                .arg(keys::queue(queue.as_str()))
                .arg(keys::own(queue.as_str()))
                .arg(nowhere(self.present()))
                .arg("")
                .arg(page);
            let answer = reply::list(trip.one().await?).into_iter();
            self.repairs.note_all(queue, answer.skip(1).collect());
        }
        Ok(())
    }
}
