//! Pauses of schedules: their beginning, and their end, which records what fell into them and moves the cursor in one step.
//!
//! Not here: what a pause is (`seam::pause`), and pauses of queues.

use async_trait::async_trait;
use runner_core::schedule::ScheduleId;

use super::link::SqlError;
use super::rows::{instant, micros};
use super::schedule::{on_record, read, record, trim};
use super::store::sql;
use super::writer::{Tx, Write};
use crate::{Decision, DecisionKind, Pause, Resume, Resumed};

/// Stops a schedule.
pub(super) struct Stop {
    pub(super) id: ScheduleId,
    pub(super) pause: Pause,
}

#[async_trait]
impl Write for Stop {
    type Output = ();
    const DOING: &'static str = "pause a schedule";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), SqlError> {
        let pause = &self.pause;
        sql("UPDATE schedules SET paused_at = ?, paused_by = ?, paused_note = ?, paused_until = ? WHERE id = ?")
            .bind(pause.at.map_or(tx.now, micros))
            .bind(pause.by.clone())
            .bind(pause.note.clone())
            .bind(pause.until.map(micros))
            .bind(self.id.as_str().to_owned())
            .execute(&mut *tx.conn)
            .await
            .map(drop)
    }
}

/// Lets a schedule go on from the end of its pause.
pub(super) struct GoOn(pub(super) Resume);

#[async_trait]
impl Write for GoOn {
    type Output = Resumed;
    const DOING: &'static str = "resume a schedule";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Resumed, SqlError> {
        let resume = &self.0;
        let Some(known) = read(&mut *tx.conn, &resume.id)
            .await?
            .filter(|k| k.standing.paused.is_some())
        else {
            return Ok(Resumed::Running);
        };
        if resume
            .cursor
            .is_some_and(|from| micros(from) != micros(known.standing.cursor))
        {
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
            record(tx, decision).await?;
            let before = on_record(tx, &resume.id, known.decisions, 1).await?;
            decisions = trim(tx, &resume.id, before + 1).await?;
        }
        sql(
            "UPDATE schedules SET paused_at = NULL, paused_by = NULL, paused_note = NULL, paused_until = NULL, \
                 cursor = max(cursor, ?1), decisions = ?2, decided_at = iif(?3, ?4, decided_at) WHERE id = ?5",
        )
        .bind(end)
        .bind(decisions)
        .bind(decision.is_some())
        .bind(tx.now)
        .bind(resume.id.as_str().to_owned())
        .execute(&mut *tx.conn)
        .await?;
        Ok(Resumed::Done(decision))
    }
}
