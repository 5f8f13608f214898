//! Manual runs of a schedule: the task and its decision, unless another run is unfinished.
//!
//! Not here: which earlier runs block it; that rule is the same for occurrences (`schedule`).

use rusqlite::params;

use super::connection::Statements as _;
use super::error::SqlError;
use super::put::enqueue_one;
use super::rows::instant;
use super::schedule::{StoredSchedule, on_record, read, record, trim, unfinished};
use super::writer::Tx;
use crate::{Decision, DecisionKind, Enqueued, ManualRun, ManuallyRun};

/// Enqueues a task because a person asks for it.
pub(super) fn run_now(tx: &mut Tx<'_>, run: &ManualRun) -> Result<ManuallyRun, SqlError> {
    let known = read(tx.conn, &run.id)?;
    let tasks = known.as_ref().map_or([None, None], StoredSchedule::tasks);
    if let Some((_, task, what)) = unfinished(tx, &tasks, &run.task.queue, run.overlap)? {
        return Ok(ManuallyRun::Busy { task, what });
    }
    let enqueued = match run.task.check() {
        Ok(()) => enqueue_one(tx, &run.task)?,
        Err(invalid) => Err(invalid.into()),
    };
    let task = match enqueued {
        Ok(Enqueued { id, .. }) => id,
        Err(refusal) => return Ok(ManuallyRun::Refused(refusal)),
    };
    let queue = &run.task.queue;
    // An unknown schedule gets the present as its cursor, as its registration would set it.
    tx.conn.exec(
        "INSERT INTO schedules (id, revision, cursor, unbroken_since) VALUES (?1, '', ?2, ?2) ON CONFLICT DO NOTHING",
        params![run.id.as_str(), tx.now],
    )?;
    let decision = Decision {
        schedule: run.id.clone(),
        nominal: instant(tx.now.div_euclid(1_000_000).saturating_mul(1_000_000)),
        kind: DecisionKind::Manual,
        reason: format!("by {}", run.by),
        task: Some(task.clone()),
        queue: Some(queue.clone()),
        end: None,
        count: 1,
        decided_at: instant(tx.now),
        instance: run.by.clone(),
    };
    record(tx, &decision)?;
    let before = on_record(tx, &run.id, known.map_or(0, |known| known.decisions), 1)?;
    let on_record = trim(tx, &run.id, before + 1)?;
    tx.conn.exec(
        "UPDATE schedules SET manual_queue = ?1, manual_task = ?2, decisions = ?3, decided_at = ?4 WHERE id = ?5",
        params![queue.as_str(), task.as_str(), on_record, tx.now, run.id.as_str()],
    )?;
    Ok(ManuallyRun::Done(decision))
}
