//! The seam's `InspectQueues`: questions about queues.
//!
//! Not here: the past and the size of a queue (`history`).

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use runner_core::task::{QueueName, TaskState};
use rusqlite::{Connection, Row, params};

use super::connection::Statements as _;
use super::error::SqlError;
use super::rows::{self, column, count, micros};
use super::tally::DAY;
use super::{EmbeddedBroker, history};
use crate::{
    BrokerResult, DayCount, InspectQueues, LimitInUse, Lists, MAX_HISTORY_DAYS, MAX_LIMITS_SHOWN, MAX_PENDING_LOOK,
    MAX_PENDING_TYPES, PendingType, QueueInfo,
};

#[async_trait]
impl InspectQueues for EmbeddedBroker {
    async fn queues(&self) -> BrokerResult<Vec<QueueInfo>> {
        let now = micros(self.clock.now());
        let query = move |conn: &Connection| queues(conn, now, None);
        self.readers.query("list queues", query).await
    }

    async fn queue_names(&self) -> BrokerResult<Vec<QueueName>> {
        self.readers.query("list queues", queue_names).await
    }

    async fn queues_of(&self, wanted: &[QueueName]) -> BrokerResult<Vec<QueueInfo>> {
        let (now, names) = (micros(self.clock.now()), wanted.to_vec());
        let query = move |conn: &Connection| queues(conn, now, Some(&names));
        let mut found = self.readers.query("look at queues", query).await?;
        found.sort_by_key(|info| wanted.iter().position(|name| *name == info.name));
        Ok(found)
    }

    async fn history(&self, queue: &QueueName, days: usize) -> BrokerResult<Vec<DayCount>> {
        let (queue, now) = (queue.clone(), micros(self.clock.now()));
        let days = days.clamp(1, MAX_HISTORY_DAYS);
        let query = move |conn: &Connection| history::days(conn, &queue, days, now);
        self.readers.query("read what a queue processed", query).await
    }

    async fn memory(&self, queue: &QueueName) -> BrokerResult<u64> {
        let queue = queue.clone();
        let query = move |conn: &Connection| history::memory(conn, &queue);
        self.readers.query("estimate the size of a queue", query).await
    }

    async fn pending_types(&self, queue: &QueueName, look: usize) -> BrokerResult<Vec<PendingType>> {
        let (queue, look) = (queue.clone(), look.clamp(1, MAX_PENDING_LOOK));
        let query = move |conn: &Connection| pending_types(conn, &queue, look);
        self.readers.query("look at the types of pending tasks", query).await
    }

    async fn limits_in_use(&self, queue: &QueueName) -> BrokerResult<Vec<LimitInUse>> {
        let queue = queue.clone();
        let query = move |conn: &Connection| limits_in_use(conn, &queue);
        self.readers.query("look at the limits of a queue", query).await
    }
}

fn limits_in_use(conn: &Connection, queue: &QueueName) -> Result<Vec<LimitInUse>, SqlError> {
    let mut found = conn.all(
        "SELECT g.gate, CASE WHEN g.rule = 'rate' THEN NULL ELSE g.most END, \
             (SELECT count(*) FROM gated h WHERE h.queue = g.queue AND h.gate = g.gate AND h.holds = 1), \
             (SELECT count(*) FROM gated w WHERE w.queue = g.queue AND w.gate = g.gate AND w.holds = 0) \
         FROM gates g WHERE g.queue = ? AND g.gate <> '' LIMIT ?",
        params![queue.as_str(), column(MAX_LIMITS_SHOWN as u64)],
        |row| {
            let (gate, most): (String, Option<i64>) = (row.get(0)?, row.get(1)?);
            let (running, waiting) = (count(row.get(2)?), count(row.get(3)?));
            Ok(LimitInUse::of_gate(&gate, most.map(count), running, waiting))
        },
    )?;
    LimitInUse::sort(&mut found);
    Ok(found)
}

/// All queues, or only those named.
pub(super) fn queues(conn: &Connection, now: i64, only: Option<&[QueueName]>) -> Result<Vec<QueueInfo>, SqlError> {
    let only = only.map(|names| rows::to_json(&names)).transpose()?;
    let found = conn.all(
        "SELECT q.name, q.pending, q.active, q.scheduled, q.retry, q.archived, q.completed, q.aggregating, \
             q.processed, q.failed, q.paused_at IS NOT NULL, \
             coalesce(d.processed, 0), coalesce(d.failed, 0), \
             (SELECT pending_since FROM tasks WHERE queue = q.name AND state = 'pending' \
              ORDER BY at, seq LIMIT 1) \
         FROM queues q LEFT JOIN day_counts d ON d.day = ?1 AND d.queue = q.name \
         WHERE ?2 IS NULL OR q.name IN (SELECT value FROM json_each(?2)) ORDER BY q.name",
        params![now.div_euclid(DAY), only],
        |row| queue_info(row, now),
    )?;
    Ok(found.into_iter().flatten().collect())
}

/// `None` if the name cannot be a queue's: no task can be enqueued to it, and the page must not fail because of it.
fn queue_info(row: &Row<'_>, now: i64) -> Result<Option<QueueInfo>, SqlError> {
    let number = |place: usize| row.get::<_, i64>(place).map(count);
    let mut counts = BTreeMap::new();
    for (place, state) in TaskState::ALL.into_iter().enumerate() {
        counts.insert(state, number(place + 1)?);
    }
    let since: Option<i64> = row.get(13)?;
    let waited = since.map_or(0, |since| count(now.saturating_sub(since)));
    let Ok(name) = rows::queue_name(row, 0) else {
        return Ok(None);
    };
    Ok(Some(QueueInfo {
        name,
        counts,
        processed: number(8)?,
        failed: number(9)?,
        paused: row.get(10)?,
        processed_today: number(11)?,
        failed_today: number(12)?,
        latency: Duration::from_micros(waited),
    }))
}

pub(super) fn queue_names(conn: &Connection) -> Result<Vec<QueueName>, SqlError> {
    let names: Vec<String> = conn.values("SELECT name FROM queues ORDER BY name", [])?;
    Ok(names.into_iter().filter_map(|name| QueueName::new(name).ok()).collect())
}

/// Those of the queues that have tasks on these lists.
pub(super) fn having(conn: &Connection, queues: &[QueueName], lists: Lists) -> Result<Vec<QueueName>, SqlError> {
    let sum = match lists {
        Lists::Pending => "pending",
        Lists::Delayed => "scheduled + retry",
        Lists::Active => "active",
        Lists::Ended => "completed + archived",
        // Sets that are being aggregated are in no sum.
        Lists::Grouped => "aggregating + EXISTS (SELECT 1 FROM staged_sets s WHERE s.queue = q.name)",
        Lists::Any => {
            "pending + scheduled + retry + active + completed + archived + aggregating + \
             EXISTS (SELECT 1 FROM staged_sets s WHERE s.queue = q.name)"
        }
    };
    let text = format!("SELECT q.name FROM queues q WHERE {sum} > 0");
    let having: HashSet<String> = conn.values(&text, [])?.into_iter().collect();
    let queues = queues.iter().filter(|queue| having.contains(queue.as_str()));
    Ok(queues.cloned().collect())
}

/// The types of the first pending tasks.
pub(super) fn pending_types(conn: &Connection, queue: &QueueName, look: usize) -> Result<Vec<PendingType>, SqlError> {
    conn.all(
        "SELECT kind, count(*), min(pending_since) FROM \
             (SELECT kind, pending_since FROM tasks WHERE queue = ? AND state = 'pending' ORDER BY at, seq LIMIT ?) \
         GROUP BY kind LIMIT ?",
        params![queue.as_str(), column(look as u64), column(MAX_PENDING_TYPES as u64)],
        |row| {
            Ok(PendingType {
                kind: row.get(0)?,
                count: count(row.get(1)?),
                oldest: row.get::<_, Option<i64>>(2)?.map(rows::instant),
            })
        },
    )
}
