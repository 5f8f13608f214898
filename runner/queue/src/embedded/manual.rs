//! Runs of a schedule by hand: the task and its decision, unless another run has not ended.
//!
//! Not here: which earlier runs block it, which is the same for occurrences (`schedule`).

use async_trait::async_trait;

use super::link::SqlError;
use super::produce::enqueue_one;
use super::rows::instant;
use super::schedule::{Kept, on_record, read, record, trim, unfinished};
use super::store::sql;
use super::writer::{Tx, Write};
use crate::{Decision, DecisionKind, Enqueued, ManualRun, ManuallyRun};

/// Enqueues a task because a person asks for it.
pub(super) struct RunNow(pub(super) ManualRun);

#[async_trait]
impl Write for RunNow {
    type Output = ManuallyRun;
    const DOING: &'static str = "run a schedule by hand";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<ManuallyRun, SqlError> {
        let run = &self.0;
        let known = read(&mut *tx.conn, &run.id).await?;
        let tasks = known.as_ref().map_or([None, None], Kept::tasks);
        if let Some((_, task, what)) = unfinished(tx, &tasks, &run.task.queue, run.overlap).await? {
            return Ok(ManuallyRun::Busy { task, what });
        }
        let enqueued = match run.task.check() {
            Ok(()) => enqueue_one(tx, &run.task).await?,
            Err(invalid) => Err(invalid.into()),
        };
        let task = match enqueued {
            Ok(Enqueued { id, .. }) => id,
            Err(refusal) => return Ok(ManuallyRun::Refused(refusal)),
        };
        let queue = &run.task.queue;
        // At first sight it stands at the present, and does so when a scheduler registers it.
        sql("INSERT INTO schedules (id, revision, cursor, unbroken_since) VALUES (?1, '', ?2, ?2) ON CONFLICT DO NOTHING")
            .bind(run.id.as_str().to_owned())
            .bind(tx.now)
            .execute(&mut *tx.conn)
            .await?;
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
        record(tx, &decision).await?;
        let before = on_record(tx, &run.id, known.map_or(0, |known| known.decisions), 1).await?;
        let on_record = trim(tx, &run.id, before + 1).await?;
        sql("UPDATE schedules SET manual_queue = ?1, manual_task = ?2, decisions = ?3, decided_at = ?4 WHERE id = ?5")
            .bind(queue.as_str().to_owned())
            .bind(task.as_str().to_owned())
            .bind(on_record)
            .bind(tx.now)
            .bind(run.id.as_str().to_owned())
            .execute(&mut *tx.conn)
            .await?;
        Ok(ManuallyRun::Done(decision))
    }
}
