//! Finds and repairs damage in the file: sums, notes, records and leases that do not match the tasks.
//!
//! A task is one row, so it cannot be in two lists or in none; only data beside it can be wrong, written by hand or by a
//! program of another version.

use runner_core::task::{QueueName, TaskState};
use rusqlite::params;

use super::connection::Statements as _;
use super::error::SqlError;
use super::rows::{column, on_list};
use super::tally::DAY;
use super::writer::Tx;
use crate::Repaired;

/// Tasks of one state of a queue that are counted to check its sum, a few milliseconds; longer lists are skipped.
const COUNTED: i64 = 20_000;

/// Longer than any lease: one that ends later was written with a wrong clock.
const NO_LEASE: i64 = DAY;

/// Queues examined per pass when looking for missing rows.
const UNKNOWN: i64 = 20;

/// One pass. `after` is the last attempt record examined by earlier passes. Returns what was repaired, and where the next
/// pass continues among the records.
pub(super) fn repair(
    tx: &mut Tx<'_>,
    queues: &[QueueName],
    limit: usize,
    after: i64,
) -> Result<(Repaired, i64), SqlError> {
    let mut done = Repaired::default();
    for name in unknown_queues(tx)? {
        tx.tally.ensure_queue(&name);
        done.misplaced += 1;
        right_sums(tx, &name, &mut done)?;
    }
    for queue in queues {
        // Before the sums, which then include tasks that return to their group.
        done.orphans += unstage(tx, queue)?;
        right_sums(tx, queue.as_str(), &mut done)?;
        done.unleased += shorten_leases(tx, queue)?;
        done.misplaced += drop_notes(tx, queue)?;
    }
    let after = drop_records(tx, after, column(limit as u64), &mut done)?;
    Ok((done, after))
}

/// Queues that have tasks but no row. Steps from name to name in the index, however many tasks there are.
fn unknown_queues(tx: &Tx<'_>) -> Result<Vec<String>, SqlError> {
    let found = tx.conn.all(
        "WITH RECURSIVE q (name) AS (SELECT min(queue) FROM tasks UNION ALL \
         SELECT (SELECT min(queue) FROM tasks WHERE queue > q.name) FROM q WHERE q.name IS NOT NULL) \
         SELECT name FROM q WHERE name IS NOT NULL AND name NOT IN (SELECT name FROM queues) LIMIT ?",
        [UNKNOWN],
        // No program can address a queue whose name is not text.
        |row| Ok(row.get(0).ok()),
    )?;
    Ok(found.into_iter().flatten().collect())
}

/// Compares the sums of a queue with its tasks, as this transaction will leave them.
fn right_sums(tx: &mut Tx<'_>, queue: &str, done: &mut Repaired) -> Result<(), SqlError> {
    for state in TaskState::ALL {
        let text = format!(
            "SELECT (SELECT {state} FROM queues WHERE name = ?1), (SELECT count(*) FROM \
             (SELECT 1 FROM tasks WHERE queue = ?1 AND {} LIMIT ?2))",
            on_list(state)
        );
        let (sum, there): (Option<i64>, i64) = tx
            .conn
            .one(&text, params![queue, COUNTED], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let known = sum.unwrap_or(0).saturating_add(tx.tally.moves(queue, state));
        // The stored sum and what this transaction has moved so far: together they are what the commit will store.
        let off = there.saturating_sub(known);
        // At the limit the list is longer than was counted, so the count proves nothing.
        if there < COUNTED && off != 0 {
            tracing::warn!(queue, %state, off, "the sum of a queue was off and is right now");
            tx.tally.moved(queue, None, Some(state), off);
            done.misplaced += 1;
        }
    }
    Ok(())
}

/// Moves tasks whose staged set is gone back into their groups.
fn unstage(tx: &mut Tx<'_>, queue: &QueueName) -> Result<usize, SqlError> {
    let changed = tx.conn.exec(
        "UPDATE tasks SET staged = NULL WHERE seq IN (SELECT seq FROM tasks \
         WHERE staged IS NOT NULL AND queue = ?1 AND staged NOT IN (SELECT seq FROM staged_sets WHERE queue = ?1) LIMIT ?2)",
        params![queue.as_str(), COUNTED],
    )?;
    let to = Some(TaskState::Aggregating);
    tx.tally.moved(queue.as_str(), None, to, column(changed));
    Ok(usize::try_from(changed).unwrap_or(usize::MAX))
}

fn shorten_leases(tx: &Tx<'_>, queue: &QueueName) -> Result<usize, SqlError> {
    let changed = tx.conn.exec(
        "UPDATE tasks SET at = ?1 WHERE queue = ?2 AND state = 'active' AND at > ?3",
        params![tx.now, queue.as_str(), tx.now.saturating_add(NO_LEASE)],
    )?;
    Ok(usize::try_from(changed).unwrap_or(0))
}

/// Clears `waiting_for` of tasks that no longer wait.
fn drop_notes(tx: &Tx<'_>, queue: &QueueName) -> Result<usize, SqlError> {
    let changed = tx.conn.exec(
        "UPDATE tasks SET waiting_for = NULL WHERE seq IN (SELECT seq FROM tasks \
         WHERE queue = ? AND waiting_for IS NOT NULL AND state <> 'scheduled' LIMIT ?)",
        params![queue.as_str(), COUNTED],
    )?;
    Ok(usize::try_from(changed).unwrap_or(0))
}

/// Deletes records of attempts without a task, among the next `most`. Returns the last one examined, 0 at the end.
fn drop_records(tx: &Tx<'_>, after: i64, most: i64, done: &mut Repaired) -> Result<i64, SqlError> {
    let (last, looked): (Option<i64>, i64) = tx.conn.one(
        "SELECT max(seq), count(*) FROM (SELECT seq FROM attempts WHERE seq > ? ORDER BY seq LIMIT ?)",
        [after, most],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    // By sequence, not by task: the pass continues behind the last record that it examined, deleted or not.
    let Some(last) = last else { return Ok(0) };
    let gone = tx.conn.exec(
        "DELETE FROM attempts WHERE seq > ? AND seq <= ? AND task NOT IN (SELECT seq FROM tasks)",
        [after, last],
    )?;
    done.ghosts += usize::try_from(gone).unwrap_or(0);
    Ok(if looked < most { 0 } else { last })
}
