//! Questions about the past and the size of a queue, and about what a schedule enqueued.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use runner_core::schedule::ScheduleId;
use runner_core::task::{QueueName, State};

use super::link::SqlError;
use super::readers::Readers;
use super::rows::{self, count, instant};
use super::store::{built, sql};
use super::tally::DAY;
use crate::{DayCount, EnqueueEvent, EnqueueEventPage};

/// Rows of each state that an estimate looks at.
const SAMPLE: i64 = 20;

/// What a row takes besides its texts and blobs: numbers, the record's head, entries of three indexes.
const ROW: i64 = 200;

/// The last days, today first.
pub(super) async fn days(
    readers: &Readers,
    queue: &QueueName,
    days: usize,
    now: i64,
) -> Result<Vec<DayCount>, SqlError> {
    let today = now.div_euclid(DAY);
    let back = i64::try_from(days).unwrap_or(1);
    let found = sql("SELECT day, processed, failed FROM day_counts WHERE queue = ? AND day > ? AND day <= ?")
        .bind(queue.as_str().to_owned())
        .bind(today - back)
        .bind(today)
        .fetch_all(readers)
        .await?;
    let mut counts: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
    for row in found {
        let (processed, failed): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
        counts.insert(row.try_get(0)?, (count(processed), count(failed)));
    }
    let history = (0..back).map(|back| {
        let day = today - back;
        let (processed, failed) = counts.get(&day).copied().unwrap_or_default();
        DayCount {
            day: instant(day.saturating_mul(DAY)).to_zoned(TimeZone::UTC).date(),
            processed,
            failed,
        }
    });
    Ok(history.collect())
}

/// About how many bytes the tasks of a queue take: the mean of a few rows of each state, times their number.
pub(super) async fn memory(readers: &Readers, queue: &QueueName) -> Result<u64, SqlError> {
    let mut total = 0_u64;
    for state in State::ALL {
        // Attempts are texts of any length; the newest ones of the sampled tasks stand for all.
        let row = built(format!(
            "SELECT (SELECT {state} FROM queues WHERE name = ?1), avg(size) FROM \
               (SELECT length(t.payload) + length(t.id) * 2 + length(t.queue) * 3 + length(t.kind) \
                  + coalesce(length(t.headers), 0) + length(t.last_error) + coalesce(length(t.result), 0) \
                  + coalesce((SELECT sum(length(a.body)) FROM attempts a WHERE a.task = t.seq), 0) + {ROW} AS size \
                FROM tasks t WHERE t.queue = ?1 AND {} ORDER BY t.at, t.seq LIMIT {SAMPLE})",
            rows::on_list(state)
        ))
        .bind(queue.as_str().to_owned())
        .fetch_one(readers)
        .await?;
        let (tasks, mean): (Option<i64>, Option<f64>) = (row.try_get(0)?, row.try_get(1)?);
        let mean = mean.unwrap_or_default().max(0.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates; never negative
        let mean = mean as u64;
        total = total.saturating_add(mean.saturating_mul(count(tasks.unwrap_or_default())));
    }
    Ok(total)
}

/// Fires on record, newest first; `(skip, size)` says which.
pub(super) async fn enqueue_events(
    readers: &Readers,
    schedule: &ScheduleId,
    (skip, size): (i64, i64),
) -> Result<EnqueueEventPage, SqlError> {
    let found = sql(
        "SELECT task, decided_at FROM decisions WHERE schedule = ? AND kind = 'fired' AND task IS NOT NULL \
         ORDER BY seq DESC LIMIT ? OFFSET ?",
    )
    .bind(schedule.as_str().to_owned())
    .bind(size)
    .bind(skip)
    .fetch_all(readers)
    .await?;
    let row = sql("SELECT count(*) FROM decisions WHERE schedule = ? AND kind = 'fired' AND task IS NOT NULL")
        .bind(schedule.as_str().to_owned())
        .fetch_one(readers)
        .await?;
    let mut events = Vec::with_capacity(found.len());
    for row in found {
        // One that cannot be read is left out, as over Redis.
        let Some(task) = row.try_get(0).ok().and_then(|id| rows::task_id(id).ok()) else {
            continue;
        };
        events.push(EnqueueEvent {
            task,
            at: instant(row.try_get(1)?),
        });
    }
    Ok(EnqueueEventPage {
        events,
        total: count(row.try_get(0)?),
    })
}
