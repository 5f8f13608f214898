//! Records of attempts, and of runs, which outlive their tasks: written when claims end, read by pages and commands.

use async_trait::async_trait;
use runner_core::schedule::ScheduleId;
use runner_core::task::{AttemptOutcome, QueueName, TaskId};
use rusqlite::{Row, params};

use super::EmbeddedBroker;
use super::connection::Statements as _;
use super::error::SqlError;
use super::rows::{self, column, instant, micros, span, to_json};
use super::writer::Tx;
use crate::seam::Trace;
use crate::{
    Attempt, BrokerResult, FiredTask, MAX_ATTEMPTS_KEPT, MAX_RUNS_KEPT, OUTPUTS_KEPT_FOR, RUNS_KEPT_FOR, RunEnd,
    RunRecord, Runs,
};

/// Records of runs deleted with each new one, at most: more exist only of functions that are gone.
const TRIMMED: i64 = 100;

/// Records the end of a claim.
pub(super) fn record_end(tx: &mut Tx<'_>, queue: &QueueName, task: &TaskId, trace: &Trace) -> Result<(), SqlError> {
    if let Some(schedule) = &trace.schedule {
        end_decision(tx, schedule, task, trace.end)?;
    }
    match &trace.record {
        Some(record) => record_run(tx, queue, task, record),
        None => Ok(()),
    }
}

/// Searches the newest decisions of the schedule first, because the task's is among them.
fn end_decision(tx: &Tx<'_>, schedule: &ScheduleId, task: &TaskId, end: RunEnd) -> Result<(), SqlError> {
    tx.conn.exec(
        "UPDATE decisions SET outcome = ?1, started_at = ?2, ended_at = ?3 WHERE seq = \
         (SELECT seq FROM decisions WHERE schedule = ?4 AND task = ?5 AND kind IN ('fired', 'manual') \
          ORDER BY seq DESC LIMIT 1)",
        params![
            end.outcome.as_str(),
            micros(end.started_at),
            micros(end.ended_at),
            schedule.as_str(),
            task.as_str(),
        ],
    )?;
    Ok(())
}

fn record_run(tx: &mut Tx<'_>, queue: &QueueName, task: &TaskId, record: &RunRecord) -> Result<(), SqlError> {
    tx.conn.exec(
        "INSERT INTO runs (queue, task, function, ended_at, body) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (queue, task) DO UPDATE SET function = excluded.function, ended_at = excluded.ended_at, \
             body = excluded.body",
        params![queue.as_str(), task.as_str(), record.function, tx.now, to_json(record)?],
    )?;
    tx.trimmed += tx.conn.exec(
        "DELETE FROM runs WHERE rowid IN \
         (SELECT rowid FROM runs WHERE function = ?1 ORDER BY ended_at DESC LIMIT ?2 OFFSET ?3)",
        params![record.function, TRIMMED, column(MAX_RUNS_KEPT as u64)],
    )?;
    Ok(())
}

/// Adds to the records of a task's attempts; only the last ones are kept.
pub(super) fn record_attempt(tx: &Tx<'_>, seq: i64, attempt: &Attempt) -> Result<(), SqlError> {
    tx.conn.exec(
        "INSERT INTO attempts (task, body) VALUES (?, ?)",
        params![seq, to_json(attempt)?],
    )?;
    tx.conn.exec(
        "DELETE FROM attempts WHERE task = ?1 AND seq <= \
         (SELECT seq FROM attempts WHERE task = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)",
        [seq, column(MAX_ATTEMPTS_KEPT as u64)],
    )?;
    Ok(())
}

/// Deletes expired records.
pub(super) fn expire(tx: &mut Tx<'_>) -> Result<(), SqlError> {
    tx.trimmed += tx.conn.exec(
        "DELETE FROM runs WHERE rowid IN (SELECT rowid FROM runs WHERE ended_at < ? LIMIT ?)",
        [tx.now.saturating_sub(span(RUNS_KEPT_FOR)), TRIMMED],
    )?;
    tx.trimmed += tx.conn.exec(
        "DELETE FROM run_outputs WHERE rowid IN (SELECT rowid FROM run_outputs WHERE kept_at < ? LIMIT ?)",
        [tx.now.saturating_sub(span(OUTPUTS_KEPT_FOR)), TRIMMED],
    )?;
    Ok(())
}

/// The end of a task from the columns outcome, started_at, ended_at; `None` if one is missing or unreadable.
pub(super) fn end_of(row: &Row<'_>, first: usize) -> Option<RunEnd> {
    let outcome: String = row.get(first).ok()?;
    let started_at: i64 = row.get(first + 1).ok()?;
    let ended_at: i64 = row.get(first + 2).ok()?;
    Some(RunEnd {
        outcome: AttemptOutcome::from_word(&outcome),
        started_at: instant(started_at),
        ended_at: instant(ended_at),
    })
}

/// `None` if it is unreadable.
fn record_of(row: &Row<'_>) -> Option<RunRecord> {
    rows::json(&row.get::<_, String>(0).ok()?).ok()
}

#[async_trait]
impl Runs for EmbeddedBroker {
    async fn runs(&self, function: &str, queues: &[QueueName], limit: usize) -> BrokerResult<Vec<RunRecord>> {
        let (function, queues) = (function.to_owned(), queues.to_vec());
        let limit = column(limit.min(MAX_RUNS_KEPT) as u64);
        let list = move |conn: &rusqlite::Connection| {
            let found = conn.all(
                "SELECT body FROM runs WHERE function = ? AND queue IN (SELECT value FROM json_each(?)) \
                 ORDER BY ended_at DESC LIMIT ?",
                params![function, to_json(&queues)?, limit],
                |row| Ok(record_of(row)),
            )?;
            Ok(found.into_iter().flatten().collect())
        };
        self.readers.query("list the runs of a function", list).await
    }

    async fn run(&self, queue: &QueueName, task: &TaskId) -> BrokerResult<Option<RunRecord>> {
        let (queue, task) = (queue.clone(), task.clone());
        let read = move |conn: &rusqlite::Connection| {
            let found = conn.first(
                "SELECT body FROM runs WHERE queue = ? AND task = ?",
                [queue.as_str(), task.as_str()],
                |row| Ok(record_of(row)),
            )?;
            Ok(found.flatten())
        };
        self.readers.query("read the record of a run", read).await
    }

    async fn keep_output(&self, queue: &QueueName, task: &TaskId, packed: Vec<u8>) -> BrokerResult<()> {
        let (queue, task) = (queue.clone(), task.clone());
        let keep = move |tx: &mut Tx<'_>| {
            tx.conn.exec(
                "INSERT INTO run_outputs (queue, task, kept_at, body) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (queue, task) DO UPDATE SET kept_at = excluded.kept_at, body = excluded.body",
                params![queue.as_str(), task.as_str(), tx.now, packed],
            )?;
            Ok(())
        };
        self.writer.write_unsynced("keep the output of a run", keep).await
    }

    async fn output(&self, queue: &QueueName, task: &TaskId) -> BrokerResult<Option<Vec<u8>>> {
        let (queue, task) = (queue.clone(), task.clone());
        let read = move |conn: &rusqlite::Connection| {
            let found = conn.first(
                "SELECT body FROM run_outputs WHERE queue = ? AND task = ?",
                [queue.as_str(), task.as_str()],
                |row| Ok(row.get::<_, Vec<u8>>(0).ok()),
            )?;
            Ok(found.flatten())
        };
        self.readers.query("read the output of a run", read).await
    }

    async fn ends(&self, tasks: &[FiredTask]) -> BrokerResult<Vec<Option<RunEnd>>> {
        let tasks = tasks.to_vec();
        let read = move |conn: &rusqlite::Connection| {
            let end = |task: &FiredTask| {
                let found = conn.first(
                    "SELECT outcome, started_at, ended_at FROM decisions \
                     WHERE schedule = ? AND task = ? AND kind IN ('fired', 'manual') ORDER BY seq DESC LIMIT 1",
                    [task.schedule.as_str(), task.task.as_str()],
                    |row| Ok(end_of(row, 0)),
                )?;
                Ok(found.flatten())
            };
            tasks.iter().map(end).collect()
        };
        self.readers.query("ask how tasks of schedules ended", read).await
    }
}
