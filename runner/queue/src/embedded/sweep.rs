//! What is thrown away in time: finished tasks, the far end of the archive, old locks, counters and records.
//!
//! Each pass is bounded, so that no transaction holds the file for long.

use async_trait::async_trait;
use runner_core::task::{QueueName, State};

use super::act;
use super::link::SqlError;
use super::rows::{self, column, span};
use super::runs;
use super::store::sql;
use super::tally::DAY;
use super::upkeep;
use super::writer::{Tx, Write};
use crate::{ArchiveBounds, Swept};

/// How long a day's counters are kept.
const KEEP: i64 = 90 * DAY;

/// How long the decisions of a schedule that makes no more are kept.
const DECISIONS: i64 = 90 * DAY;

/// Schedules whose decisions one pass deletes, some two hundred each.
const FORGOTTEN: i64 = 20;

/// Rows of other tables that one pass deletes; the next pass goes on.
const CHUNK: i64 = 1_000;

/// One pass.
pub(super) struct Sweep {
    pub(super) queues: Vec<QueueName>,
    pub(super) limit: usize,
    pub(super) archive: ArchiveBounds,
}

#[async_trait]
impl Write for Sweep {
    type Output = Swept;
    const DOING: &'static str = "sweep old tasks";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, SqlError> {
        let mut swept = Swept::default();
        for queue in &self.queues {
            let expired = sql(
                "SELECT seq, id, unique_key FROM tasks WHERE queue = ? AND state = 'completed' AND at <= ? \
                 ORDER BY at, seq LIMIT ?",
            )
            .bind(queue.as_str().to_owned())
            .bind(tx.now)
            .bind(column(self.limit as u64))
            .fetch_all(&mut *tx.conn)
            .await?;
            swept.expired += expired.len();
            swept.more |= expired.len() == self.limit;
            act::erase(tx, queue, State::Completed, &expired).await?;
            let trimmed = trim_archive(tx, queue, self.limit, self.archive).await?;
            swept.trimmed += trimmed;
            swept.more |= trimmed == self.limit;
        }
        swept.more &= self.limit > 0;
        swept.more |= sweep_records(tx).await?;
        swept.more |= upkeep::give_back(tx.conn)?;
        Ok(swept)
    }
}

async fn trim_archive(
    tx: &mut Tx<'_>,
    queue: &QueueName,
    limit: usize,
    archive: ArchiveBounds,
) -> Result<usize, SqlError> {
    let row = sql("SELECT archived FROM queues WHERE name = ?")
        .bind(queue.as_str().to_owned())
        .fetch_optional(&mut *tx.conn)
        .await?;
    let size: i64 = row.map_or(Ok(0), |row| row.try_get(0))?;
    let most = column(archive.most as u64);
    let size = size.saturating_add(tx.tally.moves(queue.as_str(), State::Archived));
    let mut beyond = size.saturating_sub(most).max(0);
    if beyond > 0 {
        // What is deleted does not come back: the sum alone is not enough.
        let row = sql("SELECT count(*) FROM (SELECT 1 FROM tasks WHERE queue = ? AND state = 'archived' LIMIT ?)")
            .bind(queue.as_str().to_owned())
            .bind(most.saturating_add(column(limit as u64)))
            .fetch_one(&mut *tx.conn)
            .await?;
        beyond = row.try_get::<i64>(0)?.saturating_sub(most).max(0);
    }
    let found = sql(
        "SELECT seq, id, unique_key, at FROM tasks WHERE queue = ? AND state = 'archived' \
         ORDER BY at, seq LIMIT ?",
    )
    .bind(queue.as_str().to_owned())
    .bind(column(limit as u64))
    .fetch_all(&mut *tx.conn)
    .await?;
    let mut old = Vec::new();
    for (place, row) in (0_i64..).zip(found) {
        let at: i64 = row.try_get(3)?;
        if place >= beyond && at > tx.now.saturating_sub(span(archive.keep)) {
            break;
        }
        old.push(row);
    }
    act::erase(tx, queue, State::Archived, &old).await?;
    Ok(old.len())
}

/// Everything that is not a task: a few rows each pass, by index; whether a bound cut it short.
async fn sweep_records(tx: &mut Tx<'_>) -> Result<bool, SqlError> {
    let locks = sql("DELETE FROM locks WHERE (queue, key) IN \
         (SELECT queue, key FROM locks WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)")
    .bind(tx.now)
    .bind(CHUNK)
    .execute(&mut *tx.conn)
    .await?;
    let days =
        sql("DELETE FROM day_counts WHERE (day, queue) IN (SELECT day, queue FROM day_counts WHERE day < ? LIMIT ?)")
            .bind(tx.now.saturating_sub(KEEP).div_euclid(DAY))
            .bind(CHUNK)
            .execute(&mut *tx.conn)
            .await?;
    sql("DELETE FROM servers WHERE expires_at <= ?")
        .bind(tx.now)
        .execute(&mut *tx.conn)
        .await?;
    runs::expire(tx).await?;
    let forgotten = forget_decisions(tx).await?;
    let (locks, days) = (locks.rows_affected(), days.rows_affected());
    tx.trimmed += locks + days;
    let chunk = rows::count(CHUNK);
    Ok(forgotten || locks == chunk || days == chunk)
}

/// Deletes what is on record of schedules that have decided nothing for long; whether there may be more of them.
async fn forget_decisions(tx: &mut Tx<'_>) -> Result<bool, SqlError> {
    let silent = sql("SELECT id FROM schedules WHERE decisions > 0 AND decided_at <= ? ORDER BY decided_at LIMIT ?")
        .bind(tx.now.saturating_sub(DECISIONS))
        .bind(FORGOTTEN)
        .fetch_all(&mut *tx.conn)
        .await?;
    for row in &silent {
        let id: String = row.try_get(0)?;
        let gone = sql("DELETE FROM decisions WHERE schedule = ?").bind(id.clone());
        tx.trimmed += gone.execute(&mut *tx.conn).await?.rows_affected();
        let none = sql("UPDATE schedules SET decisions = 0 WHERE id = ?").bind(id);
        none.execute(&mut *tx.conn).await?;
    }
    Ok(silent.len() as i64 == FORGOTTEN)
}
