//! Moves of tasks between states that several subjects share, and the deletion of tasks.
//!
//! Each updates the sums. None checks whether the move is legal: that is up to the caller.

use runner_core::task::{QueueName, TaskState};
use rusqlite::{Row, params};

use super::connection::Statements as _;
use super::error::SqlError;
use super::rows::{self, column, to_json};
use super::writer::Tx;
use crate::stored_error;

/// A row of a list with what its deletion needs. An unreadable id or lock is `None`.
pub(super) struct TaskList {
    pub(super) seq: i64,
    id: Option<String>,
    lock: Option<String>,
}

impl TaskList {
    /// Reads the columns seq, id, unique_key.
    pub(super) fn read(row: &Row<'_>) -> Result<Self, SqlError> {
        Ok(Self {
            seq: row.get(0)?,
            id: row.get(1).ok(),
            lock: row.get(2).unwrap_or_default(),
        })
    }

    /// The id, if it is readable.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }
}

/// The row numbers.
pub(super) fn seqs(found: &[TaskList]) -> Vec<i64> {
    found.iter().map(|row| row.seq).collect()
}

/// The first rows of a list.
pub(super) fn first(tx: &Tx<'_>, queue: &QueueName, state: TaskState, most: usize) -> Result<Vec<TaskList>, SqlError> {
    let text = format!(
        "SELECT seq, id, unique_key FROM tasks WHERE queue = ? AND {} ORDER BY at, seq LIMIT ?",
        rows::on_list(state)
    );
    tx.conn
        .all(&text, params![queue.as_str(), column(most as u64)], TaskList::read)
}

/// The first rows of a list; of those of pending and archived tasks that were there by an instant, in microseconds.
pub(super) fn first_before(
    tx: &Tx<'_>,
    queue: &QueueName,
    state: TaskState,
    before: i64,
    most: usize,
) -> Result<Vec<TaskList>, SqlError> {
    let since = match state {
        TaskState::Pending => "pending_since <= ?2",
        TaskState::Archived => "at <= ?2",
        _ => "?2 IS NOT NULL",
    };
    let text = format!(
        "SELECT seq, id, unique_key FROM tasks WHERE queue = ?1 AND {} AND {since} ORDER BY at, seq LIMIT ?3",
        rows::on_list(state)
    );
    tx.conn.all(
        &text,
        params![queue.as_str(), before, column(most as u64)],
        TaskList::read,
    )
}

/// The rows of a list with these ids, in the order of the list.
pub(super) fn named(
    tx: &Tx<'_>,
    queue: &QueueName,
    state: TaskState,
    ids: &[String],
) -> Result<Vec<TaskList>, SqlError> {
    let text = format!(
        "SELECT seq, id, unique_key FROM tasks WHERE queue = ?1 AND {} AND id IN (SELECT value FROM json_each(?2)) \
         ORDER BY at, seq",
        rows::on_list(state)
    );
    tx.conn
        .all(&text, params![queue.as_str(), to_json(&ids)?], TaskList::read)
}

/// Deletes rows of a list and releases their locks. A row with an unreadable id or lock is deleted too; its lock
/// expires by itself.
pub(super) fn erase(tx: &mut Tx<'_>, queue: &QueueName, from: TaskState, found: &[TaskList]) -> Result<(), SqlError> {
    for row in found {
        if let Some(id) = &row.id {
            unlock(tx, queue, row.lock.as_deref(), id)?;
        }
    }
    delete(tx, queue, from, &seqs(found))
}

/// Moves tasks behind all pending tasks of the queue, in the given order.
pub(super) fn to_back(tx: &mut Tx<'_>, queue: &QueueName, from: TaskState, seqs: &[i64]) -> Result<(), SqlError> {
    if seqs.is_empty() {
        return Ok(());
    }
    let n = column(seqs.len() as u64);
    // Positions come from the tally, not from `max(at)`: earlier changes of the transaction may have used some.
    let first = tx.tally.back(tx.conn, queue.as_str(), n)?;
    to_pending(tx, queue, from, seqs, first)
}

/// Moves tasks before all pending tasks of the queue, in the given order.
pub(super) fn to_front(tx: &mut Tx<'_>, queue: &QueueName, from: TaskState, seqs: &[i64]) -> Result<(), SqlError> {
    if seqs.is_empty() {
        return Ok(());
    }
    let n = column(seqs.len() as u64);
    let first = tx.tally.front(tx.conn, queue.as_str(), n)?;
    to_pending(tx, queue, from, seqs, first)
}

fn to_pending(tx: &mut Tx<'_>, queue: &QueueName, from: TaskState, seqs: &[i64], first: i64) -> Result<(), SqlError> {
    tx.conn.exec(
        "UPDATE tasks SET state = 'pending', at = ?1 + j.key, pending_since = ?2, waiting_for = NULL \
         FROM json_each(?3) j WHERE tasks.seq = j.value",
        params![first, tx.now, to_json(&seqs)?],
    )?;
    let n = column(seqs.len() as u64);
    let to = Some(TaskState::Pending);
    tx.tally.moved(queue.as_str(), Some(from), to, n);
    Ok(())
}

/// Makes tasks pending by an operator's request: results of earlier runs do not belong to the next one.
pub(super) fn forget_results(tx: &Tx<'_>, seqs: &[i64]) -> Result<(), SqlError> {
    tx.conn.exec(
        "UPDATE tasks SET result = NULL WHERE result IS NOT NULL AND seq IN (SELECT value FROM json_each(?))",
        [to_json(&seqs)?],
    )?;
    Ok(())
}

/// Moves tasks back into their groups, as if they joined now.
pub(super) fn to_group(tx: &mut Tx<'_>, queue: &QueueName, from: TaskState, seqs: &[i64]) -> Result<(), SqlError> {
    if seqs.is_empty() {
        return Ok(());
    }
    tx.conn.exec(
        "UPDATE tasks SET state = 'aggregating', at = ?, waiting_for = NULL \
         WHERE seq IN (SELECT value FROM json_each(?))",
        params![tx.now, to_json(&seqs)?],
    )?;
    let n = column(seqs.len() as u64);
    let to = Some(TaskState::Aggregating);
    tx.tally.moved(queue.as_str(), Some(from), to, n);
    Ok(())
}

/// An active task failed and is retried at `due`.
pub(super) fn to_retry(
    tx: &mut Tx<'_>,
    queue: &QueueName,
    seq: i64,
    due: i64,
    error: &str,
    counts: bool,
) -> Result<(), SqlError> {
    tx.conn.exec(
        "UPDATE tasks SET state = 'retry', at = ?1, last_error = ?2, last_failed_at = ?3, \
         retried = max(min(retried, 2147483646), 0) + ?4 WHERE seq = ?5",
        params![due, stored_error(error), tx.now, counts, seq],
    )?;
    let (from, to) = (Some(TaskState::Active), Some(TaskState::Retry));
    tx.tally.moved(queue.as_str(), from, to, 1);
    if counts {
        tx.tally.processed(queue.as_str(), true);
    }
    Ok(())
}

/// An active task failed for good.
pub(super) fn to_archive(tx: &mut Tx<'_>, queue: &QueueName, seq: i64, error: &str) -> Result<(), SqlError> {
    tx.conn.exec(
        "UPDATE tasks SET state = 'archived', at = ?1, last_error = ?2, last_failed_at = ?1 WHERE seq = ?3",
        params![tx.now, stored_error(error), seq],
    )?;
    let (from, to) = (Some(TaskState::Active), Some(TaskState::Archived));
    tx.tally.moved(queue.as_str(), from, to, 1);
    tx.tally.processed(queue.as_str(), true);
    Ok(())
}

/// Archived by an operator: no failure and no error are recorded.
pub(super) fn archive(tx: &mut Tx<'_>, queue: &QueueName, from: TaskState, seqs: &[i64]) -> Result<(), SqlError> {
    tx.conn.exec(
        "UPDATE tasks SET state = 'archived', at = ?, waiting_for = NULL \
         WHERE seq IN (SELECT value FROM json_each(?))",
        params![tx.now, to_json(&seqs)?],
    )?;
    let n = column(seqs.len() as u64);
    let to = Some(TaskState::Archived);
    tx.tally.moved(queue.as_str(), Some(from), to, n);
    Ok(())
}

/// Archives an unreadable row, so that it does not block its list.
pub(super) fn archive_unreadable(
    tx: &mut Tx<'_>,
    queue: &QueueName,
    seq: i64,
    from: TaskState,
    why: &SqlError,
) -> Result<(), SqlError> {
    tracing::warn!(queue = %queue, row = seq, error = %why, "task cannot be read; archived");
    tx.conn.exec(
        "UPDATE tasks SET state = 'archived', at = ?1, last_error = ?2 WHERE seq = ?3",
        params![tx.now, format!("unreadable: {why}"), seq],
    )?;
    let to = Some(TaskState::Archived);
    tx.tally.moved(queue.as_str(), Some(from), to, 1);
    Ok(())
}

/// Deletes rows with the records of their attempts. The caller releases locks.
pub(super) fn delete(tx: &mut Tx<'_>, queue: &QueueName, from: TaskState, seqs: &[i64]) -> Result<(), SqlError> {
    delete_uncounted(tx, seqs)?;
    let n = column(seqs.len() as u64);
    tx.tally.moved(queue.as_str(), Some(from), None, n);
    Ok(())
}

/// The same for rows that no sum counts.
pub(super) fn delete_uncounted(tx: &Tx<'_>, seqs: &[i64]) -> Result<(), SqlError> {
    if seqs.is_empty() {
        return Ok(());
    }
    let list = to_json(&seqs)?;
    tx.conn.exec(
        "DELETE FROM tasks WHERE seq IN (SELECT value FROM json_each(?))",
        [&list],
    )?;
    tx.conn.exec(
        "DELETE FROM attempts WHERE task IN (SELECT value FROM json_each(?))",
        [&list],
    )?;
    Ok(())
}

/// Releases a uniqueness lock if this task still holds it.
pub(super) fn unlock(tx: &Tx<'_>, queue: &QueueName, key: Option<&str>, id: &str) -> Result<(), SqlError> {
    if let Some(key) = key {
        tx.conn.exec(
            "DELETE FROM locks WHERE queue = ? AND key = ? AND task_id = ?",
            [queue.as_str(), key, id],
        )?;
    }
    Ok(())
}

/// Clears the suspicion of having crashed a worker.
pub(super) fn clear_suspicion(tx: &Tx<'_>, seqs: &[i64]) -> Result<(), SqlError> {
    tx.conn.exec(
        "UPDATE tasks SET lost = 0, lost_before = 0, crash_run = NULL, ran_ms = 0, alone_run = NULL \
         WHERE lost > 0 AND seq IN (SELECT value FROM json_each(?))",
        [to_json(&seqs)?],
    )?;
    Ok(())
}
