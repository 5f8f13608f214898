//! Sets of tasks that were taken out of a group: read, put aside, dropped, taken back, removed with their queue.
//!
//! No sum counts such a task, and it is on no list. How a set comes about is in `group`.

use std::time::Duration;

use async_trait::async_trait;
use runner_core::task::{QueueName, State};

use super::link::{Executor, SqlError};
use super::moves;
use super::readers::Readers;
use super::rows::{self, RECORD, column, span, to_json};
use super::store::{built, sql};
use super::tally::DAY;
use super::writer::{Tx, Write};
use crate::{MAX_ACTED, MAX_SET, Reclaimed, SET_DEADLINE, StagedSet, TaskRecord};

/// Stale sets that one transaction takes back.
const SETS: i64 = 100;

/// The number of a set, if it is still there.
async fn number_of(on: impl Executor, set: &StagedSet) -> Result<Option<i64>, SqlError> {
    let row = sql("SELECT seq FROM staged_sets WHERE queue = ? AND id = ?")
        .bind(set.queue.as_str().to_owned())
        .bind(set.id.clone())
        .fetch_optional(on)
        .await?;
    row.map(|row| row.try_get(0)).transpose()
}

async fn forget_if_empty(tx: &mut Tx<'_>, set: i64) -> Result<(), SqlError> {
    sql("DELETE FROM staged_sets WHERE seq = ?1 AND NOT EXISTS (SELECT 1 FROM tasks WHERE staged = ?1)")
        .bind(set)
        .execute(&mut *tx.conn)
        .await
        .map(drop)
}

/// The rows of a set, in order; those that cannot be read with the reason.
pub(super) type Read = (Vec<TaskRecord>, Vec<(i64, String)>);

pub(super) async fn read(readers: &Readers, set: &StagedSet) -> Result<Read, SqlError> {
    let found = built(format!(
        "SELECT {RECORD} FROM staged_sets s CROSS JOIN tasks t ON t.staged = s.seq WHERE s.queue = ? AND s.id = ? \
         ORDER BY t.at, t.id LIMIT ?"
    ))
    .bind(set.queue.as_str().to_owned())
    .bind(set.id.clone())
    .bind(column(MAX_SET as u64))
    .fetch_all(readers)
    .await?;
    let (mut tasks, mut odd) = (Vec::new(), Vec::new());
    for row in &found {
        match rows::record(row) {
            Ok(stored) => tasks.push(stored.record),
            Err(why) => odd.push((row.try_get(0)?, why.to_string())),
        }
    }
    Ok((tasks, odd))
}

/// Archives tasks of a set that cannot be read.
pub(super) struct PutAside {
    pub(super) set: StagedSet,
    pub(super) odd: Vec<(i64, String)>,
}

#[async_trait]
impl Write for PutAside {
    type Output = ();
    const DOING: &'static str = "put tasks aside that cannot be read";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), SqlError> {
        let Some(number) = number_of(&mut *tx.conn, &self.set).await? else {
            return Ok(());
        };
        let (queue, group) = (&self.set.queue, &self.set.group);
        for (seq, why) in &self.odd {
            tracing::warn!(%queue, %group, row = seq, why, "task cannot be read; archived");
            let archived = sql(
                "UPDATE tasks SET state = 'archived', at = ?, staged = NULL, last_error = ? \
                 WHERE seq = ? AND staged = ?",
            )
            .bind(tx.now)
            .bind(format!("unreadable: {why}"))
            .bind(*seq)
            .bind(number)
            .execute(&mut *tx.conn)
            .await?;
            let to = Some(State::Archived);
            tx.tally
                .moved(queue.as_str(), None, to, column(archived.rows_affected()));
        }
        forget_if_empty(tx, number).await
    }
}

/// Deletes the first tasks of a set; how many.
pub(super) struct Drop(pub(super) StagedSet);

#[async_trait]
impl Write for Drop {
    type Output = usize;
    const DOING: &'static str = "delete tasks that became one";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<usize, SqlError> {
        let queue = &self.0.queue;
        let Some(number) = number_of(&mut *tx.conn, &self.0).await? else {
            return Ok(0);
        };
        let found = sql("SELECT seq FROM tasks WHERE staged = ? ORDER BY at, id LIMIT ?")
            .bind(number)
            .bind(column(MAX_ACTED as u64))
            .fetch_all(&mut *tx.conn)
            .await?;
        let seqs = found
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<Vec<i64>, _>>()?;
        sql(
            "UPDATE locks SET outlives = 1 FROM json_each(?1) j CROSS JOIN tasks t ON t.seq = j.value \
             WHERE locks.queue = ?2 AND locks.key = t.unique_key AND locks.task_id = t.id",
        )
        .bind(to_json(&seqs)?)
        .bind(queue.as_str().to_owned())
        .execute(&mut *tx.conn)
        .await?;
        moves::delete_uncounted(tx, &seqs).await?;
        forget_if_empty(tx, number).await?;
        Ok(seqs.len())
    }
}

/// Deletes tasks of any set of a queue that is to go; how many.
pub(super) async fn remove(tx: &mut Tx<'_>, queue: &QueueName, most: usize) -> Result<usize, SqlError> {
    let found = sql("SELECT seq FROM tasks WHERE staged IN (SELECT seq FROM staged_sets WHERE queue = ?) LIMIT ?")
        .bind(queue.as_str().to_owned())
        .bind(column(most as u64))
        .fetch_all(&mut *tx.conn)
        .await?;
    let seqs = found
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<Vec<i64>, _>>()?;
    sql("DELETE FROM locks WHERE (queue, key, task_id) IN \
         (SELECT queue, unique_key, id FROM tasks WHERE seq IN (SELECT value FROM json_each(?)))")
    .bind(to_json(&seqs)?)
    .execute(&mut *tx.conn)
    .await?;
    moves::delete_uncounted(tx, &seqs).await?;
    sql("DELETE FROM staged_sets WHERE queue = ? AND NOT EXISTS (SELECT 1 FROM tasks WHERE staged = staged_sets.seq)")
        .bind(queue.as_str().to_owned())
        .execute(&mut *tx.conn)
        .await?;
    Ok(seqs.len())
}

/// Puts the tasks of stale sets back into their groups.
pub(super) struct Reclaim {
    pub(super) queues: Vec<QueueName>,
    pub(super) grace: Duration,
    pub(super) limit: usize,
}

#[async_trait]
impl Write for Reclaim {
    type Output = Vec<Reclaimed>;
    const DOING: &'static str = "take back sets of groups";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, SqlError> {
        let cutoff = tx.now.saturating_sub(span(self.grace));
        let mut reclaimed: Vec<Reclaimed> = Vec::new();
        let mut left = self.limit;
        for queue in &self.queues {
            // An end that is further ahead than any should be was written while the clock was wrong.
            sql("UPDATE staged_sets SET deadline = ?1 WHERE queue = ?2 AND deadline > ?1 AND deadline <= ?3")
                .bind(tx.now.saturating_add(span(SET_DEADLINE)))
                .bind(queue.as_str().to_owned())
                .bind(tx.now.saturating_add(DAY))
                .execute(&mut *tx.conn)
                .await?;
            let stale = sql(
                // A deadline a day ahead was written by a wrong clock, or by mistake.
                "SELECT seq, group_name FROM staged_sets WHERE queue = ?1 AND (deadline <= ?2 OR deadline > ?3) \
                 ORDER BY deadline, seq LIMIT ?4",
            )
            .bind(queue.as_str().to_owned())
            .bind(cutoff)
            .bind(tx.now.saturating_add(DAY))
            .bind(SETS)
            .fetch_all(&mut *tx.conn)
            .await?;
            for row in &stale {
                let (number, group): (i64, String) = (row.try_get(0)?, row.try_get(1).unwrap_or_default());
                let back = sql("UPDATE tasks SET staged = NULL WHERE seq IN \
                     (SELECT seq FROM tasks WHERE staged = ? ORDER BY at, id LIMIT ?)")
                .bind(number)
                .bind(column(left as u64))
                .execute(&mut *tx.conn)
                .await?
                .rows_affected();
                forget_if_empty(tx, number).await?;
                let to = Some(State::Aggregating);
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
}
