//! The seam's `Claims`: which tasks are taken, and their first lease.
//!
//! How a claim ends is in `settle`, what happens when its worker falls silent in `recover`.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::limit::Limits;
use runner_core::task::{QueueName, TaskState};
use rusqlite::{Connection, Row, params};

use super::connection::Statements as _;
use super::error::SqlError;
use super::gates::{self, Admission};
use super::rows::{self, RECORD, column, instant, span};
use super::type_filter::ClaimFilter;
use super::writer::Tx;
use super::{EmbeddedBroker, moves, recover, settle};
use crate::{
    Absolved, BrokerResult, Claim, Claims, Exchanged, FollowUps, KnownTypes, RecordedTypes, Settled, Settlement,
    Suspicion, TaskRecord,
};

/// Position of the columns of suspicion, after those of [`RECORD`].
const SUSPICION_FROM: usize = 16;

/// Tasks that one transaction lets wait for a limit; the claim then continues with another one.
const WAITING: usize = 500;

/// Transactions of one claim that end early for that reason.
const ROUNDS: usize = 64;

impl EmbeddedBroker {
    fn wanted(&self, queues: &[QueueName], max: usize, lease: Duration) -> Wanted {
        Wanted {
            queues: queues.to_vec(),
            max,
            lease,
            by: self.claimant.get().cloned(),
            filter: Arc::clone(&self.type_filter),
            limits: Arc::clone(&self.limits.read().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// The rest of a claim that ended early, because many tasks wait for a limit now.
    async fn claim_rest(&self, mut taken: ClaimedRows, mut wanted: Wanted) -> BrokerResult<Vec<Claim>> {
        let max = wanted.max;
        for _ in 0..ROUNDS {
            if !taken.more || taken.claims.len() >= max {
                break;
            }
            wanted.max = max - taken.claims.len();
            let again = wanted.clone();
            let rest = self
                .writer
                .write_unsynced("claim tasks", move |tx: &mut Tx<'_>| claim(tx, &again));
            match rest.await {
                Ok(rest) => {
                    taken.claims.extend(rest.claims);
                    taken.more = rest.more;
                }
                Err(error) if taken.claims.is_empty() => return Err(error),
                // What was claimed must reach the caller.
                Err(_) => break,
            }
        }
        Ok(taken.claims)
    }

    /// Before a claim: records how long it lasts, and looks once for tasks of dead processes.
    async fn prepare_claim(&self, lease: Duration) {
        self.last_heartbeat.claims_for(lease);
        self.dead_workers.look(&self.readers, self.claimant.get()).await;
    }
}

#[async_trait]
impl Claims for EmbeddedBroker {
    fn claims_as(&self, host: &str, pid: u32) {
        self.claimant.get_or_init(|| format!("{host}:{pid}"));
        self.dead_workers.announce(&self.path);
    }

    fn claims_types(&self, types: &KnownTypes) {
        self.wakeups.wake(self.type_filter.set_types(types));
    }

    fn claims_limits(&self, limits: &Limits) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(limits.clone());
    }

    fn follow_by(&self, follow_ups: Arc<dyn FollowUps>) {
        self.given.set(follow_ups);
    }

    fn record_types(&self, types: Arc<RecordedTypes>) {
        self.given.record(types);
    }

    async fn claim(&self, queues: &[QueueName], max: usize, lease: Duration) -> BrokerResult<Vec<Claim>> {
        self.prepare_claim(lease).await;
        let wanted = self.wanted(queues, max, lease);
        let first = wanted.clone();
        let change = move |tx: &mut Tx<'_>| claim(tx, &first);
        // Unsynced: a power cut ends the worker together with its claims, and the tasks wait again.
        let taken = self.writer.write_unsynced("claim tasks", change).await?;
        self.claim_rest(taken, wanted).await
    }

    async fn settle(&self, settlements: &[Settlement]) -> BrokerResult<Vec<Settled>> {
        let ends = self.given.ends(settlements).into_owned();
        let change = move |tx: &mut Tx<'_>| settle::settle(tx, &ends);
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
        let wanted = self.wanted(queues, max, lease);
        let (settled, taken) = match (settlements, max) {
            ([], _) => {
                let change = move |tx: &mut Tx<'_>| claim(tx, &wanted);
                (Vec::new(), self.writer.write_unsynced("claim tasks", change).await?)
            }
            (some, 0) => (self.settle(some).await?, ClaimedRows::default()),
            (some, _) => {
                let ends = self.given.ends(some).into_owned();
                let change = move |tx: &mut Tx<'_>| Ok((settle::settle(tx, &ends)?, claim(tx, &wanted)?));
                self.writer.write("settle and claim tasks", change).await?
            }
        };
        Ok(Exchanged {
            settled: Ok(settled),
            claims: Ok(taken.claims),
            more: taken.more,
        })
    }

    async fn extend(&self, claims: &[Claim], lease: Duration) -> BrokerResult<Vec<Option<Timestamp>>> {
        self.last_heartbeat.claims_for(lease);
        let claims = claims.to_vec();
        let change = move |tx: &mut Tx<'_>| settle::extend(tx, &claims, lease);
        // Unsynced: a power cut ends the leases too.
        self.writer.write_unsynced("extend leases", change).await
    }

    async fn run_alone(&self, claim: &Claim, alone: bool) -> BrokerResult<bool> {
        let claim = claim.clone();
        let change = move |tx: &mut Tx<'_>| recover::set_alone(tx, &claim, alone);
        // Unsynced: a power cut ends the run, which is not a crash then.
        self.writer.write_unsynced("note whether a run is alone", change).await
    }

    async fn absolve(&self, claims: &[Claim]) -> BrokerResult<Vec<Absolved>> {
        let claims = claims.to_vec();
        let change = move |tx: &mut Tx<'_>| recover::absolve(tx, &claims);
        self.writer.write("report that a worker is alive", change).await
    }
}

/// The parameters of a claim.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) queues: Vec<QueueName>,
    pub(super) max: usize,
    pub(super) lease: Duration,
    /// The claiming server, if known.
    pub(super) by: Option<String>,
    pub(super) filter: Arc<ClaimFilter>,
    pub(super) limits: Arc<Limits>,
}

/// A pending task, or the reason why its row is unreadable.
struct Found {
    seq: i64,
    known: bool,
    task: Result<TaskRecord, SqlError>,
    suspicion: Option<Suspicion>,
    /// Since when it has been pending, in microseconds.
    since: Option<i64>,
}

impl Found {
    /// Reads the columns of [`RECORD`] and those of suspicion.
    fn read(row: &Row<'_>, types: &KnownTypes) -> Result<Self, SqlError> {
        Ok(Self {
            seq: row.get(0)?,
            // An unreadable type counts as known, so that the claim archives the task.
            known: row.get_ref(3)?.as_str().map_or(true, |kind| types.has(kind)),
            task: rows::record(row),
            suspicion: suspicion(row),
            since: row.get(18).unwrap_or(None),
        })
    }
}

/// What a claim took.
#[derive(Default)]
pub(super) struct ClaimedRows {
    claims: Vec<Claim>,
    /// Tasks that wait for a limit now.
    waiting: usize,
    /// Whether it ended early and there may be more.
    more: bool,
}

/// Claims the first tasks of known types.
pub(super) fn claim(tx: &mut Tx<'_>, wanted: &Wanted) -> Result<ClaimedRows, SqlError> {
    let mut taken = ClaimedRows::default();
    let mut let_in = HashSet::new();
    for queue in &wanted.queues {
        if !wanted.limits.is_empty() && !is_paused(tx.conn, queue)? {
            gates::look_at_due(tx, queue, &let_in)?;
        }
        loop {
            let room = wanted.max.saturating_sub(taken.claims.len());
            if room == 0 {
                return Ok(taken);
            }
            if taken.waiting >= WAITING {
                taken.more = true;
                return Ok(taken);
            }
            let found = find(tx.conn, &wanted.filter, queue, room)?;
            // Tasks that wait now made room for others.
            let (full, waiting) = (found.len() == room, taken.waiting);
            take(tx, wanted, queue, found, &mut let_in, &mut taken)?;
            if !full || taken.waiting == waiting {
                break;
            }
        }
    }
    Ok(taken)
}

/// While all types are known, one statement suffices, which reads whole rows.
fn find(conn: &Connection, filter: &ClaimFilter, queue: &QueueName, room: usize) -> Result<Vec<Found>, SqlError> {
    let types = filter.types();
    let read = |row: &Row<'_>| Found::read(row, &types);
    if !filter.skips_some(queue) {
        let text = format!(
            "SELECT {RECORD}, t.lost, t.ran_ms, t.pending_since FROM tasks t WHERE t.queue = ?1 AND t.state = 'pending' AND NOT EXISTS \
                 (SELECT 1 FROM queues WHERE name = ?1 AND paused_at IS NOT NULL) \
             ORDER BY t.at, t.seq LIMIT ?2"
        );
        let found = conn.all(&text, params![queue.as_str(), column(room as u64)], read)?;
        // One unknown type among them: start over with the slower search, which skips it.
        if found.iter().all(|task| task.known) {
            return Ok(found);
        }
    }
    // The statement above checks this itself; the ones below do not.
    if is_paused(conn, queue)? {
        return Ok(Vec::new());
    }
    let picked = filter.pick(conn, &types, queue, room)?;
    if picked.is_empty() {
        return Ok(Vec::new());
    }
    let text = format!(
        "SELECT {RECORD}, t.lost, t.ran_ms, t.pending_since FROM tasks t WHERE t.seq IN (SELECT value FROM json_each(?)) ORDER BY t.at, t.seq"
    );
    conn.all(&text, [rows::to_json(&picked)?], read)
}

fn is_paused(conn: &Connection, queue: &QueueName) -> Result<bool, SqlError> {
    conn.value(
        "SELECT EXISTS (SELECT 1 FROM queues WHERE name = ? AND paused_at IS NOT NULL)",
        [queue.as_str()],
    )
}

/// Claims the readable rows that no limit refuses, and archives the unreadable ones.
fn take(
    tx: &mut Tx<'_>,
    wanted: &Wanted,
    queue: &QueueName,
    found: Vec<Found>,
    let_in: &mut HashSet<String>,
    taken: &mut ClaimedRows,
) -> Result<(), SqlError> {
    if found.is_empty() {
        return Ok(());
    }
    // One number per row, including those archived below: a gap is harmless, a number assigned twice is not.
    let first = first_run(tx, queue, column(found.len() as u64))?;
    let until = tx.now.saturating_add(span(wanted.lease));
    let mut seqs = Vec::with_capacity(found.len());
    for Found {
        seq,
        task,
        suspicion,
        since,
        ..
    } in found
    {
        match task {
            Ok(record) => {
                let limit = match gates::admit(tx, &wanted.limits, &record, seq, let_in)? {
                    Admission::Passed => None,
                    Admission::Refused(limit) => Some(limit),
                    Admission::Waits => {
                        taken.waiting += 1;
                        continue;
                    }
                };
                let run = rows::count(first).saturating_add(seqs.len() as u64);
                seqs.push(seq);
                let claim = Claim::new(record, run, instant(until)).suspected(suspicion);
                let waited = since.filter(|since| *since > 0);
                let waited = waited.map(|since| Duration::from_micros(rows::count(tx.now.saturating_sub(since))));
                taken.claims.push(claim.refused(limit.as_deref()).after_waiting(waited));
            }
            Err(why) => moves::archive_unreadable(tx, queue, seq, TaskState::Pending, &why)?,
        }
    }
    tx.conn.exec(
        "UPDATE tasks SET state = 'active', at = ?1, run = ?2 + j.key, pending_since = NULL, \
             waiting_for = NULL, claimed_by = ?4, claimed_at = ?5 FROM json_each(?3) j WHERE tasks.seq = j.value",
        params![until, first, rows::to_json(&seqs)?, wanted.by.as_deref(), tx.now],
    )?;
    let n = column(seqs.len() as u64);
    let (from, to) = (Some(TaskState::Pending), Some(TaskState::Active));
    tx.tally.moved(queue.as_str(), from, to, n);
    Ok(())
}

/// Reads the columns after those of [`RECORD`].
fn suspicion(row: &Row<'_>) -> Option<Suspicion> {
    let crashes: i64 = row.get(SUSPICION_FROM).ok()?;
    let ran: i64 = row.get(SUSPICION_FROM + 1).unwrap_or(0);
    (crashes > 0).then(|| Suspicion {
        crashes: u32::try_from(crashes).unwrap_or(u32::MAX),
        ran: Duration::from_millis(rows::count(ran)),
    })
}

/// The first of `n` run numbers that no claim from this queue has had. A new queue starts at the current time, which is
/// above all numbers of a removed queue of the same name.
fn first_run(tx: &Tx<'_>, queue: &QueueName, n: i64) -> Result<i64, SqlError> {
    tx.conn.value(
        "INSERT INTO queues (name, claims) VALUES (?1, ?2 + ?3) ON CONFLICT (name) DO UPDATE \
         SET claims = CASE WHEN claims > 0 AND claims < 4000000000000000000 THEN claims ELSE ?3 END + ?2 \
         RETURNING claims - ?2 + 1",
        params![queue.as_str(), n, tx.now],
    )
}
