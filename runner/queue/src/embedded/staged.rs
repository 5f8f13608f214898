//! Tasks in a staged set: reading, archiving, dropping, returning them, and removing them with their queue.
//!
//! No sum counts such a task, and it is on no list. Not here: how a set is formed (`group`).

use std::time::Duration;

use runner_core::task::{QueueName, TaskState};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::connection::Statements as _;
use super::error::SqlError;
use super::moves;
use super::rows::{self, RECORD, column, span, to_json};
use super::tally::DAY;
use super::writer::Tx;
use crate::{MAX_ACTED, MAX_SET, Reclaimed, SET_DEADLINE, StagedSet, TaskRecord};

/// Stale sets reclaimed in one transaction.
const SETS: i64 = 100;

/// The number of a set, if it still exists.
fn number_of(tx: &Tx<'_>, set: &StagedSet) -> Result<Option<i64>, SqlError> {
    let mut statement = tx
        .conn
        .prepare_cached("SELECT seq FROM staged_sets WHERE queue = ? AND id = ?")?;
    let number = statement.query_row([set.queue.as_str(), &set.id], |row| row.get(0));
    Ok(number.optional()?)
}

fn forget_if_empty(tx: &Tx<'_>, set: i64) -> Result<(), SqlError> {
    tx.conn.exec(
        "DELETE FROM staged_sets WHERE seq = ?1 AND NOT EXISTS (SELECT 1 FROM tasks WHERE staged = ?1)",
        [set],
    )?;
    Ok(())
}

/// The tasks of a set, in order; unreadable rows with the reason.
pub(super) type SetContent = (Vec<TaskRecord>, Vec<(i64, String)>);

pub(super) fn read(conn: &Connection, set: &StagedSet) -> Result<SetContent, SqlError> {
    let text = format!(
        "SELECT {RECORD} FROM staged_sets s CROSS JOIN tasks t ON t.staged = s.seq WHERE s.queue = ? AND s.id = ? \
         ORDER BY t.at, t.id LIMIT ?"
    );
    let (mut tasks, mut unreadable) = (Vec::new(), Vec::new());
    conn.all(
        &text,
        params![set.queue.as_str(), set.id, column(MAX_SET as u64)],
        |row| {
            match rows::record(row) {
                Ok(record) => tasks.push(record),
                Err(why) => unreadable.push((row.get(0)?, why.to_string())),
            }
            Ok(())
        },
    )?;
    Ok((tasks, unreadable))
}

/// Archives unreadable tasks of a set.
pub(super) fn archive_unreadable(
    tx: &mut Tx<'_>,
    set: &StagedSet,
    unreadable: &[(i64, String)],
) -> Result<(), SqlError> {
    let Some(number) = number_of(tx, set)? else {
        return Ok(());
    };
    let (queue, group) = (&set.queue, &set.group);
    for (seq, why) in unreadable {
        tracing::warn!(%queue, %group, row = seq, why, "task cannot be read; archived");
        let archived = tx.conn.exec(
            "UPDATE tasks SET state = 'archived', at = ?, staged = NULL, last_error = ? \
             WHERE seq = ? AND staged = ?",
            params![tx.now, format!("unreadable: {why}"), seq, number],
        )?;
        let to = Some(TaskState::Archived);
        tx.tally.moved(queue.as_str(), None, to, column(archived));
    }
    forget_if_empty(tx, number)
}

/// Deletes the first tasks of an aggregated set. Returns how many.
pub(super) fn drop_some(tx: &Tx<'_>, set: &StagedSet) -> Result<usize, SqlError> {
    let Some(number) = number_of(tx, set)? else {
        return Ok(0);
    };
    let seqs: Vec<i64> = tx.conn.values(
        "SELECT seq FROM tasks WHERE staged = ? ORDER BY at, id LIMIT ?",
        [number, column(MAX_ACTED as u64)],
    )?;
    tx.conn.exec(
        "UPDATE locks SET outlives = 1 FROM json_each(?1) j CROSS JOIN tasks t ON t.seq = j.value \
         WHERE locks.queue = ?2 AND locks.key = t.unique_key AND locks.task_id = t.id",
        params![to_json(&seqs)?, set.queue.as_str()],
    )?;
    // Their locks stay until they expire; the mark shows that they lack a task on purpose.
    moves::delete_uncounted(tx, &seqs)?;
    forget_if_empty(tx, number)?;
    Ok(seqs.len())
}

/// Deletes tasks of any set of a queue that is being removed. Returns how many.
pub(super) fn remove(tx: &Tx<'_>, queue: &QueueName, most: usize) -> Result<usize, SqlError> {
    let seqs: Vec<i64> = tx.conn.values(
        "SELECT seq FROM tasks WHERE staged IN (SELECT seq FROM staged_sets WHERE queue = ?) LIMIT ?",
        params![queue.as_str(), column(most as u64)],
    )?;
    tx.conn.exec(
        "DELETE FROM locks WHERE (queue, key, task_id) IN \
         (SELECT queue, unique_key, id FROM tasks WHERE seq IN (SELECT value FROM json_each(?)))",
        [to_json(&seqs)?],
    )?;
    moves::delete_uncounted(tx, &seqs)?;
    tx.conn.exec(
        "DELETE FROM staged_sets WHERE queue = ? AND NOT EXISTS (SELECT 1 FROM tasks WHERE staged = staged_sets.seq)",
        [queue.as_str()],
    )?;
    Ok(seqs.len())
}

/// Moves the tasks of stale sets back into their groups; about `limit` tasks.
pub(super) fn reclaim(
    tx: &mut Tx<'_>,
    queues: &[QueueName],
    grace: Duration,
    limit: usize,
) -> Result<Vec<Reclaimed>, SqlError> {
    let cutoff = tx.now.saturating_sub(span(grace));
    let mut reclaimed: Vec<Reclaimed> = Vec::new();
    let mut left = limit;
    for queue in queues {
        for (number, group) in stale(tx, queue, cutoff)? {
            let back = tx.conn.exec(
                "UPDATE tasks SET staged = NULL WHERE seq IN \
                 (SELECT seq FROM tasks WHERE staged = ? ORDER BY at, id LIMIT ?)",
                [number, column(left as u64)],
            )?;
            forget_if_empty(tx, number)?;
            let to = Some(TaskState::Aggregating);
            tx.tally.moved(queue.as_str(), None, to, column(back));
            let tasks = usize::try_from(back).unwrap_or(usize::MAX);
            left = left.saturating_sub(tasks);
            match reclaimed.iter_mut().find(|r| r.queue == *queue && r.group == group) {
                Some(known) => known.tasks += tasks,
                None => reclaimed.push(Reclaimed {
                    queue: queue.clone(),
                    group,
                    tasks,
                }),
            }
        }
    }
    reclaimed.retain(|r| r.tasks > 0);
    Ok(reclaimed)
}

/// Number and group of stale sets.
fn stale(tx: &Tx<'_>, queue: &QueueName, cutoff: i64) -> Result<Vec<(i64, String)>, SqlError> {
    let a_day_ahead = tx.now.saturating_add(DAY);
    // A deadline further ahead than any can be was written with a wrong clock.
    tx.conn.exec(
        "UPDATE staged_sets SET deadline = ?1 WHERE queue = ?2 AND deadline > ?1 AND deadline <= ?3",
        params![tx.now.saturating_add(span(SET_DEADLINE)), queue.as_str(), a_day_ahead],
    )?;
    tx.conn.all(
        // A deadline a day ahead was written by a wrong clock, or by mistake.
        "SELECT seq, group_name FROM staged_sets WHERE queue = ?1 AND (deadline <= ?2 OR deadline > ?3) \
         ORDER BY deadline, seq LIMIT ?4",
        params![queue.as_str(), cutoff, a_day_ahead, SETS],
        |row| Ok((row.get(0)?, row.get(1).unwrap_or_default())),
    )
}
