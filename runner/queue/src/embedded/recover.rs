//! Recovers tasks whose workers fell silent, and records the suspicion that they crashed them.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use runner_core::schedule::stable_hash;
use runner_core::task::{AttemptOutcome, QueueName, TaskId, TaskState, recovery_delay};
use rusqlite::{Connection, Row, params};

use super::connection::Statements as _;
use super::error::SqlError;
use super::rows::{self, RECORD, column, instant, span};
use super::writer::Tx;
use super::{gates, moves, receipts, runs};
use crate::seam::Given;
use crate::{
    Absolved, Attempt, Claim, EndedTask, LEASE_EXPIRED, LONGEST_LEASE, Recovered, TaskEnd, TaskRecord, after_crash,
    longest_run, poison,
};

/// Columns read after those of [`RECORD`]: when and by whom the task was claimed, crashes counted before, whether the
/// run was alone in its process, when its lease ended.
pub(super) const RUN: &str = "t.claimed_at, t.claimed_by, t.lost, t.alone_run IS t.run, t.at";

/// Position of the first of them.
const RUN_FROM: usize = 16;

/// The parameters of a recovery.
pub(super) struct Rules {
    /// How long claims of this process last.
    pub(super) lease: Duration,
    /// Crashes after which a task is archived as poison; 0: never.
    pub(super) poison_after: u32,
    /// Which tasks follow others, and which types have records of their runs.
    pub(super) given: Arc<Given>,
}

/// An active task whose worker is gone. Unreadable columns of its run count as unknown.
struct Lost {
    seq: i64,
    task: Result<TaskRecord, SqlError>,
    /// Its id, if readable.
    id: Option<TaskId>,
    claimed_at: Option<i64>,
    claimed_by: Option<String>,
    crashes: u32,
    alone: bool,
    lease_end: i64,
}

impl Lost {
    /// Reads the columns of [`RECORD`] and [`RUN`].
    fn read(row: &Row<'_>) -> Result<Self, SqlError> {
        let crashes: i64 = row.get(RUN_FROM + 2).unwrap_or(0);
        Ok(Self {
            seq: row.get(0)?,
            task: rows::record(row),
            id: rows::task_id(row, 2).ok(),
            claimed_at: row.get(RUN_FROM).unwrap_or_default(),
            claimed_by: row.get(RUN_FROM + 1).unwrap_or_default(),
            crashes: u32::try_from(crashes.max(0)).unwrap_or(u32::MAX),
            alone: row.get(RUN_FROM + 3).unwrap_or(false),
            lease_end: row.get(RUN_FROM + 4)?,
        })
    }

    /// The attempt record of the run: no worker is left to report more.
    fn attempt(&self, record: &TaskRecord, now: i64) -> Attempt {
        Attempt {
            number: record.retried.saturating_add(1),
            started_at: instant(self.claimed_at.unwrap_or(now)),
            ended_at: instant(now),
            outcome: AttemptOutcome::Lost,
            error: Some(LEASE_EXPIRED.to_owned()),
            server: self.claimed_by.clone().unwrap_or_default(),
            log: None,
        }
    }
}

/// Recovers tasks whose lease ended more than `grace` ago; at most `limit`.
pub(super) fn recover(
    tx: &mut Tx<'_>,
    rules: &Rules,
    queues: &[QueueName],
    grace: Duration,
    limit: usize,
) -> Result<Vec<Recovered>, SqlError> {
    let cutoff = tx.now.saturating_sub(span(grace));
    let text = format!(
        "SELECT {RECORD}, {RUN} FROM tasks t WHERE t.queue = ?1 AND t.state = 'active' AND t.at <= ?2 \
         ORDER BY t.at, t.seq LIMIT ?3"
    );
    let mut recovered = Vec::new();
    for queue in queues {
        // Before the search: a lease that never ends would hide its task from it.
        cut_leases(tx, queue)?;
        let room = column(limit.saturating_sub(recovered.len()) as u64);
        for lost in tx.conn.all(&text, params![queue.as_str(), cutoff, room], Lost::read)? {
            recovered.extend(recover_one(tx, rules, queue, lost)?);
        }
    }
    Ok(recovered)
}

/// Recovers tasks, by row and run, whose processes are known to be dead.
pub(super) fn recover_dead(tx: &mut Tx<'_>, rules: &Rules, held: &[(i64, i64)]) -> Result<Vec<Recovered>, SqlError> {
    let text = format!("SELECT {RECORD}, {RUN} FROM tasks t WHERE t.seq = ?1 AND t.run = ?2 AND t.state = 'active'");
    let mut recovered = Vec::new();
    for (seq, run) in held {
        // Row and run: since the search another process may have recovered the task and claimed it again.
        let found = tx.conn.first(&text, [seq, run], |row| {
            let queue: String = row.get(1)?;
            Ok((QueueName::new(queue).ok(), Lost::read(row)?))
        })?;
        if let Some((Some(queue), lost)) = found {
            recovered.extend(recover_one(tx, rules, &queue, lost)?);
        }
    }
    Ok(recovered)
}

fn recover_one(tx: &mut Tx<'_>, rules: &Rules, queue: &QueueName, lost: Lost) -> Result<Option<Recovered>, SqlError> {
    let seq = lost.seq;
    let record = match &lost.task {
        Ok(record) => record,
        Err(why) => {
            moves::archive_unreadable(tx, queue, seq, TaskState::Active, why)?;
            // The id itself may be the unreadable part.
            return Ok(lost.id.map(|id| Recovered {
                queue: queue.clone(),
                id,
                kind: String::new(),
                state: TaskState::Archived,
                lost: 0,
                poison: false,
            }));
        }
    };
    let (crashes, poisonous) = after_crash(lost.crashes, lost.alone, rules.poison_after);
    // Poison before retries: a task that kills its worker must not use them up, one worker each.
    let state = if poisonous {
        moves::to_archive(tx, queue, seq, &poison(crashes))?;
        TaskState::Archived
    } else if record.retries_left() {
        let random = stable_hash(&[record.id.as_str()]);
        let due = tx.now.saturating_add(span(recovery_delay(record.retried, random)));
        moves::to_retry(tx, queue, seq, due, LEASE_EXPIRED, true)?;
        TaskState::Retry
    } else {
        moves::to_archive(tx, queue, seq, LEASE_EXPIRED)?;
        TaskState::Archived
    };
    let attempt = lost.attempt(record, tx.now);
    if state == TaskState::Retry {
        let until = instant(lost.lease_end);
        let ran = longest_run(attempt.started_at, until, rules.lease, attempt.ended_at);
        let ran_ms = column(u64::try_from(ran.as_millis()).unwrap_or(u64::MAX));
        tx.conn.exec(
            // `crash_run` names the run that was counted, so that `absolve` can undo exactly this count.
            "UPDATE tasks SET lost = ?1, lost_before = ?2, crash_run = run, ran_ms = ?3, alone_run = NULL \
             WHERE seq = ?4",
            params![crashes, lost.crashes, ran_ms, seq],
        )?;
    } else {
        moves::clear_suspicion(tx, &[seq])?;
        let error = if poisonous {
            poison(crashes)
        } else {
            LEASE_EXPIRED.to_owned()
        };
        enqueue_followers(tx, rules, record, seq, &error)?;
    }
    runs::record_attempt(tx, seq, &attempt)?;
    if let Some(trace) = rules.given.trace(record, Some(&attempt)) {
        let trace = trace.tried_again(state == TaskState::Retry);
        runs::record_end(tx, queue, &record.id, &trace)?;
    }
    if gates::any(tx)? {
        gates::leave(tx, [(queue, record.id.as_str(), state == TaskState::Retry)])?;
    }
    Ok(Some(Recovered {
        queue: queue.clone(),
        id: record.id.clone(),
        kind: record.kind.clone(),
        state,
        lost: crashes,
        poison: poisonous,
    }))
}

/// Enqueues what follows a task that was lost for good.
fn enqueue_followers(
    tx: &mut Tx<'_>,
    rules: &Rules,
    record: &TaskRecord,
    seq: i64,
    error: &str,
) -> Result<(), SqlError> {
    if !rules.given.follow(&record.kind) {
        return Ok(());
    }
    let run: i64 = tx.conn.value("SELECT run FROM tasks WHERE seq = ?", [seq])?;
    let ended = EndedTask {
        task: record,
        run: u64::try_from(run).unwrap_or_default(),
        end: TaskEnd::Failed,
        result: None,
        error: Some(error),
    };
    receipts::enqueue(tx, &rules.given.after_end(&ended))?;
    Ok(())
}

/// Shortens impossibly long leases, which were written with a wrong clock. A live worker extends its lease anyway; that
/// of a dead one must not last until then.
fn cut_leases(tx: &Tx<'_>, queue: &QueueName) -> Result<(), SqlError> {
    tx.conn.exec(
        "UPDATE tasks SET at = ?1 WHERE queue = ?2 AND state = 'active' AND at > ?1",
        params![tx.now.saturating_add(span(LONGEST_LEASE)), queue.as_str()],
    )?;
    Ok(())
}

/// When the first lease of a task of these queues ends.
pub(super) fn next_lease_end(conn: &Connection, queues: &[QueueName]) -> Result<Option<Timestamp>, SqlError> {
    let first: Option<i64> = conn.value(
        "SELECT min((SELECT t.at FROM tasks t WHERE t.queue = j.value AND t.state = 'active' ORDER BY t.at LIMIT 1)) \
         FROM json_each(?) j",
        [rows::to_json(&queues)?],
    )?;
    Ok(first.map(instant))
}

/// Records whether a run is the only one in its process. Returns whether the claim still holds.
pub(super) fn set_alone(tx: &Tx<'_>, claim: &Claim, alone: bool) -> Result<bool, SqlError> {
    let (queue, id) = (claim.task().queue.as_str(), claim.task().id.as_str());
    // `run = ?4` in the condition: a late note of a lost claim must not speak for the run that follows.
    let noted = tx.conn.exec(
        "UPDATE tasks SET alone_run = iif(?1, run, NULL) \
         WHERE queue = ?2 AND id = ?3 AND run = ?4 AND state = 'active'",
        params![alone, queue, id, column(claim.run())],
    )?;
    Ok(noted > 0)
}

/// Undoes the crash counts of runs whose process is alive.
pub(super) fn absolve(tx: &Tx<'_>, claims: &[Claim]) -> Result<Vec<Absolved>, SqlError> {
    let mut answers = Vec::with_capacity(claims.len());
    for claim in claims {
        let (queue, id) = (claim.task().queue.as_str(), claim.task().id.as_str());
        let run = column(claim.run());
        // Matches only while the counted crash is the last one: a later crash of another process stays counted.
        let corrected = tx.conn.exec(
            "UPDATE tasks SET lost = lost_before, crash_run = NULL, ran_ms = iif(lost_before > 0, ran_ms, 0) \
             WHERE queue = ?1 AND id = ?2 AND crash_run = ?3",
            params![queue, id, run],
        )?;
        if corrected > 0 {
            answers.push(Absolved::Corrected);
            continue;
        }
        let held: bool = tx.conn.value(
            "SELECT EXISTS (SELECT 1 FROM tasks WHERE queue = ?1 AND id = ?2 AND run = ?3 AND state = 'active')",
            params![queue, id, run],
        )?;
        answers.push(if held { Absolved::Held } else { Absolved::Gone });
    }
    Ok(answers)
}
