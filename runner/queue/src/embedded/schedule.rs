//! The scheduler's side: cursors, the commit that enqueues and decides in one transaction, the leader.
//!
//! Not here: runs by hand (`manual`) and pauses (`pause`).

use std::time::Duration;

use async_trait::async_trait;
use runner_core::schedule::{Overlap, ScheduleId, Span};
use runner_core::task::{QueueName, State, TaskId};

use super::cells::Row;
use super::held::note_corrections;
use super::link::{Executor, SqlError};
use super::produce::enqueue_one;
use super::rows::{self, instant, micros, span};
use super::runs;
use super::store::sql;
use super::writer::{Tx, Write};
use crate::{
    CURSOR_AHEAD, Commit, CommitFire, Committed, Decision, DecisionKind, Enqueued, HOLD_AT_MOST, Pause, Refusal,
    Registration, Standing,
};

/// How much before its instant a fire may be committed: instances measure the broker's clock over a wire.
const EARLY: i64 = 50_000;

/// Decisions on record of one schedule, as many as over Redis: a busy one pushes out none but its own.
const RECORDED: i64 = 200;

/// So many beyond that are deleted together, instead of one with each fire.
const BEYOND: i64 = 50;

/// Decisions deleted with one commit, at most: of an older file there may be more.
const TRIMMED: i64 = 1_000;

pub(super) struct Kept {
    pub(super) standing: Standing,
    revision: String,
    last_queue: Option<String>,
    /// Queue and id of the last task that a person asked for.
    manual: Option<(String, TaskId)>,
    /// Decisions on record.
    pub(super) decisions: i64,
    /// From when on every occurrence up to the cursor was decided as it came.
    unbroken_since: Option<i64>,
    withdrawn: bool,
}

pub(super) async fn read(on: impl Executor, id: &ScheduleId) -> Result<Option<Kept>, SqlError> {
    let row = sql(
        "SELECT cursor, revision, paused_at, paused_by, last_nominal, last_queue, last_task, ahead, \
         unbroken_since, withdrawn_at, decisions, manual_queue, manual_task, paused_note, paused_until \
         FROM schedules WHERE id = ?",
    )
    .bind(id.as_str().to_owned())
    .fetch_optional(on)
    .await?;
    row.as_ref().map(kept).transpose()
}

/// What cannot be read of it counts as absent: one row must not keep the other schedules from their commits.
fn kept(row: &Row) -> Result<Kept, SqlError> {
    let paused_at: Option<i64> = row.try_get(2)?;
    let by: Option<String> = row.try_get(3).unwrap_or_default();
    let nominal: Option<i64> = row.try_get(4)?;
    let task: Option<String> = row.try_get(6).unwrap_or_default();
    let ahead: Option<String> = row.try_get(7).unwrap_or_default();
    Ok(Kept {
        standing: Standing {
            cursor: instant(row.try_get(0)?),
            paused: paused_at.map(|at| pause(row, at, by)),
            last: nominal.map(instant).zip(task.and_then(|task| rows::task_id(task).ok())),
            ahead: ahead.unwrap_or_default().parse().unwrap_or_default(),
            was: None,
        },
        revision: row.try_get(1).unwrap_or_default(),
        last_queue: row.try_get(5).unwrap_or_default(),
        unbroken_since: row.try_get(8).unwrap_or_default(),
        withdrawn: row.try_get::<Option<i64>>(9).unwrap_or_default().is_some(),
        decisions: row.try_get(10)?,
        manual: by_hand(row),
    })
}

fn pause(row: &Row, at: i64, by: Option<String>) -> Pause {
    let note: Option<String> = row.try_get(13).unwrap_or_default();
    let until: Option<i64> = row.try_get(14).unwrap_or_default();
    let pause = Pause {
        at: Some(instant(at)),
        until: until.map(instant),
        ..Pause::by(by.unwrap_or_else(|| "unknown".to_owned()))
    };
    pause.because(note.as_deref())
}

fn by_hand(row: &Row) -> Option<(String, TaskId)> {
    let queue: Option<String> = row.try_get(11).unwrap_or_default();
    let task: Option<String> = row.try_get(12).unwrap_or_default();
    queue.zip(task.and_then(|task| rows::task_id(task).ok()))
}

/// Where one schedule stands.
pub(super) async fn standing(on: impl Executor, id: &ScheduleId) -> Result<Option<Standing>, SqlError> {
    Ok(read(on, id).await?.map(|kept| kept.standing))
}

/// Makes schedules known.
pub(super) struct Register(pub(super) Vec<Registration>);

#[async_trait]
impl Write for Register {
    type Output = Vec<Standing>;
    const DOING: &'static str = "register schedules";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, SqlError> {
        let mut standings = Vec::with_capacity(self.0.len());
        let (mut corrected, mut furthest) = (0, 0);
        for registration in &self.0 {
            let standing = register_one(tx, registration).await?;
            if let Some(was) = standing.was {
                corrected += 1;
                furthest = furthest.max(seconds_ahead(tx, was));
            }
            standings.push(standing);
        }
        if corrected > 0 {
            note_corrections(tx, furthest, corrected).await?;
        }
        Ok(standings)
    }
}

/// How far before an instant the present is.
fn seconds_ahead(tx: &Tx<'_>, at: jiff::Timestamp) -> i64 {
    at.duration_since(instant(tx.now)).as_secs()
}

async fn register_one(tx: &mut Tx<'_>, registration: &Registration) -> Result<Standing, SqlError> {
    let known = read(&mut *tx.conn, &registration.id).await?;
    let latest = tx.now.saturating_add(span(CURSOR_AHEAD));
    let mut was = None;
    let cursor = match &known {
        Some(known) if micros(known.standing.cursor) > latest => {
            was = Some(known.standing.cursor);
            correct(tx, registration, known).await?;
            tx.now
        }
        Some(known) if known.revision == registration.revision && !known.withdrawn => {
            return Ok(known.standing.clone());
        }
        Some(known) => micros(known.standing.cursor).max(tx.now),
        None => tx.now,
    };
    sql(
        "INSERT INTO schedules (id, revision, cursor, unbroken_since) VALUES (?1, ?2, ?3, ?3) \
         ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, cursor = excluded.cursor, \
             unbroken_since = excluded.unbroken_since, withdrawn_at = NULL",
    )
    .bind(registration.id.as_str().to_owned())
    .bind(registration.revision.clone())
    .bind(cursor)
    .execute(&mut *tx.conn)
    .await?;
    let now_known = read(&mut *tx.conn, &registration.id).await?;
    let standing = now_known.ok_or(SqlError::RowNotFound)?.standing;
    Ok(Standing { was, ..standing })
}

/// Puts on record that the cursor was ahead, and remembers what was decided up to there.
async fn correct(tx: &mut Tx<'_>, registration: &Registration, known: &Kept) -> Result<(), SqlError> {
    let cursor = known.standing.cursor;
    let now = instant(tx.now);
    // A schedule that an older program registered has only its last fire to go by.
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
    record(tx, &decision).await?;
    sql("UPDATE schedules SET ahead = ?, decisions = decisions + 1, decided_at = ? WHERE id = ?")
        .bind((!ahead.is_empty()).then(|| ahead.to_string()))
        .bind(tx.now)
        .bind(registration.id.as_str().to_owned())
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}

/// Takes what was decided into effect.
pub(super) struct Commits(pub(super) Vec<Commit>);

#[async_trait]
impl Write for Commits {
    type Output = Vec<Committed>;
    const DOING: &'static str = "commit occurrences";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, SqlError> {
        let mut answers = Vec::with_capacity(self.0.len());
        for commit in &self.0 {
            answers.push(commit_one(tx, commit).await?);
        }
        Ok(answers)
    }
}

async fn commit_one(tx: &mut Tx<'_>, commit: &Commit) -> Result<Committed, SqlError> {
    let Some(known) = read(&mut *tx.conn, &commit.id).await? else {
        return Ok(Committed::Unknown);
    };
    if known.withdrawn {
        return Ok(Committed::Unknown);
    }
    // Instants are kept in microseconds: compare what is kept.
    if micros(known.standing.cursor) != micros(commit.from) {
        return Ok(Committed::Moved(known.standing.cursor));
    }
    if known.standing.paused.is_some() {
        return Ok(Committed::Paused);
    }
    let ahead = &known.standing.ahead;
    if commit.fires.iter().any(|fire| ahead.span_of(fire.nominal).is_some()) {
        return Ok(Committed::Ahead(ahead.clone()));
    }
    let latest = commit.fires.iter().map(|f| micros(f.fire_at)).max();
    let wait = latest.map_or(0, |at| at.saturating_sub(tx.now));
    if wait > EARLY {
        return Ok(Committed::Early(Duration::from_micros(rows::count(wait))));
    }
    let mut tasks = known.tasks();
    let mut decisions = Vec::with_capacity(commit.fires.len() + 1);
    if let Some(missed) = commit.missed {
        let reason = format!("too late, from {}{}", missed.first, missed.note());
        let mut decision = decision(tx, commit, missed.last, DecisionKind::Missed, reason);
        decision.count = missed.count;
        record(tx, &decision).await?;
        decisions.push(decision);
    }
    for fire in &commit.fires {
        let decided = fire_one(tx, commit, fire, &mut tasks).await?;
        record(tx, &decided).await?;
        decisions.push(decided);
    }
    let new = decisions.len();
    let before = on_record(tx, &commit.id, known.decisions, new).await?;
    let on_record = trim(tx, &commit.id, before + rows::column(new as u64)).await?;
    sql(
        "UPDATE schedules SET cursor = max(cursor, ?1), decisions = ?2, decided_at = iif(?3 > 0, ?4, decided_at), \
             unbroken_since = coalesce(?5, unbroken_since) \
         WHERE id = ?6",
    )
    .bind(micros(commit.to))
    .bind(on_record)
    .bind(rows::column(new as u64))
    .bind(tx.now)
    .bind(commit.unbroken_since().map(micros))
    .bind(commit.id.as_str().to_owned())
    .execute(&mut *tx.conn)
    .await?;
    Ok(Committed::Done(decisions))
}

/// How many decisions were on record before these `new` ones: by the count that is kept, or, if that cannot be, counted.
pub(super) async fn on_record(tx: &mut Tx<'_>, id: &ScheduleId, known: i64, new: usize) -> Result<i64, SqlError> {
    if (0..=RECORDED + BEYOND + TRIMMED).contains(&known) {
        return Ok(known);
    }
    let row = sql("SELECT count(*) FROM decisions WHERE schedule = ?")
        .bind(id.as_str().to_owned())
        .fetch_one(&mut *tx.conn)
        .await?;
    Ok(row.try_get::<i64>(0)?.saturating_sub(rows::column(new as u64)))
}

/// Deletes the oldest decisions of a schedule that has so many on record; how many it has then.
pub(super) async fn trim(tx: &mut Tx<'_>, id: &ScheduleId, on_record: i64) -> Result<i64, SqlError> {
    if on_record < RECORDED + BEYOND {
        return Ok(on_record);
    }
    let gone =
        sql("DELETE FROM decisions WHERE seq IN (SELECT seq FROM decisions WHERE schedule = ? ORDER BY seq LIMIT ?)")
            .bind(id.as_str().to_owned())
            .bind((on_record - RECORDED).min(TRIMMED))
            .execute(&mut *tx.conn)
            .await?
            .rows_affected();
    tx.trimmed += gone;
    Ok(on_record - rows::column(gone))
}

async fn fire_one(
    tx: &mut Tx<'_>,
    commit: &Commit,
    fire: &CommitFire,
    tasks: &mut [Option<(String, TaskId)>; 2],
) -> Result<Decision, SqlError> {
    let decide = |tx: &Tx<'_>, kind, reason| decision(tx, commit, fire.nominal, kind, reason);
    if let Some((queue, previous, what)) = unfinished(tx, tasks, &fire.task.queue, commit.overlap).await? {
        let unserved = match commit.unserved {
            true => "; no live server serves its queue",
            false => "",
        };
        let reason = format!("overlap: previous task {previous} {what}{unserved}");
        let mut skipped = decide(tx, DecisionKind::Skipped, reason);
        skipped.task = Some(previous);
        skipped.queue = rows::queue_name(queue).ok();
        return Ok(skipped);
    }
    let on_time = if fire.catch_up { "catch_up" } else { "on_time" };
    let enqueued = match fire.task.check() {
        Ok(()) => enqueue_one(tx, &fire.task).await?,
        Err(invalid) => Err(invalid.into()),
    };
    let (id, reason) = match enqueued {
        Ok(Enqueued { id, .. }) => (id, on_time.to_owned()),
        Err(Refusal::IdTaken) => {
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
    sql("UPDATE schedules SET last_nominal = ?, last_queue = ?, last_task = ? WHERE id = ?")
        .bind(micros(fire.nominal))
        .bind(queue.clone())
        .bind(id.as_str().to_owned())
        .bind(commit.id.as_str().to_owned())
        .execute(&mut *tx.conn)
        .await?;
    tasks[0] = Some((queue, id.clone()));
    let mut fired = decide(tx, DecisionKind::Fired, reason);
    fired.task = Some(id);
    fired.queue = Some(fire.task.queue.clone());
    Ok(fired)
}

impl Kept {
    /// Queues and ids of the tasks that may stand in the way: that of the last fire, and the last one by hand.
    pub(super) fn tasks(&self) -> [Option<(String, TaskId)>; 2] {
        let last = self.standing.last.as_ref().map(|(_, task)| task.clone());
        [self.last_queue.clone().zip(last), self.manual.clone()]
    }
}

/// The first of these tasks that can still run, and what it does.
pub(super) async fn unfinished(
    tx: &mut Tx<'_>,
    tasks: &[Option<(String, TaskId)>; 2],
    queue: &QueueName,
    overlap: Overlap,
) -> Result<Option<(String, TaskId, String)>, SqlError> {
    if !overlap.skips() {
        return Ok(None);
    }
    for (at, task) in tasks.iter().flatten() {
        if let Some(what) = what_it_does(tx, at, task, queue.as_str(), overlap).await? {
            return Ok(Some((at.clone(), task.clone(), what)));
        }
    }
    Ok(None)
}

/// What a task does that can still run, for the overlap policy: it waits or is due in the queue that the schedule names
/// `now`, or a worker holds it. One that waits in another queue was left behind by an edit; perhaps nothing serves that
/// queue, and the schedule would never fire again.
async fn what_it_does(
    tx: &mut Tx<'_>,
    queue: &str,
    id: &TaskId,
    now: &str,
    overlap: Overlap,
) -> Result<Option<String>, SqlError> {
    let row = sql("SELECT state, at FROM tasks WHERE queue = ? AND id = ?")
        .bind(queue.to_owned())
        .bind(id.as_str().to_owned())
        .fetch_optional(&mut *tx.conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    // Of a state that cannot be read nobody knows that it stands in the way.
    let Some(state) = row.try_get(0).ok().and_then(|word| rows::state(word).ok()) else {
        return Ok(None);
    };
    let at: i64 = row.try_get(1)?;
    let here = queue == now;
    Ok(match state {
        State::Active if here || at > tx.now => Some("is active".to_owned()),
        State::Pending | State::Scheduled if here => Some(format!("is {state}")),
        State::Retry if here && overlap.counts_retries() => Some(format!("waits for its retry at {:.0}", instant(at))),
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

pub(super) async fn record(tx: &mut Tx<'_>, decision: &Decision) -> Result<(), SqlError> {
    sql(
        "INSERT INTO decisions (schedule, nominal, kind, reason, task, count, decided_at, instance, queue) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(decision.schedule.as_str().to_owned())
    .bind(micros(decision.nominal))
    .bind(decision.kind.as_str())
    .bind(decision.reason.clone())
    .bind(decision.task.as_ref().map(|t| t.as_str().to_owned()))
    .bind(i64::from(decision.count))
    .bind(micros(decision.decided_at))
    .bind(decision.instance.clone())
    .bind(decision.queue.as_ref().map(|queue| queue.as_str().to_owned()))
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}

/// A decision from its row: columns in the order in which [`record`] writes them, then the end of its task.
pub(super) fn decision_of(row: &Row) -> Result<Decision, SqlError> {
    let word: &str = row.try_get(2)?;
    let kind = DecisionKind::from_word(word).ok_or_else(|| SqlError::Decode(format!("no decision: {word}").into()))?;
    let queue: Option<String> = row.try_get(8)?;
    Ok(Decision {
        schedule: ScheduleId::from_text(row.try_get::<String>(0)?),
        nominal: instant(row.try_get(1)?),
        kind,
        reason: row.try_get(3)?,
        task: row.try_get::<Option<String>>(4)?.map(rows::task_id).transpose()?,
        queue: queue.and_then(|name| rows::queue_name(name).ok()),
        end: runs::end_of(row, 9),
        count: u32::try_from(row.try_get::<i64>(5)?).unwrap_or(u32::MAX),
        decided_at: instant(row.try_get(6)?),
        instance: row.try_get(7)?,
    })
}

/// Tries to be or stay the leader; without a length gives it up.
pub(super) struct Lead {
    pub(super) instance: String,
    pub(super) ttl: Option<Duration>,
}

#[async_trait]
impl Write for Lead {
    type Output = bool;
    const DOING: &'static str = "settle who leads";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<bool, SqlError> {
        let query = match self.ttl {
            Some(ttl) => sql("INSERT INTO leader (one, instance, expires_at) VALUES (1, ?1, ?2) \
                 ON CONFLICT (one) DO UPDATE SET instance = excluded.instance, \
                     expires_at = excluded.expires_at \
                 WHERE leader.instance = excluded.instance OR leader.expires_at <= ?3 \
                     OR leader.expires_at > ?4")
            .bind(self.instance.clone())
            .bind(tx.now.saturating_add(span(ttl)))
            .bind(tx.now)
            // Written while the clock was wrong.
            .bind(tx.now.saturating_add(span(HOLD_AT_MOST))),
            None => sql("DELETE FROM leader WHERE instance = ?").bind(self.instance.clone()),
        };
        Ok(query.execute(&mut *tx.conn).await?.rows_affected() > 0)
    }
}
