//! The moves of a task's row from one state to another that several subjects share.
//!
//! Each keeps the sums; none of them asks whether the move is legal, their callers know.

use runner_core::task::{QueueName, State};

use super::link::SqlError;
use super::rows::{column, to_json};
use super::store::sql;
use super::writer::Tx;
use crate::kept;

/// Behind all pending tasks of the queue, in the order given.
pub(super) async fn to_back(tx: &mut Tx<'_>, queue: &QueueName, from: State, seqs: &[i64]) -> Result<(), SqlError> {
    if seqs.is_empty() {
        return Ok(());
    }
    let n = column(seqs.len() as u64);
    let first = tx.tally.back(tx.conn, queue.as_str(), n).await?;
    to_pending(tx, queue, from, seqs, first).await
}

/// Before all pending tasks of the queue, in the order given.
pub(super) async fn to_front(tx: &mut Tx<'_>, queue: &QueueName, from: State, seqs: &[i64]) -> Result<(), SqlError> {
    if seqs.is_empty() {
        return Ok(());
    }
    let n = column(seqs.len() as u64);
    let first = tx.tally.front(tx.conn, queue.as_str(), n).await?;
    to_pending(tx, queue, from, seqs, first).await
}

async fn to_pending(tx: &mut Tx<'_>, queue: &QueueName, from: State, seqs: &[i64], first: i64) -> Result<(), SqlError> {
    sql(
        "UPDATE tasks SET state = 'pending', at = ?1 + j.key, pending_since = ?2, waiting_for = NULL \
         FROM json_each(?3) j WHERE tasks.seq = j.value",
    )
    .bind(first)
    .bind(tx.now)
    .bind(to_json(&seqs)?)
    .execute(&mut *tx.conn)
    .await?;
    let n = column(seqs.len() as u64);
    let to = Some(State::Pending);
    tx.tally.moved(queue.as_str(), Some(from), to, n);
    Ok(())
}

/// Run again by an operator: what earlier runs returned is not what the next one returns.
pub(super) async fn forget_results(tx: &mut Tx<'_>, seqs: &[i64]) -> Result<(), SqlError> {
    sql("UPDATE tasks SET result = NULL WHERE result IS NOT NULL AND seq IN (SELECT value FROM json_each(?))")
        .bind(to_json(&seqs)?)
        .execute(&mut *tx.conn)
        .await
        .map(drop)
}

/// Back into their groups, as if they joined now.
pub(super) async fn to_group(tx: &mut Tx<'_>, queue: &QueueName, from: State, seqs: &[i64]) -> Result<(), SqlError> {
    if seqs.is_empty() {
        return Ok(());
    }
    sql("UPDATE tasks SET state = 'aggregating', at = ?, waiting_for = NULL \
         WHERE seq IN (SELECT value FROM json_each(?))")
    .bind(tx.now)
    .bind(to_json(&seqs)?)
    .execute(&mut *tx.conn)
    .await?;
    let n = column(seqs.len() as u64);
    let to = Some(State::Aggregating);
    tx.tally.moved(queue.as_str(), Some(from), to, n);
    Ok(())
}

/// An active task failed and is tried again at `due`.
pub(super) async fn to_retry(
    tx: &mut Tx<'_>,
    queue: &QueueName,
    seq: i64,
    due: i64,
    error: &str,
    counts: bool,
) -> Result<(), SqlError> {
    sql(
        "UPDATE tasks SET state = 'retry', at = ?1, last_error = ?2, last_failed_at = ?3, \
         retried = max(min(retried, 2147483646), 0) + ?4 WHERE seq = ?5",
    )
    .bind(due)
    .bind(kept(error).to_owned())
    .bind(tx.now)
    .bind(i64::from(counts))
    .bind(seq)
    .execute(&mut *tx.conn)
    .await?;
    let (from, to) = (Some(State::Active), Some(State::Retry));
    tx.tally.moved(queue.as_str(), from, to, 1);
    if counts {
        tx.tally.processed(queue.as_str(), true);
    }
    Ok(())
}

/// An active task failed for good.
pub(super) async fn to_archive(tx: &mut Tx<'_>, queue: &QueueName, seq: i64, error: &str) -> Result<(), SqlError> {
    sql("UPDATE tasks SET state = 'archived', at = ?1, last_error = ?2, last_failed_at = ?1 WHERE seq = ?3")
        .bind(tx.now)
        .bind(kept(error).to_owned())
        .bind(seq)
        .execute(&mut *tx.conn)
        .await?;
    let (from, to) = (Some(State::Active), Some(State::Archived));
    tx.tally.moved(queue.as_str(), from, to, 1);
    tx.tally.processed(queue.as_str(), true);
    Ok(())
}

/// Archived by an operator: no failure, and no error to keep.
pub(super) async fn put_aside(tx: &mut Tx<'_>, queue: &QueueName, from: State, seqs: &[i64]) -> Result<(), SqlError> {
    sql("UPDATE tasks SET state = 'archived', at = ?, waiting_for = NULL \
         WHERE seq IN (SELECT value FROM json_each(?))")
    .bind(tx.now)
    .bind(to_json(&seqs)?)
    .execute(&mut *tx.conn)
    .await?;
    let n = column(seqs.len() as u64);
    let to = Some(State::Archived);
    tx.tally.moved(queue.as_str(), Some(from), to, n);
    Ok(())
}

/// A row that cannot be read is put aside, so that it stands in nobody's way.
pub(super) async fn archive_unreadable(
    tx: &mut Tx<'_>,
    queue: &QueueName,
    seq: i64,
    from: State,
    why: &SqlError,
) -> Result<(), SqlError> {
    tracing::warn!(queue = %queue, row = seq, error = %why, "task cannot be read; archived");
    sql("UPDATE tasks SET state = 'archived', at = ?1, last_error = ?2 WHERE seq = ?3")
        .bind(tx.now)
        .bind(format!("unreadable: {why}"))
        .bind(seq)
        .execute(&mut *tx.conn)
        .await?;
    let to = Some(State::Archived);
    tx.tally.moved(queue.as_str(), Some(from), to, 1);
    Ok(())
}

/// Deletes rows with what is remembered of their attempts. Locks are the caller's affair.
pub(super) async fn delete(tx: &mut Tx<'_>, queue: &QueueName, from: State, seqs: &[i64]) -> Result<(), SqlError> {
    delete_uncounted(tx, seqs).await?;
    let n = column(seqs.len() as u64);
    tx.tally.moved(queue.as_str(), Some(from), None, n);
    Ok(())
}

/// The same for rows that no sum counts.
pub(super) async fn delete_uncounted(tx: &mut Tx<'_>, seqs: &[i64]) -> Result<(), SqlError> {
    if seqs.is_empty() {
        return Ok(());
    }
    let list = to_json(&seqs)?;
    sql("DELETE FROM tasks WHERE seq IN (SELECT value FROM json_each(?))")
        .bind(list.clone())
        .execute(&mut *tx.conn)
        .await?;
    sql("DELETE FROM attempts WHERE task IN (SELECT value FROM json_each(?))")
        .bind(list)
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}

/// Releases a uniqueness lock if this task still holds it.
pub(super) async fn unlock(tx: &mut Tx<'_>, queue: &QueueName, key: Option<&str>, id: &str) -> Result<(), SqlError> {
    if let Some(key) = key {
        sql("DELETE FROM locks WHERE queue = ? AND key = ? AND task_id = ?")
            .bind(queue.as_str().to_owned())
            .bind(key.to_owned())
            .bind(id.to_owned())
            .execute(&mut *tx.conn)
            .await?;
    }
    Ok(())
}
