//! Groups: their names, their tasks, which are ripe, and taking a ripe one into a set.
//!
//! A group is nothing but its tasks. What becomes of those in a set is in `staged`.

use std::time::Duration;

use async_trait::async_trait;
use runner_core::task::{QueueName, State};

use super::cells::Row;
use super::link::{Executor, SqlError};
use super::readers::Readers;
use super::rows::{self, column, count, instant, micros, span};
use super::store::{built, error, sql};
use super::writer::{Tx, Write};
use super::{EmbeddedBroker, inspect, staged};
use crate::{
    BrokerResult, GroupInfo, GroupNames, GroupPage, GroupRule, Groups, HEAD_BYTES, MAX_ACTED, MAX_SET, Reclaimed,
    SET_DEADLINE, StagedSet, TaskPage, TaskRecord,
};

/// Names that a look at the groups asks for at once.
const NAMES: i64 = 500;

/// One page of the groups of a queue; `(skip, size)` says which.
pub(super) async fn page(
    readers: &Readers,
    queue: &QueueName,
    (skip, size): (i64, i64),
) -> Result<GroupPage, SqlError> {
    let found = sql(
        "SELECT group_name, count(*) FROM tasks WHERE queue = ? AND state = 'aggregating' \
         AND staged IS NULL GROUP BY group_name ORDER BY group_name LIMIT ? OFFSET ?",
    )
    .bind(queue.as_str().to_owned())
    .bind(size)
    .bind(skip)
    .fetch_all(readers)
    .await?;
    let row = sql(
        "SELECT count(DISTINCT group_name) FROM tasks WHERE queue = ? AND state = 'aggregating' \
         AND staged IS NULL",
    )
    .bind(queue.as_str().to_owned())
    .fetch_one(readers)
    .await?;
    let mut groups = Vec::with_capacity(found.len());
    for row in &found {
        groups.push(GroupInfo {
            name: row.try_get(0)?,
            tasks: count(row.try_get(1)?),
        });
    }
    Ok(GroupPage {
        groups,
        total: count(row.try_get(0)?),
    })
}

/// One page of the tasks of a group; `(skip, size)` says which.
pub(super) async fn tasks(
    readers: &Readers,
    queue: &QueueName,
    group: &str,
    (skip, size): (i64, i64),
) -> Result<TaskPage, SqlError> {
    let found = built(format!(
        "SELECT {} FROM tasks t WHERE t.queue = ? AND t.group_name = ? AND state = 'aggregating' \
         AND staged IS NULL ORDER BY t.at, t.id LIMIT ? OFFSET ?",
        rows::shown(HEAD_BYTES)
    ))
    .bind(queue.as_str().to_owned())
    .bind(group.to_owned())
    .bind(size)
    .bind(skip)
    .fetch_all(readers)
    .await?;
    let row = sql(
        "SELECT count(*) FROM tasks WHERE queue = ? AND group_name = ? AND state = 'aggregating' \
         AND staged IS NULL",
    )
    .bind(queue.as_str().to_owned())
    .bind(group.to_owned())
    .fetch_one(readers)
    .await?;
    Ok(inspect::page_of(&found, count(row.try_get(0)?)))
}

/// The first rows of a group, as number, id and lock.
pub(super) async fn first(tx: &mut Tx<'_>, queue: &QueueName, group: &str, most: usize) -> Result<Vec<Row>, SqlError> {
    sql(
        "SELECT seq, id, unique_key FROM tasks WHERE queue = ? AND group_name = ? AND state = 'aggregating' \
         AND staged IS NULL ORDER BY at, id LIMIT ?",
    )
    .bind(queue.as_str().to_owned())
    .bind(group.to_owned())
    .bind(column(most as u64))
    .fetch_all(&mut *tx.conn)
    .await
}

/// Whether a group is ripe at this instant.
async fn is_ripe(
    on: impl Executor,
    queue: &QueueName,
    group: &str,
    rule: &GroupRule,
    now: i64,
) -> Result<bool, SqlError> {
    let row = sql(
        "WITH g AS (SELECT at FROM tasks WHERE queue = ?1 AND group_name = ?2 AND state = 'aggregating' \
             AND staged IS NULL ORDER BY at, id) \
         SELECT (SELECT count(*) FROM (SELECT 1 FROM g LIMIT ?3)), (SELECT min(at) FROM g), (SELECT max(at) FROM g)",
    )
    .bind(queue.as_str().to_owned())
    .bind(group.to_owned())
    .bind(column(rule.size() as u64))
    .fetch_one(on)
    .await?;
    let size: i64 = row.try_get(0)?;
    let (Some(oldest), Some(newest)) = (row.try_get::<Option<i64>>(1)?, row.try_get::<Option<i64>>(2)?) else {
        return Ok(false);
    };
    let passed = |at: i64, length: Duration| at <= now.saturating_sub(span(length));
    Ok(size >= column(rule.size() as u64)
        || rule.max_delay.is_some_and(|delay| passed(oldest, delay))
        || passed(newest, rule.grace))
}

/// Takes the first tasks of a group into a set if it is ripe.
struct Stage {
    queue: QueueName,
    group: String,
    rule: GroupRule,
    id: String,
}

#[async_trait]
impl Write for Stage {
    type Output = Option<StagedSet>;
    const DOING: &'static str = "take the tasks of a group aside";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, SqlError> {
        if !is_ripe(&mut *tx.conn, &self.queue, &self.group, &self.rule, tx.now).await? {
            return Ok(None);
        }
        let deadline = tx.now.saturating_add(span(SET_DEADLINE));
        let row = sql("INSERT INTO staged_sets (queue, group_name, id, deadline) VALUES (?, ?, ?, ?) RETURNING seq")
            .bind(self.queue.as_str().to_owned())
            .bind(self.group.clone())
            .bind(self.id.clone())
            .bind(deadline)
            .fetch_one(&mut *tx.conn)
            .await?;
        let staged = sql(
            "UPDATE tasks SET staged = ? WHERE seq IN (SELECT seq FROM tasks WHERE queue = ? \
             AND group_name = ? AND state = 'aggregating' AND staged IS NULL ORDER BY at, id LIMIT ?)",
        )
        .bind(row.try_get::<i64>(0)?)
        .bind(self.queue.as_str().to_owned())
        .bind(self.group.clone())
        .bind(column(self.rule.size() as u64))
        .execute(&mut *tx.conn)
        .await?;
        let from = Some(State::Aggregating);
        tx.tally
            .moved(self.queue.as_str(), from, None, column(staged.rows_affected()));
        Ok(Some(StagedSet {
            queue: self.queue.clone(),
            group: self.group.clone(),
            id: self.id.clone(),
            deadline: instant(deadline),
        }))
    }
}

#[async_trait]
impl Groups for EmbeddedBroker {
    async fn group_names(&self, queue: &QueueName, from: Option<&str>) -> BrokerResult<GroupNames> {
        // Each name is one step down the index of the groups, however many tasks a group has.
        let found = sql("WITH RECURSIVE names (name) AS ( \
               SELECT min(group_name) FROM tasks WHERE queue = ?1 AND state = 'aggregating' AND staged IS NULL \
                 AND group_name > ?2 \
               UNION ALL \
               SELECT (SELECT min(group_name) FROM tasks WHERE queue = ?1 AND state = 'aggregating' \
                 AND staged IS NULL AND group_name > name) FROM names WHERE name IS NOT NULL) \
             SELECT name FROM names WHERE name IS NOT NULL LIMIT ?3")
        .bind(queue.as_str().to_owned())
        .bind(from.unwrap_or_default().to_owned())
        .bind(NAMES)
        .fetch_all(self.readers())
        .await;
        let names = found.and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect());
        let names: Vec<String> = names.map_err(|e| error("look for groups", e))?;
        let full = names.len() == usize::try_from(NAMES).unwrap_or(usize::MAX);
        let next = names.last().filter(|_| full).cloned();
        Ok(GroupNames { names, next })
    }

    async fn stage(&self, queue: &QueueName, group: &str, rule: &GroupRule) -> BrokerResult<Option<StagedSet>> {
        // Most looks find nothing ripe; those need no writer.
        let looked = is_ripe(self.readers(), queue, group, rule, micros(self.clock.now())).await;
        if !looked.map_err(|e| error("see whether a group is ripe", e))? {
            return Ok(None);
        }
        let stage = Stage {
            queue: queue.clone(),
            group: group.to_owned(),
            rule: *rule,
            id: uuid::Uuid::new_v4().to_string(),
        };
        self.writer.write(stage).await
    }

    async fn read_staged(&self, set: &StagedSet) -> BrokerResult<Vec<TaskRecord>> {
        let (tasks, odd) = staged::read(self.readers(), set)
            .await
            .map_err(|e| error("read the tasks of a group", e))?;
        if !odd.is_empty() {
            let set = set.clone();
            self.writer.write(staged::PutAside { set, odd }).await?;
        }
        Ok(tasks)
    }

    async fn drop_staged(&self, set: &StagedSet) -> BrokerResult<usize> {
        let mut dropped = 0;
        for _ in 0..=MAX_SET / MAX_ACTED {
            let now = self.writer.write(staged::Drop(set.clone())).await?;
            dropped += now;
            if now < MAX_ACTED {
                break;
            }
        }
        Ok(dropped)
    }

    async fn reclaim(&self, queues: &[QueueName], grace: Duration, limit: usize) -> BrokerResult<Vec<Reclaimed>> {
        let queues = queues.to_vec();
        self.writer.write(staged::Reclaim { queues, grace, limit }).await
    }
}
