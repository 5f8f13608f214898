//! The scheduler's part: cursors, the commit that enqueues and decides in one transaction, the leader.
//!
//! Not here: manual runs (`manual`) and pauses (`pause`).

use std::time::Duration;

use runner_core::schedule::{Overlap, ScheduleId, Span};
use runner_core::task::{QueueName, TaskId, TaskState};
use rusqlite::{Connection, Row, params};

use super::connection::Statements as _;
use super::error::SqlError;
use super::held::note_corrections;
use super::put::enqueue_one;
use super::rows::{self, column, instant, micros, span};
use super::runs;
use super::writer::Tx;
use crate::{
    CURSOR_AHEAD, Commit, CommitFire, Committed, Decision, DecisionKind, Enqueued, Pause, Refusal, Registration,
    Standing,
};

/// How much before its instant a fire may be committed: instances measure the broker's clock over a network.
const EARLY: i64 = 50_000;

/// Recorded decisions of one schedule, as with Redis: a busy one displaces only its own.
const RECORDED: i64 = 200;

/// Excess at which old decisions are deleted together, instead of one with each fire.
const BEYOND: i64 = 50;

/// Decisions deleted with one commit, at most: a file of an older version may have more.
const TRIMMED: i64 = 1_000;

/// Decisions in one answer, at most.
const MOST_DECISIONS: usize = 10_000;

/// The stored state of a schedule.
pub(super) struct StoredSchedule {
    pub(super) standing: Standing,
    revision: String,
    last_queue: Option<String>,
    /// Queue and id of the last manually enqueued task.
    manual: Option<(String, TaskId)>,
    /// Number of recorded decisions.
    pub(super) decisions: i64,
    /// From this instant up to the cursor every occurrence was decided in time.
    unbroken_since: Option<i64>,
    withdrawn: bool,
}

pub(super) fn read(conn: &Connection, id: &ScheduleId) -> Result<Option<StoredSchedule>, SqlError> {
    conn.first(
        "SELECT cursor, revision, paused_at, paused_by, last_nominal, last_queue, last_task, ahead, \
         unbroken_since, withdrawn_at, decisions, manual_queue, manual_task, paused_note, paused_until \
         FROM schedules WHERE id = ?",
        [id.as_str()],
        schedule_row,
    )
}

/// Unreadable columns count as absent: one row must not block the commits of the other schedules.
fn schedule_row(row: &Row<'_>) -> Result<StoredSchedule, SqlError> {
    let paused_at: Option<i64> = row.get(2)?;
    let nominal: Option<i64> = row.get(4)?;
    let ahead: Option<String> = row.get(7).unwrap_or_default();
    Ok(StoredSchedule {
        standing: Standing {
            cursor: instant(row.get(0)?),
            paused: paused_at.map(|at| pause(row, at)),
            last: nominal.map(instant).zip(rows::task_id(row, 6).ok()),
            ahead: ahead.unwrap_or_default().parse().unwrap_or_default(),
            was: None,
        },
        revision: row.get(1).unwrap_or_default(),
        last_queue: row.get(5).unwrap_or_default(),
        unbroken_since: row.get(8).unwrap_or_default(),
        withdrawn: row.get::<_, Option<i64>>(9).unwrap_or_default().is_some(),
        decisions: row.get(10)?,
        manual: row.get(11).ok().zip(rows::task_id(row, 12).ok()),
    })
}

fn pause(row: &Row<'_>, at: i64) -> Pause {
    let by: Option<String> = row.get(3).unwrap_or_default();
    let note: Option<String> = row.get(13).unwrap_or_default();
    let until: Option<i64> = row.get(14).unwrap_or_default();
    let pause = Pause {
        at: Some(instant(at)),
        until: until.map(instant),
        ..Pause::by(by.unwrap_or_else(|| "unknown".to_owned()))
    };
    pause.because(note.as_deref())
}

/// The cursors of schedules.
pub(super) fn standings(conn: &Connection, ids: &[ScheduleId]) -> Result<Vec<Option<Standing>>, SqlError> {
    let standing = |id| Ok(read(conn, id)?.map(|row| row.standing));
    ids.iter().map(standing).collect()
}

/// Registers schedules.
pub(super) fn register(tx: &mut Tx<'_>, registrations: &[Registration]) -> Result<Vec<Standing>, SqlError> {
    let mut standings = Vec::with_capacity(registrations.len());
    let (mut corrected, mut furthest) = (0, 0);
    for registration in registrations {
        // All in one transaction, so that the corrections of one wrong clock are counted together.
        let standing = register_one(tx, registration)?;
        if let Some(was) = standing.was {
            corrected += 1;
            furthest = furthest.max(seconds_ahead(tx, was));
        }
        standings.push(standing);
    }
    if corrected > 0 {
        note_corrections(tx, furthest, corrected)?;
    }
    Ok(standings)
}

/// How far the instant is in the future.
fn seconds_ahead(tx: &Tx<'_>, at: jiff::Timestamp) -> i64 {
    at.duration_since(instant(tx.now)).as_secs()
}

fn register_one(tx: &mut Tx<'_>, registration: &Registration) -> Result<Standing, SqlError> {
    let known = read(tx.conn, &registration.id)?;
    let latest = tx.now.saturating_add(span(CURSOR_AHEAD));
    let mut was = None;
    let cursor = match &known {
        // The clock comes before the revision: an edit must not keep a cursor from the future, because cursors never
        // move back otherwise.
        Some(known) if micros(known.standing.cursor) > latest => {
            was = Some(known.standing.cursor);
            correct(tx, registration, known)?;
            tx.now
        }
        Some(known) if known.revision == registration.revision && !known.withdrawn => {
            return Ok(known.standing.clone());
        }
        // A new revision, or back from a withdrawal: what was due until now belonged to the old definition.
        Some(known) => micros(known.standing.cursor).max(tx.now),
        None => tx.now,
    };
    tx.conn.exec(
        "INSERT INTO schedules (id, revision, cursor, unbroken_since) VALUES (?1, ?2, ?3, ?3) \
         ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, cursor = excluded.cursor, \
             unbroken_since = excluded.unbroken_since, withdrawn_at = NULL",
        params![registration.id.as_str(), registration.revision, cursor],
    )?;
    let registered = read(tx.conn, &registration.id)?;
    let standing = registered.ok_or(SqlError::RowNotFound)?.standing;
    Ok(Standing { was, ..standing })
}

/// Records that the cursor was ahead, and remembers the occurrences decided up to there.
fn correct(tx: &mut Tx<'_>, registration: &Registration, known: &StoredSchedule) -> Result<(), SqlError> {
    let cursor = known.standing.cursor;
    let now = instant(tx.now);
    // Of a schedule registered by an older program only the last fire is known.
    let mut ahead = known.standing.ahead.clone();
    if let Some((last, _)) = known.standing.last.clone() {
        // The present itself is decided, and nothing fired after the last fire.
        let since = known.unbroken_since.map_or(last, instant);
        let from = since.max(instant(tx.now.saturating_add(1_000_000)));
        let to = cursor.min(last);
        if from <= to {
            ahead.add(Span { from, to }, now);
        }
    }
    let decision = Decision {
        schedule: registration.id.clone(),
        nominal: now,
        kind: DecisionKind::Corrected,
        reason: format!(
            "the cursor was {} s ahead of the broker's clock; it is set to the present",
            seconds_ahead(tx, cursor)
        ),
        task: None,
        queue: None,
        end: None,
        count: 0,
        decided_at: now,
        instance: String::new(),
    };
    record(tx, &decision)?;
    tx.conn.exec(
        "UPDATE schedules SET ahead = ?, decisions = decisions + 1, decided_at = ? WHERE id = ?",
        params![
            (!ahead.is_empty()).then(|| ahead.to_string()),
            tx.now,
            registration.id.as_str()
        ],
    )?;
    Ok(())
}

/// Applies decisions, one commit after the other.
pub(super) fn commit(tx: &mut Tx<'_>, commits: &[Commit]) -> Result<Vec<Committed>, SqlError> {
    commits.iter().map(|commit| commit_one(tx, commit)).collect()
}

fn commit_one(tx: &mut Tx<'_>, commit: &Commit) -> Result<Committed, SqlError> {
    let Some(known) = read(tx.conn, &commit.id)? else {
        return Ok(Committed::Unknown);
    };
    if known.withdrawn {
        return Ok(Committed::Unknown);
    }
    // The compare-and-set that makes each decision happen once: another instance that decided first moved the cursor.
    // Stored instants have microseconds, so compare with that precision.
    if micros(known.standing.cursor) != micros(commit.from) {
        return Ok(Committed::Moved(known.standing.cursor));
    }
    if known.standing.paused.is_some() {
        return Ok(Committed::Paused);
    }
    // Occurrences beyond the cursor can be decided already, from before the cursor was corrected.
    let ahead = &known.standing.ahead;
    if commit.fires.iter().any(|fire| ahead.span_of(fire.nominal).is_some()) {
        return Ok(Committed::Ahead(ahead.clone()));
    }
    // The latest of all fires decides for the whole commit: it is all or nothing.
    let latest = commit.fires.iter().map(|f| micros(f.fire_at)).max();
    let wait = latest.map_or(0, |at| at.saturating_sub(tx.now));
    if wait > EARLY {
        return Ok(Committed::Early(Duration::from_micros(rows::count(wait))));
    }
    // From here on the commit succeeds; a fire that cannot enqueue becomes a decision, never an error.
    let mut tasks = known.tasks();
    let mut decisions = Vec::with_capacity(commit.fires.len() + 1);
    if let Some(missed) = commit.missed {
        let reason = format!("too late, from {}{}", missed.first, missed.note());
        let mut decision = decision(tx, commit, missed.last, DecisionKind::Missed, reason);
        decision.count = missed.count;
        record(tx, &decision)?;
        decisions.push(decision);
    }
    for fire in &commit.fires {
        let decided = fire_one(tx, commit, fire, &mut tasks)?;
        record(tx, &decided)?;
        decisions.push(decided);
    }
    let new = decisions.len();
    // The count is stored with the schedule: counting the decisions for each commit would cost more than the commit.
    let before = on_record(tx, &commit.id, known.decisions, new)?;
    let on_record = trim(tx, &commit.id, before + column(new as u64))?;
    tx.conn.exec(
        "UPDATE schedules SET cursor = max(cursor, ?1), decisions = ?2, decided_at = iif(?3 > 0, ?4, decided_at), \
             unbroken_since = coalesce(?5, unbroken_since) \
         WHERE id = ?6",
        params![
            micros(commit.to),
            on_record,
            column(new as u64),
            tx.now,
            commit.unbroken_since().map(micros),
            commit.id.as_str()
        ],
    )?;
    Ok(Committed::Done(decisions))
}

/// The number of decisions recorded before these `new` ones: the stored count, or if that is implausible a new count.
pub(super) fn on_record(tx: &Tx<'_>, id: &ScheduleId, known: i64, new: usize) -> Result<i64, SqlError> {
    if (0..=RECORDED + BEYOND + TRIMMED).contains(&known) {
        return Ok(known);
    }
    let all: i64 = tx
        .conn
        .value("SELECT count(*) FROM decisions WHERE schedule = ?", [id.as_str()])?;
    Ok(all.saturating_sub(column(new as u64)))
}

/// Deletes the oldest of this many recorded decisions of a schedule. Returns how many remain.
pub(super) fn trim(tx: &mut Tx<'_>, id: &ScheduleId, on_record: i64) -> Result<i64, SqlError> {
    if on_record < RECORDED + BEYOND {
        return Ok(on_record);
    }
    let gone = tx.conn.exec(
        "DELETE FROM decisions WHERE seq IN (SELECT seq FROM decisions WHERE schedule = ? ORDER BY seq LIMIT ?)",
        params![id.as_str(), (on_record - RECORDED).min(TRIMMED)],
    )?;
    tx.trimmed += gone;
    Ok(on_record - column(gone))
}

fn fire_one(
    tx: &mut Tx<'_>,
    commit: &Commit,
    fire: &CommitFire,
    tasks: &mut [Option<(String, TaskId)>; 2],
) -> Result<Decision, SqlError> {
    let decide = |tx: &Tx<'_>, kind, reason| decision(tx, commit, fire.nominal, kind, reason);
    if let Some((queue, previous, what)) = unfinished(tx, tasks, &fire.task.queue, commit.overlap)? {
        let unserved = match commit.unserved {
            true => "; no live server serves its queue",
            false => "",
        };
        let reason = format!("overlap: previous task {previous} {what}{unserved}");
        let mut skipped = decide(tx, DecisionKind::Skipped, reason);
        skipped.task = Some(previous);
        skipped.queue = QueueName::new(queue).ok();
        return Ok(skipped);
    }
    let on_time = if fire.catch_up { "catch_up" } else { "on_time" };
    // Checked here, not only where the schedule was read: an older instance may have read it by other rules.
    let enqueued = match fire.task.check() {
        Ok(()) => enqueue_one(tx, &fire.task)?,
        Err(invalid) => Err(invalid.into()),
    };
    let (id, reason) = match enqueued {
        Ok(Enqueued { id, .. }) => (id, on_time.to_owned()),
        // The id names the occurrence, so this is its own task: an earlier commit enqueued it, and its record was lost.
        Err(Refusal::IdTaken | Refusal::Received) => {
            let id = fire.task.id.clone().ok_or(SqlError::RowNotFound)?;
            (id, "its task was there already".to_owned())
        }
        Err(Refusal::Duplicate) => {
            let reason = "unique: another task of this type and payload holds the lock";
            return Ok(decide(tx, DecisionKind::Skipped, reason.to_owned()));
        }
        Err(Refusal::Invalid(e)) => {
            return Ok(decide(tx, DecisionKind::Skipped, format!("invalid: {e}")));
        }
    };
    let queue = fire.task.queue.as_str().to_owned();
    tx.conn.exec(
        "UPDATE schedules SET last_nominal = ?, last_queue = ?, last_task = ? WHERE id = ?",
        params![micros(fire.nominal), queue, id.as_str(), commit.id.as_str()],
    )?;
    // The overlap policy of the next fire in this commit must see this task.
    tasks[0] = Some((queue, id.clone()));
    let mut fired = decide(tx, DecisionKind::Fired, reason);
    fired.task = Some(id);
    fired.queue = Some(fire.task.queue.clone());
    Ok(fired)
}

impl StoredSchedule {
    /// Queues and ids of the tasks that may block a fire: that of the last fire, and the last manual one.
    pub(super) fn tasks(&self) -> [Option<(String, TaskId)>; 2] {
        let last = self.standing.last.as_ref().map(|(_, task)| task.clone());
        [self.last_queue.clone().zip(last), self.manual.clone()]
    }
}

/// The first of these tasks that can still run, and what it is doing.
pub(super) fn unfinished(
    tx: &Tx<'_>,
    tasks: &[Option<(String, TaskId)>; 2],
    queue: &QueueName,
    overlap: Overlap,
) -> Result<Option<(String, TaskId, String)>, SqlError> {
    if !overlap.skips() {
        return Ok(None);
    }
    for (at, task) in tasks.iter().flatten() {
        if let Some(what) = what_it_does(tx, at, task, queue.as_str(), overlap)? {
            return Ok(Some((at.clone(), task.clone(), what)));
        }
    }
    Ok(None)
}

/// What an unfinished task is doing, for the overlap policy: it is waiting or due in the queue that the schedule names
/// now, or a worker holds it. A task that waits in another queue was left behind by an edit and does not count: if no
/// server serves that queue, the schedule would never fire again.
fn what_it_does(
    tx: &Tx<'_>,
    queue: &str,
    id: &TaskId,
    now: &str,
    overlap: Overlap,
) -> Result<Option<String>, SqlError> {
    let found = tx.conn.first(
        "SELECT state, at FROM tasks WHERE queue = ? AND id = ?",
        [queue, id.as_str()],
        // A task in an unreadable state does not block.
        |row| Ok((rows::state(row, 0).ok(), row.get::<_, i64>(1)?)),
    )?;
    let Some((Some(state), at)) = found else {
        return Ok(None);
    };
    let here = queue == now;
    Ok(match state {
        TaskState::Active if here || at > tx.now => Some("is active".to_owned()),
        TaskState::Pending | TaskState::Scheduled if here => Some(format!("is {state}")),
        TaskState::Retry if here && overlap.counts_retries() => {
            Some(format!("waits for its retry at {:.0}", instant(at)))
        }
        _ => None,
    })
}

fn decision(tx: &Tx<'_>, commit: &Commit, nominal: jiff::Timestamp, kind: DecisionKind, reason: String) -> Decision {
    Decision {
        schedule: commit.id.clone(),
        nominal,
        kind,
        reason,
        task: None,
        queue: None,
        end: None,
        count: 1,
        decided_at: instant(tx.now),
        instance: commit.instance.clone(),
    }
}

pub(super) fn record(tx: &Tx<'_>, decision: &Decision) -> Result<(), SqlError> {
    tx.conn.exec(
        "INSERT INTO decisions (schedule, nominal, kind, reason, task, count, decided_at, instance, queue) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            decision.schedule.as_str(),
            micros(decision.nominal),
            decision.kind.as_str(),
            decision.reason,
            decision.task.as_ref().map(TaskId::as_str),
            decision.count,
            micros(decision.decided_at),
            decision.instance,
            decision.queue.as_ref().map(QueueName::as_str),
        ],
    )?;
    Ok(())
}

/// Decisions, newest first; of one schedule, or of all.
pub(super) fn decisions(conn: &Connection, id: Option<&ScheduleId>, limit: usize) -> Result<Vec<Decision>, SqlError> {
    let limit = column(limit.min(MOST_DECISIONS) as u64);
    // An unreadable one is left out, as with Redis.
    let read = |row: &Row<'_>| Ok(decision_of(row).ok());
    let found = match id {
        Some(id) => conn.all(
            "SELECT schedule, nominal, kind, reason, task, count, decided_at, instance, queue, outcome, started_at, \
                ended_at FROM decisions WHERE schedule = ? ORDER BY seq DESC LIMIT ?",
            params![id.as_str(), limit],
            read,
        )?,
        None => conn.all(
            "SELECT schedule, nominal, kind, reason, task, count, decided_at, instance, queue, outcome, started_at, \
                ended_at FROM decisions ORDER BY seq DESC LIMIT ?",
            [limit],
            read,
        )?,
    };
    Ok(found.into_iter().flatten().collect())
}

/// A decision from its row: columns in the order in which [`record`] writes them, then the end of its task.
fn decision_of(row: &Row<'_>) -> Result<Decision, SqlError> {
    let word: String = row.get(2)?;
    let kind = DecisionKind::from_word(&word).ok_or_else(|| SqlError::Decode(format!("no decision: {word}").into()))?;
    let has_task = row.get::<_, Option<String>>(4)?.is_some();
    Ok(Decision {
        schedule: ScheduleId::from_text(row.get::<_, String>(0)?),
        nominal: instant(row.get(1)?),
        kind,
        reason: row.get(3)?,
        task: has_task.then(|| rows::task_id(row, 4)).transpose()?,
        queue: rows::queue_name(row, 8).ok(),
        end: runs::end_of(row, 9),
        count: u32::try_from(row.get::<_, i64>(5)?).unwrap_or(u32::MAX),
        decided_at: instant(row.get(6)?),
        instance: row.get(7)?,
    })
}
