//! How a task lies in its row: instants as numbers, the columns of a record, decoding.
//!
//! Not here: which rows are read or written.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use runner_core::task::{QueueName, State, TaskId};

use super::cells::Row;
use super::link::SqlError;
use crate::{RawTask, TaskInfo, TaskRecord};

/// Columns that [`record`] reads, by position.
pub(super) const RECORD: &str = "t.seq, t.queue, t.id, t.kind, t.payload, t.max_retry, t.retried, \
     t.timeout_s, t.deadline_s, t.retention_s, t.unique_key, t.group_name, t.headers, t.last_error, \
     t.last_failed_at, t.completed_at";

/// Columns that [`info`] reads after those of [`RECORD`].
pub(super) const INFO: &str = "t.state, t.at, t.pending_since, t.result, t.waiting_for, \
     length(t.payload), coalesce(length(t.result), 0)";

/// The columns of [`RECORD`] and [`INFO`], with at most this many bytes of payload and result: the rest is not copied.
pub(super) fn shown(most: usize) -> String {
    // A part of something empty is nothing at all to SQLite.
    let part =
        |column| format!("CASE WHEN length({column}) > {most} THEN substr({column}, 1, {most}) ELSE {column} END");
    let columns = format!("{RECORD}, {INFO}");
    columns
        .replacen("t.payload", &part("t.payload"), 1)
        .replacen("t.result", &part("t.result"), 1)
}

/// The condition under which a task is on the list of a state. With these very words a query can use the index of
/// the list.
pub(super) fn on_list(state: State) -> &'static str {
    match state {
        State::Pending => "state = 'pending'",
        State::Active => "state = 'active'",
        State::Scheduled => "state = 'scheduled'",
        State::Retry => "state = 'retry'",
        State::Archived => "state = 'archived'",
        State::Completed => "state = 'completed'",
        State::Aggregating => "state = 'aggregating' AND staged IS NULL",
    }
}

/// Microseconds since 1970.
pub(super) fn micros(instant: Timestamp) -> i64 {
    instant.as_microsecond()
}

/// The length in microseconds, the longest there is when it does not fit.
pub(super) fn span(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX)
}

/// The instant of so many microseconds, the nearest there is when it does not fit.
pub(super) fn instant(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(if micros < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// A number from elsewhere as a column holds it, the largest there is when it does not fit.
pub(super) fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A count as it came from a column; those are never negative.
pub(super) fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// One row as far as every reader needs it.
pub(super) struct Stored {
    /// The row's own number.
    pub(super) seq: i64,
    /// The task.
    pub(super) record: TaskRecord,
}

/// The record of a row that was read with [`RECORD`].
pub(super) fn record(row: &Row) -> Result<Stored, SqlError> {
    let deadline: i64 = row.try_get(8)?;
    let record = TaskRecord {
        queue: queue_name(row.try_get(1)?)?,
        id: task_id(row.try_get(2)?)?,
        kind: row.try_get(3)?,
        payload: Bytes::from(row.try_get::<Vec<u8>>(4)?),
        max_retry: small(row.try_get(5)?),
        retried: small(row.try_get(6)?),
        timeout: Duration::from_secs(count(row.try_get(7)?)),
        deadline: (deadline != 0).then(|| seconds(deadline)),
        retention: Duration::from_secs(count(row.try_get(9)?)),
        unique_key: row.try_get(10)?,
        group: row.try_get(11)?,
        headers: headers(row.try_get(12)?)?,
        last_error: row.try_get(13)?,
        last_failed_at: row.try_get::<Option<i64>>(14)?.map(instant),
        completed_at: row.try_get::<Option<i64>>(15)?.map(instant),
    };
    Ok(Stored {
        seq: row.try_get(0)?,
        record,
    })
}

/// The type of a row that was read with [`RECORD`]; `None` if it cannot be read.
pub(super) fn kind(row: &Row) -> Option<&str> {
    row.try_get(3).ok()
}

/// Everything about the task of a row that was read with [`RECORD`] and [`INFO`].
pub(super) fn info(row: &Row) -> Result<TaskInfo, SqlError> {
    let state = state(row.try_get(16)?)?;
    let at = instant(row.try_get(17)?);
    let pending_since: Option<i64> = row.try_get(18)?;
    let when = |states: &[State]| states.contains(&state).then_some(at);
    Ok(TaskInfo {
        record: record(row)?.record,
        state,
        next_run: when(&[State::Scheduled, State::Retry]),
        pending_since: pending_since.filter(|_| state == State::Pending).map(instant),
        lease_until: when(&[State::Active]),
        filed_at: when(&[State::Archived, State::Completed]),
        result: row.try_get::<Option<Vec<u8>>>(19)?.map(Bytes::from),
        waiting_for: row.try_get(20)?,
        payload_bytes: count(row.try_get(21)?),
        result_bytes: count(row.try_get(22)?),
    })
}

/// The same of a row that [`info`] cannot read; `why` is what it said.
pub(super) fn raw(row: &Row, why: &SqlError) -> RawTask {
    RawTask {
        id: row.bytes(2).to_vec(),
        state: row.try_get::<String>(16).ok().and_then(|word| word.parse().ok()),
        why: Some(why.to_string()),
        head: Bytes::copy_from_slice(row.bytes(4)),
        bytes: row.try_get(21).map(count).unwrap_or_default(),
    }
}

/// The state that a column names.
pub(super) fn state(word: &str) -> Result<State, SqlError> {
    word.parse().map_err(|e| SqlError::Decode(Box::new(e)))
}

/// The queue that a column names.
pub(super) fn queue_name(text: String) -> Result<QueueName, SqlError> {
    QueueName::new(text).map_err(|e| SqlError::Decode(Box::new(e)))
}

/// The task id that a column holds.
pub(super) fn task_id(text: String) -> Result<TaskId, SqlError> {
    TaskId::new(text).map_err(|e| SqlError::Decode(Box::new(e)))
}

/// A value kept as JSON.
pub(super) fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, SqlError> {
    serde_json::from_str(text).map_err(|e| SqlError::Decode(Box::new(e)))
}

/// A value to keep as JSON.
pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<String, SqlError> {
    serde_json::to_string(value).map_err(|e| SqlError::Encode(Box::new(e)))
}

fn headers(text: Option<&str>) -> Result<BTreeMap<String, String>, SqlError> {
    text.map_or_else(|| Ok(BTreeMap::new()), json)
}

fn seconds(since_1970: i64) -> Timestamp {
    instant(since_1970.saturating_mul(1_000_000))
}

fn small(number: i64) -> u32 {
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}
