//! Groups: their names, their tasks, which are ripe, and moving a ripe one into a set.
//!
//! A group exists only as its tasks. Not here: tasks in a set (`staged`).

use std::time::Duration;

use async_trait::async_trait;
use runner_core::task::{QueueName, TaskState};
use rusqlite::{Connection, params};

use super::connection::Statements as _;
use super::error::SqlError;
use super::inspect_tasks::bounds;
use super::moves::TaskList;
use super::rows::{self, column, count, instant, micros, span};
use super::writer::Tx;
use super::{EmbeddedBroker, staged};
use crate::{
    BrokerResult, GroupInfo, GroupNames, GroupPage, GroupRule, Groups, HEAD_BYTES, MAX_ACTED, MAX_SET, Page, Reclaimed,
    SET_DEADLINE, StagedSet, TaskPage, TaskRecord,
};

/// Group names read at once.
const NAMES: i64 = 500;

/// One page of the groups of a queue, selected by `(skip, size)`.
pub(super) fn page(conn: &Connection, queue: &QueueName, (skip, size): (i64, i64)) -> Result<GroupPage, SqlError> {
    let groups = conn.all(
        "SELECT group_name, count(*) FROM tasks WHERE queue = ? AND state = 'aggregating' \
         AND staged IS NULL GROUP BY group_name ORDER BY group_name LIMIT ? OFFSET ?",
        params![queue.as_str(), size, skip],
        |row| {
            Ok(GroupInfo {
                name: row.get(0)?,
                tasks: count(row.get(1)?),
            })
        },
    )?;
    let total = conn.value(
        "SELECT count(DISTINCT group_name) FROM tasks WHERE queue = ? AND state = 'aggregating' \
         AND staged IS NULL",
        [queue.as_str()],
    )?;
    let total = count(total);
    Ok(GroupPage { groups, total })
}

/// One page of the tasks of a group, selected by `(skip, size)`.
pub(super) fn tasks(
    conn: &Connection,
    queue: &QueueName,
    group: &str,
    (skip, size): (i64, i64),
) -> Result<TaskPage, SqlError> {
    let text = format!(
        "SELECT {} FROM tasks t WHERE t.queue = ? AND t.group_name = ? AND state = 'aggregating' \
         AND staged IS NULL ORDER BY t.at, t.id LIMIT ? OFFSET ?",
        rows::columns_cut_to(HEAD_BYTES)
    );
    let found = conn.all(&text, params![queue.as_str(), group, size, skip], rows::listed)?;
    let total = conn.value(
        "SELECT count(*) FROM tasks WHERE queue = ? AND group_name = ? AND state = 'aggregating' \
         AND staged IS NULL",
        [queue.as_str(), group],
    )?;
    Ok(rows::page_of(found, count(total)))
}

/// The first rows of a group.
pub(super) fn first(tx: &Tx<'_>, queue: &QueueName, group: &str, most: usize) -> Result<Vec<TaskList>, SqlError> {
    tx.conn.all(
        "SELECT seq, id, unique_key FROM tasks WHERE queue = ? AND group_name = ? AND state = 'aggregating' \
         AND staged IS NULL ORDER BY at, id LIMIT ?",
        params![queue.as_str(), group, column(most as u64)],
        TaskList::read,
    )
}

/// Whether a group is ripe now.
fn is_ripe(conn: &Connection, queue: &QueueName, group: &str, rule: &GroupRule, now: i64) -> Result<bool, SqlError> {
    let full = column(rule.size() as u64);
    let (size, oldest, newest): (i64, Option<i64>, Option<i64>) = conn.one(
        "WITH g AS (SELECT at FROM tasks WHERE queue = ?1 AND group_name = ?2 AND state = 'aggregating' \
             AND staged IS NULL ORDER BY at, id) \
         SELECT (SELECT count(*) FROM (SELECT 1 FROM g LIMIT ?3)), (SELECT min(at) FROM g), (SELECT max(at) FROM g)",
        params![queue.as_str(), group, full],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    let (Some(oldest), Some(newest)) = (oldest, newest) else {
        return Ok(false);
    };
    let passed = |at: i64, length: Duration| at <= now.saturating_sub(span(length));
    Ok(size >= full || rule.max_delay.is_some_and(|delay| passed(oldest, delay)) || passed(newest, rule.grace))
}

/// Moves the first tasks of a ripe group into a set with this id.
fn stage(
    tx: &mut Tx<'_>,
    queue: &QueueName,
    group: &str,
    rule: &GroupRule,
    id: &str,
) -> Result<Option<StagedSet>, SqlError> {
    // Checked again inside the transaction: another process may have staged the group since.
    if !is_ripe(tx.conn, queue, group, rule, tx.now)? {
        return Ok(None);
    }
    let deadline = tx.now.saturating_add(span(SET_DEADLINE));
    let number: i64 = tx.conn.value(
        "INSERT INTO staged_sets (queue, group_name, id, deadline) VALUES (?, ?, ?, ?) RETURNING seq",
        params![queue.as_str(), group, id, deadline],
    )?;
    let staged = tx.conn.exec(
        "UPDATE tasks SET staged = ? WHERE seq IN (SELECT seq FROM tasks WHERE queue = ? \
         AND group_name = ? AND state = 'aggregating' AND staged IS NULL ORDER BY at, id LIMIT ?)",
        params![number, queue.as_str(), group, column(rule.size() as u64)],
    )?;
    let from = Some(TaskState::Aggregating);
    tx.tally.moved(queue.as_str(), from, None, column(staged));
    Ok(Some(StagedSet {
        queue: queue.clone(),
        group: group.to_owned(),
        id: id.to_owned(),
        deadline: instant(deadline),
    }))
}

/// Finds each name by one step down the index, however many tasks a group has.
fn names(conn: &Connection, queue: &QueueName, from: &str) -> Result<Vec<String>, SqlError> {
    conn.values(
        "WITH RECURSIVE names (name) AS ( \
           SELECT min(group_name) FROM tasks WHERE queue = ?1 AND state = 'aggregating' AND staged IS NULL \
             AND group_name > ?2 \
           UNION ALL \
           SELECT (SELECT min(group_name) FROM tasks WHERE queue = ?1 AND state = 'aggregating' \
             AND staged IS NULL AND group_name > name) FROM names WHERE name IS NOT NULL) \
         SELECT name FROM names WHERE name IS NOT NULL LIMIT ?3",
        params![queue.as_str(), from, NAMES],
    )
}

#[async_trait]
impl Groups for EmbeddedBroker {
    async fn group_names(&self, queue: &QueueName, from: Option<&str>) -> BrokerResult<GroupNames> {
        let (queue, from) = (queue.clone(), from.unwrap_or_default().to_owned());
        let look = move |conn: &Connection| names(conn, &queue, &from);
        let names = self.readers.query("look for groups", look).await?;
        let full = names.len() == usize::try_from(NAMES).unwrap_or(usize::MAX);
        // The last name is the cursor: names that appear or vanish before it do not shift the rest.
        let next = names.last().filter(|_| full).cloned();
        Ok(GroupNames { names, next })
    }

    async fn stage(&self, queue: &QueueName, group: &str, rule: &GroupRule) -> BrokerResult<Option<StagedSet>> {
        let (queue, group, rule) = (queue.clone(), group.to_owned(), *rule);
        // Most checks find nothing ripe; those need no writer.
        let look = {
            let (queue, group, now) = (queue.clone(), group.clone(), micros(self.clock.now()));
            move |conn: &Connection| is_ripe(conn, &queue, &group, &rule, now)
        };
        if !self.readers.query("check whether a group is ripe", look).await? {
            return Ok(None);
        }
        // Outside the change, which may run twice: both runs must use the same id.
        let id = uuid::Uuid::new_v4().to_string();
        let change = move |tx: &mut Tx<'_>| stage(tx, &queue, &group, &rule, &id);
        self.writer.write("stage the tasks of a group", change).await
    }

    async fn read_staged(&self, set: &StagedSet) -> BrokerResult<Vec<TaskRecord>> {
        let wanted = set.clone();
        let read = move |conn: &Connection| staged::read(conn, &wanted);
        let (tasks, unreadable) = self.readers.query("read the tasks of a group", read).await?;
        if !unreadable.is_empty() {
            let set = set.clone();
            let change = move |tx: &mut Tx<'_>| staged::archive_unreadable(tx, &set, &unreadable);
            self.writer.write("archive tasks that cannot be read", change).await?;
        }
        Ok(tasks)
    }

    async fn drop_staged(&self, set: &StagedSet) -> BrokerResult<usize> {
        let mut dropped = 0;
        for _ in 0..=MAX_SET / MAX_ACTED {
            let set = set.clone();
            let change = move |tx: &mut Tx<'_>| staged::drop_some(tx, &set);
            let now = self.writer.write("delete combined tasks", change).await?;
            dropped += now;
            if now < MAX_ACTED {
                break;
            }
        }
        Ok(dropped)
    }

    async fn reclaim(&self, queues: &[QueueName], grace: Duration, limit: usize) -> BrokerResult<Vec<Reclaimed>> {
        let queues = queues.to_vec();
        let change = move |tx: &mut Tx<'_>| staged::reclaim(tx, &queues, grace, limit);
        self.writer.write("take back sets of groups", change).await
    }

    async fn groups(&self, queue: &QueueName, at: Page) -> BrokerResult<GroupPage> {
        let queue = queue.clone();
        let query = move |conn: &Connection| page(conn, &queue, bounds(at));
        self.readers.query("list groups", query).await
    }

    async fn group_tasks(&self, queue: &QueueName, group: &str, at: Page) -> BrokerResult<TaskPage> {
        let (queue, group) = (queue.clone(), group.to_owned());
        let query = move |conn: &Connection| tasks(conn, &queue, &group, bounds(at));
        self.readers.query("list the tasks of a group", query).await
    }
}
