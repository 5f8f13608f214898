//! Pauses of schedules. Ending one records the missed occurrences and moves the cursor in one step.
//!
//! Not here: what a pause is (`seam::pause`), and pauses of queues.

use runner_core::schedule::ScheduleId;
use rusqlite::params;

use super::connection::Statements as _;
use super::error::SqlError;
use super::rows::{instant, micros};
use super::schedule::{on_record, read, record, trim};
use super::writer::Tx;
use crate::{Decision, DecisionKind, Pause, Resume, Resumed};

/// Pauses a schedule.
pub(super) fn pause_schedule(tx: &Tx<'_>, id: &ScheduleId, pause: &Pause) -> Result<(), SqlError> {
    tx.conn.exec(
        "UPDATE schedules SET paused_at = ?, paused_by = ?, paused_note = ?, paused_until = ? WHERE id = ?",
        params![
            pause.at.map_or(tx.now, micros),
            pause.by,
            pause.note,
            pause.until.map(micros),
            id.as_str()
        ],
    )?;
    Ok(())
}

/// Resumes a schedule from the end of its pause.
pub(super) fn resume_schedule(tx: &mut Tx<'_>, resume: &Resume) -> Result<Resumed, SqlError> {
    let known = read(tx.conn, &resume.id)?;
    let Some(known) = known.filter(|row| row.standing.paused.is_some()) else {
        return Ok(Resumed::Running);
    };
    let cursor = micros(known.standing.cursor);
    if resume.cursor.is_some_and(|from| micros(from) != cursor) {
        return Ok(Resumed::Moved);
    }
    let end = resume.end.map_or(tx.now, micros).min(tx.now);
    let mut decisions = known.decisions;
    let decision = resume.paused.as_ref().map(|(range, reason)| Decision {
        schedule: resume.id.clone(),
        nominal: range.last,
        kind: DecisionKind::Paused,
        reason: reason.clone(),
        task: None,
        queue: None,
        end: None,
        count: range.count,
        decided_at: instant(tx.now),
        instance: resume.by.clone(),
    });
    if let Some(decision) = &decision {
        record(tx, decision)?;
        let before = on_record(tx, &resume.id, known.decisions, 1)?;
        decisions = trim(tx, &resume.id, before + 1)?;
    }
    tx.conn.exec(
        "UPDATE schedules SET paused_at = NULL, paused_by = NULL, paused_note = NULL, paused_until = NULL, \
             cursor = max(cursor, ?1), decisions = ?2, decided_at = iif(?3, ?4, decided_at) WHERE id = ?5",
        params![end, decisions, decision.is_some(), tx.now, resume.id.as_str()],
    )?;
    Ok(Resumed::Done(decision))
}
