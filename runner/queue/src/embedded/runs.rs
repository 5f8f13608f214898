//! What is remembered of runs when their tasks are gone: written where claims end, read by pages and commands.

use async_trait::async_trait;
use runner_core::schedule::ScheduleId;
use runner_core::task::{QueueName, RunOutcome, TaskId};

use super::EmbeddedBroker;
use super::cells::Row;
use super::link::SqlError;
use super::rows::{column, instant, micros, span, to_json};
use super::store::{error, sql};
use super::writer::Tx;
use crate::seam::Trace;
use crate::{BrokerResult, FiredTask, MAX_RUNS_KEPT, RUNS_KEPT_FOR, RunEnd, RunRecord, Runs};

/// Records of runs that are deleted with one new one, at most: there are more only of functions that are gone.
const TRIMMED: i64 = 100;

/// Writes down what the end of a claim leaves behind.
pub(super) async fn leave(tx: &mut Tx<'_>, queue: &QueueName, task: &TaskId, trace: &Trace) -> Result<(), SqlError> {
    if let Some(schedule) = &trace.schedule {
        end(tx, schedule, task, trace.end).await?;
    }
    match &trace.record {
        Some(record) => keep(tx, queue, task, record).await,
        None => Ok(()),
    }
}

/// The decision is among the newest of its schedule, where the search begins.
async fn end(tx: &mut Tx<'_>, schedule: &ScheduleId, task: &TaskId, end: RunEnd) -> Result<(), SqlError> {
    sql(
        "UPDATE decisions SET outcome = ?1, started_at = ?2, ended_at = ?3 WHERE seq = \
         (SELECT seq FROM decisions WHERE schedule = ?4 AND task = ?5 AND kind IN ('fired', 'manual') \
          ORDER BY seq DESC LIMIT 1)",
    )
    .bind(end.outcome.as_str())
    .bind(micros(end.started_at))
    .bind(micros(end.ended_at))
    .bind(schedule.as_str().to_owned())
    .bind(task.as_str().to_owned())
    .execute(&mut *tx.conn)
    .await
    .map(drop)
}

async fn keep(tx: &mut Tx<'_>, queue: &QueueName, task: &TaskId, record: &RunRecord) -> Result<(), SqlError> {
    sql(
        "INSERT INTO runs (queue, task, function, ended_at, body) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (queue, task) DO UPDATE SET function = excluded.function, ended_at = excluded.ended_at, \
             body = excluded.body",
    )
    .bind(queue.as_str().to_owned())
    .bind(task.as_str().to_owned())
    .bind(record.function.clone())
    .bind(tx.now)
    .bind(to_json(record)?)
    .execute(&mut *tx.conn)
    .await?;
    let gone = sql("DELETE FROM runs WHERE rowid IN \
         (SELECT rowid FROM runs WHERE function = ?1 ORDER BY ended_at DESC LIMIT ?2 OFFSET ?3)")
    .bind(record.function.clone())
    .bind(TRIMMED)
    .bind(column(MAX_RUNS_KEPT as u64))
    .execute(&mut *tx.conn)
    .await?
    .rows_affected();
    tx.trimmed += gone;
    Ok(())
}

/// Deletes records that have been kept for their time.
pub(super) async fn expire(tx: &mut Tx<'_>) -> Result<(), SqlError> {
    let gone = sql("DELETE FROM runs WHERE rowid IN (SELECT rowid FROM runs WHERE ended_at < ? LIMIT ?)")
        .bind(tx.now.saturating_sub(span(RUNS_KEPT_FOR)))
        .bind(TRIMMED)
        .execute(&mut *tx.conn)
        .await?
        .rows_affected();
    tx.trimmed += gone;
    Ok(())
}

/// The end of a task from the columns outcome, started_at, ended_at, the first of which is this one.
pub(super) fn end_of(row: &Row, first: usize) -> Option<RunEnd> {
    let outcome: String = row.try_get::<Option<String>>(first).ok()??;
    let started_at: i64 = row.try_get::<Option<i64>>(first + 1).ok()??;
    let ended_at: i64 = row.try_get::<Option<i64>>(first + 2).ok()??;
    Some(RunEnd {
        outcome: RunOutcome::from_word(&outcome),
        started_at: instant(started_at),
        ended_at: instant(ended_at),
    })
}

fn record_of(row: &Row) -> Option<RunRecord> {
    serde_json::from_str(&row.try_get::<String>(0).ok()?).ok()
}

#[async_trait]
impl Runs for EmbeddedBroker {
    async fn runs(&self, function: &str, queues: &[QueueName], limit: usize) -> BrokerResult<Vec<RunRecord>> {
        const DOING: &str = "list the runs of a function";
        let rows = sql(
            "SELECT body FROM runs WHERE function = ? AND queue IN (SELECT value FROM json_each(?)) \
             ORDER BY ended_at DESC LIMIT ?",
        )
        .bind(function.to_owned())
        .bind(to_json(&queues).map_err(|e| error(DOING, e))?)
        .bind(column(limit.min(MAX_RUNS_KEPT) as u64))
        .fetch_all(self.readers())
        .await
        .map_err(|e| error(DOING, e))?;
        Ok(rows.iter().filter_map(record_of).collect())
    }

    async fn run(&self, queue: &QueueName, task: &TaskId) -> BrokerResult<Option<RunRecord>> {
        let row = sql("SELECT body FROM runs WHERE queue = ? AND task = ?")
            .bind(queue.as_str().to_owned())
            .bind(task.as_str().to_owned())
            .fetch_optional(self.readers())
            .await
            .map_err(|e| error("read the record of a run", e))?;
        Ok(row.as_ref().and_then(record_of))
    }

    async fn ends(&self, tasks: &[FiredTask]) -> BrokerResult<Vec<Option<RunEnd>>> {
        let mut ends = Vec::with_capacity(tasks.len());
        for task in tasks {
            let row = sql("SELECT outcome, started_at, ended_at FROM decisions \
                 WHERE schedule = ? AND task = ? AND kind IN ('fired', 'manual') ORDER BY seq DESC LIMIT 1")
            .bind(task.schedule.as_str().to_owned())
            .bind(task.task.as_str().to_owned())
            .fetch_optional(self.readers())
            .await
            .map_err(|e| error("ask how tasks of schedules ended", e))?;
            ends.push(row.as_ref().and_then(|row| end_of(row, 0)));
        }
        Ok(ends)
    }
}
