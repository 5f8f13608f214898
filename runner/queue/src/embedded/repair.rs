//! Damage in the file, found and put right: sums, notes, records and leases that do not belong to what is there.
//!
//! A task is one row, so none can lie in two lists or in none; what can be off is what is written beside it, by a
//! hand or by a program of another version.

use async_trait::async_trait;
use runner_core::task::{QueueName, State};

use super::link::SqlError;
use super::rows::{column, on_list};
use super::store::{built, sql};
use super::tally::DAY;
use super::writer::{Tx, Write};
use crate::Repaired;

/// Tasks of one state of a queue that are counted to check its sum, a few milliseconds; a longer list is left alone.
const COUNTED: i64 = 20_000;

/// No lease is so long: one that ends later was written while the clock was wrong.
const NO_LEASE: i64 = DAY;

/// Queues that are looked at for want of a name, a pass.
const UNKNOWN: i64 = 20;

/// One pass.
pub(super) struct Repair {
    pub(super) queues: Vec<QueueName>,
    pub(super) limit: usize,
    /// The last record of an attempt that earlier passes looked at.
    pub(super) after: i64,
}

#[async_trait]
impl Write for Repair {
    /// What was done, and where the next pass goes on among the records.
    type Output = (Repaired, i64);
    const DOING: &'static str = "repair what is damaged";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, SqlError> {
        let mut done = Repaired::default();
        for name in unknown_queues(tx).await? {
            tx.tally.known(&name);
            done.misplaced += 1;
            right_sums(tx, &name, &mut done).await?;
        }
        for queue in &self.queues {
            done.orphans += unstage(tx, queue).await?;
            right_sums(tx, queue.as_str(), &mut done).await?;
            done.unleased += shorten_leases(tx, queue).await?;
            done.misplaced += drop_notes(tx, queue).await?;
        }
        let after = drop_records(tx, self.after, column(self.limit as u64), &mut done).await?;
        Ok((done, after))
    }
}

/// Queues that have tasks and no row. Hops from name to name, however many tasks there are.
async fn unknown_queues(tx: &mut Tx<'_>) -> Result<Vec<String>, SqlError> {
    let found = sql("WITH RECURSIVE q (name) AS (SELECT min(queue) FROM tasks UNION ALL \
         SELECT (SELECT min(queue) FROM tasks WHERE queue > q.name) FROM q WHERE q.name IS NOT NULL) \
         SELECT name FROM q WHERE name IS NOT NULL AND name NOT IN (SELECT name FROM queues) LIMIT ?")
    .bind(UNKNOWN)
    .fetch_all(&mut *tx.conn)
    .await?;
    // A name that is no text is nobody's.
    Ok(found.iter().filter_map(|row| row.try_get(0).ok()).collect())
}

/// Compares the sums of a queue with what is there, as this transaction will leave it.
async fn right_sums(tx: &mut Tx<'_>, queue: &str, done: &mut Repaired) -> Result<(), SqlError> {
    for state in State::ALL {
        let row = built(format!(
            "SELECT (SELECT {state} FROM queues WHERE name = ?1), (SELECT count(*) FROM \
             (SELECT 1 FROM tasks WHERE queue = ?1 AND {} LIMIT ?2))",
            on_list(state)
        ))
        .bind(queue.to_owned())
        .bind(COUNTED)
        .fetch_one(&mut *tx.conn)
        .await?;
        let (sum, there): (Option<i64>, i64) = (row.try_get(0)?, row.try_get(1)?);
        let known = sum.unwrap_or(0).saturating_add(tx.tally.moves(queue, state));
        let off = there.saturating_sub(known);
        if there < COUNTED && off != 0 {
            tracing::warn!(queue, %state, off, "the sum of a queue was off and is right now");
            tx.tally.moved(queue, None, Some(state), off);
            done.misplaced += 1;
        }
    }
    Ok(())
}

/// Puts tasks back into their groups whose staged set is no more.
async fn unstage(tx: &mut Tx<'_>, queue: &QueueName) -> Result<usize, SqlError> {
    let changed = sql("UPDATE tasks SET staged = NULL WHERE seq IN (SELECT seq FROM tasks \
         WHERE staged IS NOT NULL AND queue = ?1 AND staged NOT IN (SELECT seq FROM staged_sets WHERE queue = ?1) LIMIT ?2)")
    .bind(queue.as_str().to_owned())
    .bind(COUNTED)
    .execute(&mut *tx.conn)
    .await?
    .rows_affected();
    tx.tally
        .moved(queue.as_str(), None, Some(State::Aggregating), column(changed));
    Ok(usize::try_from(changed).unwrap_or(usize::MAX))
}

async fn shorten_leases(tx: &mut Tx<'_>, queue: &QueueName) -> Result<usize, SqlError> {
    let changed = sql("UPDATE tasks SET at = ?1 WHERE queue = ?2 AND state = 'active' AND at > ?3")
        .bind(tx.now)
        .bind(queue.as_str().to_owned())
        .bind(tx.now.saturating_add(NO_LEASE))
        .execute(&mut *tx.conn)
        .await?;
    Ok(usize::try_from(changed.rows_affected()).unwrap_or(0))
}

/// Notes on tasks that wait for nothing.
async fn drop_notes(tx: &mut Tx<'_>, queue: &QueueName) -> Result<usize, SqlError> {
    let changed = sql(
        "UPDATE tasks SET waiting_for = NULL WHERE seq IN (SELECT seq FROM tasks \
         WHERE queue = ? AND waiting_for IS NOT NULL AND state <> 'scheduled' LIMIT ?)",
    )
    .bind(queue.as_str().to_owned())
    .bind(COUNTED)
    .execute(&mut *tx.conn)
    .await?;
    Ok(usize::try_from(changed.rows_affected()).unwrap_or(0))
}

/// Records of attempts whose task is gone, among the next `most`; the last one looked at, 0 at the end.
async fn drop_records(tx: &mut Tx<'_>, after: i64, most: i64, done: &mut Repaired) -> Result<i64, SqlError> {
    let row = sql("SELECT max(seq), count(*) FROM (SELECT seq FROM attempts WHERE seq > ? ORDER BY seq LIMIT ?)")
        .bind(after)
        .bind(most)
        .fetch_one(&mut *tx.conn)
        .await?;
    let (last, looked): (Option<i64>, i64) = (row.try_get(0)?, row.try_get(1)?);
    let Some(last) = last else { return Ok(0) };
    let gone = sql("DELETE FROM attempts WHERE seq > ? AND seq <= ? AND task NOT IN (SELECT seq FROM tasks)")
        .bind(after)
        .bind(last)
        .execute(&mut *tx.conn)
        .await?;
    done.ghosts += usize::try_from(gone.rows_affected()).unwrap_or(0);
    Ok(if looked < most { 0 } else { last })
}
