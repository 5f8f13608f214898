//! Deletes what has expired: finished tasks, the oldest of the archive, old locks, receipts, counters and records.
//!
//! Each pass is bounded, so that no transaction blocks the file for long.

use runner_core::task::{QueueName, TaskState};
use rusqlite::params;

use super::connection::Statements as _;
use super::error::SqlError;
use super::moves::{self, TaskList};
use super::rows::{self, column, span};
use super::tally::DAY;
use super::writer::Tx;
use super::{file_size, runs, statistics};
use crate::{ArchiveBounds, Swept};

/// How long the counters of a day are kept.
const KEEP: i64 = 90 * DAY;

/// How long the decisions of a schedule that makes no new ones are kept.
const DECISIONS: i64 = 90 * DAY;

/// Schedules whose decisions one pass deletes, about two hundred each.
const FORGOTTEN: i64 = 20;

/// Rows of other tables that one pass deletes; the next pass continues.
const CHUNK: i64 = 1_000;

/// Receipts that one pass deletes: small rows, and messages may come by the thousand a second.
const RECEIPTS: i64 = 10_000;

/// One pass; at most `limit` tasks of each kind and queue.
pub(super) fn sweep(
    tx: &mut Tx<'_>,
    queues: &[QueueName],
    limit: usize,
    archive: ArchiveBounds,
) -> Result<Swept, SqlError> {
    let mut swept = Swept::default();
    for queue in queues {
        let expired = tx.conn.all(
            "SELECT seq, id, unique_key FROM tasks WHERE queue = ? AND state = 'completed' AND at <= ? \
             ORDER BY at, seq LIMIT ?",
            params![queue.as_str(), tx.now, column(limit as u64)],
            TaskList::read,
        )?;
        swept.expired += expired.len();
        swept.more |= expired.len() == limit;
        moves::erase(tx, queue, TaskState::Completed, &expired)?;
        let trimmed = trim_archive(tx, queue, limit, archive)?;
        swept.trimmed += trimmed;
        swept.more |= trimmed == limit;
    }
    // With a limit of zero every list is "cut short".
    swept.more &= limit > 0;
    swept.more |= sweep_records(tx)?;
    swept.more |= file_size::release_pages(tx.conn)?;
    Ok(swept)
}

fn trim_archive(tx: &mut Tx<'_>, queue: &QueueName, limit: usize, archive: ArchiveBounds) -> Result<usize, SqlError> {
    let size = tx
        .conn
        .first("SELECT archived FROM queues WHERE name = ?", [queue.as_str()], |row| {
            Ok(row.get::<_, i64>(0)?)
        })?;
    let most = column(archive.most as u64);
    let size = size
        .unwrap_or(0)
        .saturating_add(tx.tally.moves(queue.as_str(), TaskState::Archived));
    let mut beyond = size.saturating_sub(most).max(0);
    if beyond > 0 {
        // Deletion is final: count the rows instead of trusting the sum.
        let there: i64 = tx.conn.value(
            "SELECT count(*) FROM (SELECT 1 FROM tasks WHERE queue = ? AND state = 'archived' LIMIT ?)",
            params![queue.as_str(), most.saturating_add(column(limit as u64))],
        )?;
        beyond = there.saturating_sub(most).max(0);
    }
    let found = tx.conn.all(
        "SELECT seq, id, unique_key, at FROM tasks WHERE queue = ? AND state = 'archived' \
         ORDER BY at, seq LIMIT ?",
        params![queue.as_str(), column(limit as u64)],
        |row| Ok((TaskList::read(row)?, row.get::<_, i64>(3)?)),
    )?;
    let oldest = tx.now.saturating_sub(span(archive.keep));
    // Oldest first, so both bounds cut a prefix: the ones beyond the number, and the ones beyond the age.
    let old: Vec<TaskList> = (0_i64..)
        .zip(found)
        .take_while(|(place, (_, at))| *place < beyond || *at <= oldest)
        .map(|(_, (row, _))| row)
        .collect();
    moves::erase(tx, queue, TaskState::Archived, &old)?;
    Ok(old.len())
}

/// Deletes a few rows of each other table, by index. Returns whether the limit cut a table short.
fn sweep_records(tx: &mut Tx<'_>) -> Result<bool, SqlError> {
    let locks = tx.conn.exec(
        "DELETE FROM locks WHERE (queue, key) IN \
         (SELECT queue, key FROM locks WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
        [tx.now, CHUNK],
    )?;
    let receipts = tx.conn.exec(
        "DELETE FROM receipts WHERE (queue, id) IN \
         (SELECT queue, id FROM receipts WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
        [tx.now, RECEIPTS],
    )?;
    let days = tx.conn.exec(
        "DELETE FROM day_counts WHERE (day, queue) IN (SELECT day, queue FROM day_counts WHERE day < ? LIMIT ?)",
        [tx.now.saturating_sub(KEEP).div_euclid(DAY), CHUNK],
    )?;
    tx.conn.exec("DELETE FROM servers WHERE expires_at <= ?", [tx.now])?;
    runs::expire(tx)?;
    let forgotten = forget_decisions(tx)? | statistics::forget(tx)?;
    tx.trimmed += locks + receipts + days;
    let chunk = rows::count(CHUNK);
    Ok(forgotten || locks == chunk || receipts == rows::count(RECEIPTS) || days == chunk)
}

/// Deletes decisions of schedules that have decided nothing for long. Returns whether there may be more.
fn forget_decisions(tx: &mut Tx<'_>) -> Result<bool, SqlError> {
    // Busy schedules trim their own decisions with each commit; those that have stopped never would.
    let silent: Vec<String> = tx.conn.values(
        "SELECT id FROM schedules WHERE decisions > 0 AND decided_at <= ? ORDER BY decided_at LIMIT ?",
        [tx.now.saturating_sub(DECISIONS), FORGOTTEN],
    )?;
    for id in &silent {
        tx.trimmed += tx.conn.exec("DELETE FROM decisions WHERE schedule = ?", [id])?;
        tx.conn.exec("UPDATE schedules SET decisions = 0 WHERE id = ?", [id])?;
    }
    Ok(silent.len() as i64 == FORGOTTEN)
}
