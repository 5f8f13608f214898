//! The form of a task in its row: instants as numbers, the columns of a record, decoding.
//!
//! Not here: which rows are read or written.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use runner_core::task::{QueueName, TaskId, TaskState};
use rusqlite::Row;

use super::error::SqlError;
use crate::{RawTask, TaskInfo, TaskPage, TaskRecord};

/// Columns that [`record`] reads, by position.
pub(super) const RECORD: &str = "t.seq, t.queue, t.id, t.kind, t.payload, t.max_retry, t.retried, \
     t.timeout_s, t.deadline_s, t.retention_s, t.unique_key, t.group_name, t.headers, t.last_error, \
     t.last_failed_at, t.completed_at";

/// Columns that [`info`] reads after those of [`RECORD`].
pub(super) const INFO: &str = "t.state, t.at, t.pending_since, t.result, coalesce(t.waiting_for, iif(t.state = 'scheduled', \
     (SELECT 'limit ' || replace(g.gate, char(9), ', key ') FROM gated g WHERE g.queue = t.queue AND g.id = t.id AND g.holds = 0), NULL)), \
     length(t.payload), coalesce(length(t.result), 0)";

/// The columns of [`RECORD`] and [`INFO`] with at most this many bytes of payload and result; the rest is not copied.
pub(super) fn columns_cut_to(most: usize) -> String {
    // SQLite makes NULL of a part of something empty.
    let part = |column: &str| {
        let name = column.trim_start_matches("t.");
        format!("CASE WHEN length({column}) > {most} THEN substr({column}, 1, {most}) ELSE {column} END AS {name}")
    };
    let columns = format!("{RECORD}, {INFO}");
    columns
        .replacen("t.payload", &part("t.payload"), 1)
        .replacen("t.result", &part("t.result"), 1)
}

/// The condition for a task to be on the list of a state. Queries must use exactly this text to use the list's index.
pub(super) fn on_list(state: TaskState) -> &'static str {
    match state {
        TaskState::Pending => "state = 'pending'",
        TaskState::Active => "state = 'active'",
        TaskState::Scheduled => "state = 'scheduled'",
        TaskState::Retry => "state = 'retry'",
        TaskState::Archived => "state = 'archived'",
        TaskState::Completed => "state = 'completed'",
        TaskState::Aggregating => "state = 'aggregating' AND staged IS NULL",
    }
}

/// Microseconds since 1970.
pub(super) fn micros(instant: Timestamp) -> i64 {
    instant.as_microsecond()
}

/// A length in microseconds, saturating.
pub(super) fn span(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX)
}

/// The instant of this many microseconds, saturating.
pub(super) fn instant(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(if micros < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// A number as a column stores it, saturating.
pub(super) fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A count read from a column; never negative.
pub(super) fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// The record of a row that was read with [`RECORD`].
pub(super) fn record(row: &Row<'_>) -> Result<TaskRecord, SqlError> {
    let deadline: i64 = row.get(8)?;
    Ok(TaskRecord {
        queue: queue_name(row, 1)?,
        id: task_id(row, 2)?,
        kind: row.get(3)?,
        payload: Bytes::from(row.get::<_, Vec<u8>>(4)?),
        max_retry: small(row.get(5)?),
        retried: small(row.get(6)?),
        timeout: Duration::from_secs(count(row.get(7)?)),
        deadline: (deadline != 0).then(|| seconds(deadline)),
        retention: Duration::from_secs(count(row.get(9)?)),
        unique_key: row.get(10)?,
        group: row.get(11)?,
        headers: headers(row, 12)?,
        last_error: row.get(13)?,
        last_failed_at: row.get::<_, Option<i64>>(14)?.map(instant),
        completed_at: row.get::<_, Option<i64>>(15)?.map(instant),
    })
}

/// All details of the task of a row that was read with [`RECORD`] and [`INFO`].
pub(super) fn info(row: &Row<'_>) -> Result<TaskInfo, SqlError> {
    let state = state(row, 16)?;
    let at = instant(row.get(17)?);
    let pending_since: Option<i64> = row.get(18)?;
    let when = |states: &[TaskState]| states.contains(&state).then_some(at);
    Ok(TaskInfo {
        record: record(row)?,
        state,
        next_run: when(&[TaskState::Scheduled, TaskState::Retry]),
        pending_since: pending_since.filter(|_| state == TaskState::Pending).map(instant),
        lease_until: when(&[TaskState::Active]),
        filed_at: when(&[TaskState::Archived, TaskState::Completed]),
        result: row.get::<_, Option<Vec<u8>>>(19)?.map(Bytes::from),
        waiting_for: row.get(20)?,
        payload_bytes: count(row.get(21)?),
        result_bytes: count(row.get(22)?),
    })
}

/// The details that can be read of a row that [`info`] refuses; `why` is its error.
pub(super) fn raw(row: &Row<'_>, why: &SqlError) -> RawTask {
    RawTask {
        id: bytes(row, 2),
        state: state(row, 16).ok(),
        why: Some(why.to_string()),
        head: Bytes::from(bytes(row, 4)),
        bytes: row.get(21).map(count).unwrap_or_default(),
    }
}

/// A row of a list: its task, or the readable parts of an unreadable one.
pub(super) fn listed(row: &Row<'_>) -> Result<Result<TaskInfo, RawTask>, SqlError> {
    Ok(info(row).map_err(|why| raw(row, &why)))
}

/// One page of a list of `total` tasks.
pub(super) fn page_of(found: Vec<Result<TaskInfo, RawTask>>, total: u64) -> TaskPage {
    let (mut tasks, mut unreadable) = (Vec::with_capacity(found.len()), Vec::new());
    for task in found {
        match task {
            Ok(info) => tasks.push(info),
            Err(raw) => unreadable.push(raw),
        }
    }
    TaskPage {
        tasks,
        unreadable,
        total,
    }
}

/// The bytes of a text or a blob; none for a number.
fn bytes(row: &Row<'_>, place: usize) -> Vec<u8> {
    let value = row.get_ref(place).ok();
    let bytes = value.and_then(|value| value.as_bytes_or_null().ok().flatten());
    bytes.unwrap_or_default().to_vec()
}

/// The state named by a column.
pub(super) fn state(row: &Row<'_>, place: usize) -> Result<TaskState, SqlError> {
    // A few letters for each task of a list: without an allocation.
    let word = row.get_ref(place)?.as_str();
    let word = word.map_err(|e| SqlError::Decode(format!("column {place}: {e}").into()))?;
    word.parse().map_err(|e| SqlError::Decode(Box::new(e)))
}

/// The queue named by a column.
pub(super) fn queue_name(row: &Row<'_>, place: usize) -> Result<QueueName, SqlError> {
    QueueName::new(row.get::<_, String>(place)?).map_err(|e| SqlError::Decode(Box::new(e)))
}

/// The task id in a column.
pub(super) fn task_id(row: &Row<'_>, place: usize) -> Result<TaskId, SqlError> {
    TaskId::new(row.get::<_, String>(place)?).map_err(|e| SqlError::Decode(Box::new(e)))
}

/// Decodes a value stored as JSON.
pub(super) fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, SqlError> {
    serde_json::from_str(text).map_err(|e| SqlError::Decode(Box::new(e)))
}

/// Encodes a value as JSON.
pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<String, SqlError> {
    serde_json::to_string(value).map_err(|e| SqlError::Encode(Box::new(e)))
}

fn headers(row: &Row<'_>, place: usize) -> Result<BTreeMap<String, String>, SqlError> {
    let text: Option<String> = row.get(place)?;
    text.map_or_else(|| Ok(BTreeMap::new()), |text| json(&text))
}

fn seconds(since_1970: i64) -> Timestamp {
    instant(since_1970.saturating_mul(1_000_000))
}

fn small(number: i64) -> u32 {
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}
