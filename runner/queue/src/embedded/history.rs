//! Queries about the past and the size of a queue, and about fires of a schedule.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::tz::TimeZone;
use runner_core::schedule::ScheduleId;
use runner_core::task::{QueueName, TaskState};
use rusqlite::{Connection, params};

use super::EmbeddedBroker;
use super::connection::Statements as _;
use super::error::SqlError;
use super::inspect_tasks::bounds;
use super::rows::{self, count, instant};
use super::tally::DAY;
use crate::{BrokerResult, DayCount, EnqueueEvent, EnqueueEventPage, Entries, EntryView, Page};

/// Rows of each state in the sample of an estimate.
const SAMPLE: i64 = 20;

/// Bytes of a row besides its texts and blobs: numbers, the record's head, entries of three indexes.
const ROW: i64 = 200;

/// The last days, today first.
pub(super) fn days(conn: &Connection, queue: &QueueName, days: usize, now: i64) -> Result<Vec<DayCount>, SqlError> {
    let today = now.div_euclid(DAY);
    let back = i64::try_from(days).unwrap_or(1);
    let found: Vec<(i64, (i64, i64))> = conn.all(
        "SELECT day, processed, failed FROM day_counts WHERE queue = ? AND day > ? AND day <= ?",
        params![queue.as_str(), today - back, today],
        |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))),
    )?;
    let counts: BTreeMap<i64, (i64, i64)> = found.into_iter().collect();
    let history = (0..back).map(|back| {
        let day = today - back;
        let (processed, failed) = counts.get(&day).copied().unwrap_or_default();
        DayCount {
            day: instant(day.saturating_mul(DAY)).to_zoned(TimeZone::UTC).date(),
            processed: count(processed),
            failed: count(failed),
        }
    });
    Ok(history.collect())
}

/// Estimated bytes of the tasks of a queue: the mean of a few rows of each state, times their number.
pub(super) fn memory(conn: &Connection, queue: &QueueName) -> Result<u64, SqlError> {
    let mut total = 0_u64;
    for state in TaskState::ALL {
        // Attempts are texts of any length; the newest ones of the sampled tasks represent all.
        let text = format!(
            "SELECT (SELECT {state} FROM queues WHERE name = ?1), avg(size) FROM \
               (SELECT length(t.payload) + length(t.id) * 2 + length(t.queue) * 3 + length(t.kind) \
                  + coalesce(length(t.headers), 0) + length(t.last_error) + coalesce(length(t.result), 0) \
                  + coalesce((SELECT sum(length(a.body)) FROM attempts a WHERE a.task = t.seq), 0) + {ROW} AS size \
                FROM tasks t WHERE t.queue = ?1 AND {} ORDER BY t.at, t.seq LIMIT {SAMPLE})",
            rows::on_list(state)
        );
        let (tasks, mean): (Option<i64>, Option<f64>) =
            conn.one(&text, [queue.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mean = mean.unwrap_or_default().max(0.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates; never negative
        let mean = mean as u64;
        total = total.saturating_add(mean.saturating_mul(count(tasks.unwrap_or_default())));
    }
    Ok(total)
}

/// Recorded fires, newest first, selected by `(skip, size)`.
pub(super) fn enqueue_events(
    conn: &Connection,
    schedule: &ScheduleId,
    (skip, size): (i64, i64),
) -> Result<EnqueueEventPage, SqlError> {
    let events = conn.all(
        "SELECT task, decided_at FROM decisions WHERE schedule = ? AND kind = 'fired' AND task IS NOT NULL \
         ORDER BY seq DESC LIMIT ? OFFSET ?",
        params![schedule.as_str(), size, skip],
        |row| {
            // An unreadable one is left out, as with Redis.
            let Ok(task) = rows::task_id(row, 0) else {
                return Ok(None);
            };
            let at = instant(row.get(1)?);
            Ok(Some(EnqueueEvent { task, at }))
        },
    )?;
    let total = conn.value(
        "SELECT count(*) FROM decisions WHERE schedule = ? AND kind = 'fired' AND task IS NOT NULL",
        [schedule.as_str()],
    )?;
    Ok(EnqueueEventPage {
        events: events.into_iter().flatten().collect(),
        total: count(total),
    })
}

#[async_trait]
impl Entries for EmbeddedBroker {
    /// Does nothing: no other tool reads this file.
    async fn publish_entries(&self, _: &str, _: &[EntryView], _: Duration) -> BrokerResult<()> {
        Ok(())
    }

    async fn enqueue_events(&self, schedule: &ScheduleId, at: Page) -> BrokerResult<EnqueueEventPage> {
        let schedule = schedule.clone();
        let query = move |conn: &Connection| enqueue_events(conn, &schedule, bounds(at));
        self.readers.query("read what a schedule enqueued", query).await
    }
}
