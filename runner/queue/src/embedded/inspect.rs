//! What the dashboard and the command line ask of queues and tasks.
//!
//! Not here: what they do (`act`, `remove`), groups (`group`), the past (`history`).

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use runner_core::task::{QueueName, Task, TaskId, TaskState};
use rusqlite::{Connection, Row, params};

use super::connection::Statements as _;
use super::error::SqlError;
use super::produce::lock_key;
use super::rows::{self, INFO, RECORD, column, count};
use super::tally::DAY;
use crate::{
    Attempt, GLANCE_BYTES, HEAD_BYTES, Lists, MAX_ATTEMPTS_KEPT, MAX_PENDING_TYPES, PendingType, QueueInfo, RawTask,
    TaskInfo, TaskPage,
};

/// All queues, or only those named.
pub(super) fn queues(conn: &Connection, now: i64, only: Option<&[QueueName]>) -> Result<Vec<QueueInfo>, SqlError> {
    let only = only.map(|names| rows::to_json(&names)).transpose()?;
    let found = conn.all(
        "SELECT q.name, q.pending, q.active, q.scheduled, q.retry, q.archived, q.completed, q.aggregating, \
             q.processed, q.failed, q.paused_at IS NOT NULL, \
             coalesce(d.processed, 0), coalesce(d.failed, 0), \
             (SELECT pending_since FROM tasks WHERE queue = q.name AND state = 'pending' \
              ORDER BY at, seq LIMIT 1) \
         FROM queues q LEFT JOIN day_counts d ON d.day = ?1 AND d.queue = q.name \
         WHERE ?2 IS NULL OR q.name IN (SELECT value FROM json_each(?2)) ORDER BY q.name",
        params![now.div_euclid(DAY), only],
        |row| queue_info(row, now),
    )?;
    Ok(found.into_iter().flatten().collect())
}

/// `None` if its name cannot be a queue's: no task can be enqueued to it, and the page does not fail for it.
fn queue_info(row: &Row<'_>, now: i64) -> Result<Option<QueueInfo>, SqlError> {
    let number = |place: usize| row.get::<_, i64>(place).map(count);
    let mut counts = BTreeMap::new();
    for (place, state) in TaskState::ALL.into_iter().enumerate() {
        counts.insert(state, number(place + 1)?);
    }
    let since: Option<i64> = row.get(13)?;
    let waited = since.map_or(0, |since| count(now.saturating_sub(since)));
    let Ok(name) = rows::queue_name(row, 0) else {
        return Ok(None);
    };
    Ok(Some(QueueInfo {
        name,
        counts,
        processed: number(8)?,
        failed: number(9)?,
        paused: row.get(10)?,
        processed_today: number(11)?,
        failed_today: number(12)?,
        latency: Duration::from_micros(waited),
    }))
}

pub(super) fn queue_names(conn: &Connection) -> Result<Vec<QueueName>, SqlError> {
    let names: Vec<String> = conn.values("SELECT name FROM queues ORDER BY name", [])?;
    Ok(names.into_iter().filter_map(|name| QueueName::new(name).ok()).collect())
}

/// Those of the queues that have anything on these lists.
pub(super) fn having(conn: &Connection, queues: &[QueueName], lists: Lists) -> Result<Vec<QueueName>, SqlError> {
    let sum = match lists {
        Lists::Pending => "pending",
        Lists::Delayed => "scheduled + retry",
        Lists::Active => "active",
        Lists::Ended => "completed + archived",
        // Sets that are being put together are in no sum.
        Lists::Grouped => "aggregating + EXISTS (SELECT 1 FROM staged_sets s WHERE s.queue = q.name)",
        Lists::Any => {
            "pending + scheduled + retry + active + completed + archived + aggregating + \
             EXISTS (SELECT 1 FROM staged_sets s WHERE s.queue = q.name)"
        }
    };
    let text = format!("SELECT q.name FROM queues q WHERE {sum} > 0");
    let having: HashSet<String> = conn.values(&text, [])?.into_iter().collect();
    let queues = queues.iter().filter(|queue| having.contains(queue.as_str()));
    Ok(queues.cloned().collect())
}

/// One page of the tasks of a state; `(skip, size)` says which.
pub(super) fn page(
    conn: &Connection,
    queue: &QueueName,
    state: TaskState,
    (skip, size): (i64, i64),
) -> Result<TaskPage, SqlError> {
    // Active tasks lie in the order of the ends of their leases, and are shown as they were claimed.
    let order = match state {
        TaskState::Active => "t.run",
        TaskState::Archived | TaskState::Completed => "t.at DESC, t.seq DESC",
        _ => "t.at, t.seq",
    };
    let text = format!(
        "SELECT {} FROM tasks t WHERE t.queue = ?1 AND {} ORDER BY {order} LIMIT ?2 OFFSET ?3",
        rows::columns_cut_to(HEAD_BYTES),
        rows::on_list(state)
    );
    let found = conn.all(&text, params![queue.as_str(), size, skip], rows::listed)?;
    let total = conn.first(
        &format!("SELECT {state} FROM queues WHERE name = ?"),
        [queue.as_str()],
        |row| Ok(row.get(0)?),
    )?;
    Ok(rows::page_of(found, total.map_or(0, count)))
}

/// A task by the bytes of its id, readable or not.
pub(super) fn raw_task(conn: &Connection, queue: &QueueName, id: &[u8]) -> Result<Option<RawTask>, SqlError> {
    let text = format!(
        "SELECT {} FROM tasks t WHERE t.queue = ? AND t.id = CAST(? AS TEXT)",
        rows::columns_cut_to(GLANCE_BYTES)
    );
    let found = conn.first(&text, params![queue.as_str(), id], rows::listed)?;
    Ok(found.map(|task| match task {
        Ok(info) => RawTask {
            id: id.to_vec(),
            state: Some(info.state),
            why: None,
            head: info.record.payload,
            bytes: info.payload_bytes,
        },
        Err(raw) => raw,
    }))
}

pub(super) fn task(conn: &Connection, queue: &QueueName, id: &TaskId) -> Result<Option<TaskInfo>, SqlError> {
    one(conn, queue, id, &format!("{RECORD}, {INFO}"))
}

/// A task with the beginning of its payload and result.
pub(super) fn glance(conn: &Connection, queue: &QueueName, id: &TaskId) -> Result<Option<TaskInfo>, SqlError> {
    one(conn, queue, id, &rows::columns_cut_to(GLANCE_BYTES))
}

fn one(conn: &Connection, queue: &QueueName, id: &TaskId, columns: &str) -> Result<Option<TaskInfo>, SqlError> {
    let text = format!("SELECT {columns} FROM tasks t WHERE t.queue = ? AND t.id = ?");
    conn.first(&text, [queue.as_str(), id.as_str()], rows::info)
}

/// The queues with a task of this id.
pub(super) fn find(conn: &Connection, id: &TaskId) -> Result<Vec<QueueName>, SqlError> {
    let found = conn.all(
        "SELECT q.name FROM queues q CROSS JOIN tasks t ON t.queue = q.name AND t.id = ? ORDER BY q.name",
        [id.as_str()],
        |row| Ok(rows::queue_name(row, 0).ok()),
    )?;
    Ok(found.into_iter().flatten().collect())
}

pub(super) fn lock_holder(conn: &Connection, task: &Task, now: i64) -> Result<Option<TaskId>, SqlError> {
    let holder: Option<String> = conn.first(
        "SELECT task_id FROM locks WHERE queue = ? AND key = ? AND expires_at > ?",
        params![task.queue.as_str(), lock_key(task), now],
        |row| Ok(row.get(0)?),
    )?;
    Ok(holder.and_then(|id| TaskId::new(id).ok()))
}

/// One that cannot be read is left out, as over Redis.
pub(super) fn attempts(conn: &Connection, queue: &QueueName, id: &TaskId) -> Result<Vec<Attempt>, SqlError> {
    let found = conn.all(
        "SELECT a.body FROM tasks t CROSS JOIN attempts a ON a.task = t.seq \
         WHERE t.queue = ? AND t.id = ? ORDER BY a.seq LIMIT ?",
        params![queue.as_str(), id.as_str(), column(MAX_ATTEMPTS_KEPT as u64)],
        |row| Ok(row.get::<_, String>(0).ok()),
    )?;
    let bodies = found.iter().flatten();
    Ok(bodies.filter_map(|body| rows::json(body).ok()).collect())
}

/// The types of the first pending tasks.
pub(super) fn pending_types(conn: &Connection, queue: &QueueName, look: usize) -> Result<Vec<PendingType>, SqlError> {
    conn.all(
        "SELECT kind, count(*), min(pending_since) FROM \
             (SELECT kind, pending_since FROM tasks WHERE queue = ? AND state = 'pending' ORDER BY at, seq LIMIT ?) \
         GROUP BY kind LIMIT ?",
        params![queue.as_str(), column(look as u64), column(MAX_PENDING_TYPES as u64)],
        |row| {
            Ok(PendingType {
                kind: row.get(0)?,
                count: count(row.get(1)?),
                oldest: row.get::<_, Option<i64>>(2)?.map(rows::instant),
            })
        },
    )
}
