//! From asynq's messages to the words of the seam and back.
//!
//! Instants that only the store's clock knows (completed at, last failed at) are left open: a message is
//! then written in two halves, and the script puts the instant between them.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message as _;
use runner_core::schedule::{SCHEDULE_HEADER, headers_in_id};
use runner_core::task::{QueueName, Task, TaskId};

use crate::redis::format::keys;
use crate::redis::format::wire::{Header, TaskMessage};
use crate::{TaskRecord, stored_error};

/// A message in two halves, with the instant that the script writes left out between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::redis) struct MessageHalves {
    /// Everything before the instant.
    pub head: Vec<u8>,
    /// Everything after it.
    pub tail: Vec<u8>,
}

/// The message of a task that a producer states, and the lock that it is to take (empty: none).
pub(in crate::redis) fn message_of(task: &Task, id: &TaskId) -> TaskMessage {
    let (timeout, deadline) = task.stored_limits();
    let unique_key = task
        .unique
        .as_ref()
        .map(|_| keys::unique(task.queue.as_str(), &task.kind, &task.lock_content()));
    TaskMessage {
        kind: task.kind.clone(),
        payload: task.payload.clone().unwrap_or_default(),
        id: id.to_string(),
        queue: task.queue.to_string(),
        retry: i32::try_from(task.max_retry).unwrap_or(i32::MAX),
        timeout: i64::try_from(timeout).unwrap_or(i64::MAX),
        deadline,
        unique_key: unique_key.unwrap_or_default(),
        retention: whole_seconds(task.retention),
        group_key: task.group.clone().unwrap_or_default(),
        headers: headers_to(&task.headers),
        ..TaskMessage::default()
    }
}

/// The headers of a schedule's task for a field of its own beside the message, which asynq leaves alone: workers of
/// versions before 0.26 write messages back without headers. Empty for any other task.
pub(in crate::redis) fn kept_headers(task: &Task) -> Vec<u8> {
    if !task.headers.contains_key(SCHEDULE_HEADER) {
        return Vec::new();
    }
    let headers = headers_to(&task.headers);
    TaskMessage {
        headers,
        ..TaskMessage::default()
    }
    .encode_to_vec()
}

/// Whether a task seems to be a schedule's and to have lost its headers.
pub(in crate::redis) fn lost_headers(record: &TaskRecord) -> bool {
    !record.headers.contains_key(SCHEDULE_HEADER) && !headers_in_id(&record.id).is_empty()
}

/// Gives them back, from what was kept, or else from the id; those that it still has stay.
pub(in crate::redis) fn restore_headers(record: &mut TaskRecord, kept: Option<Vec<u8>>) {
    let kept = kept
        .and_then(|kept| TaskMessage::decode(&kept[..]).ok())
        .unwrap_or_default();
    let mut headers = headers_from(kept.headers);
    if !headers.contains_key(SCHEDULE_HEADER) {
        headers.extend(headers_in_id(&record.id));
    }
    // Headers that the task still has win over stored ones: a handler or a Go program may have changed them.
    headers.append(&mut record.headers);
    record.headers = headers;
}

/// Reads a message that must be the task `id` of `queue`.
///
/// # Errors
///
/// The problem, for people.
pub(in crate::redis) fn decode(bytes: impl Into<Bytes>, queue: &QueueName, id: &[u8]) -> Result<TaskRecord, String> {
    record_of(checked(bytes, queue, id)?, queue)
}

/// The same message with another payload.
///
/// # Errors
///
/// The problem of the message, for people.
pub(in crate::redis) fn with_payload(
    bytes: impl Into<Bytes>,
    queue: &QueueName,
    id: &[u8],
    payload: Bytes,
) -> Result<Vec<u8>, String> {
    let mut message = checked(bytes, queue, id)?;
    message.payload = payload;
    Ok(message.encode_to_vec())
}

fn checked(bytes: impl Into<Bytes>, queue: &QueueName, id: &[u8]) -> Result<TaskMessage, String> {
    // The payload is a slice of the answer: nothing is copied.
    let message =
        TaskMessage::decode(bytes.into()).map_err(|error| format!("its message cannot be decoded: {error}"))?;
    // A message under another task's key would be settled under that key, and its own task run twice.
    if message.id.as_bytes() != id || message.queue != queue.as_str() {
        return Err(format!(
            "its message says that it is {:?} of queue {:?}",
            message.id, message.queue
        ));
    }
    Ok(message)
}

/// `queue` is the one that the message names.
fn record_of(message: TaskMessage, queue: &QueueName) -> Result<TaskRecord, String> {
    let id = TaskId::new(message.id).map_err(|error| error.to_string())?;
    Ok(TaskRecord {
        id,
        kind: message.kind,
        payload: message.payload,
        queue: queue.clone(),
        // Negative numbers, which no producer should write, count as none.
        max_retry: u32::try_from(message.retry).unwrap_or_default(),
        retried: u32::try_from(message.retried).unwrap_or_default(),
        timeout: Duration::from_secs(u64::try_from(message.timeout).unwrap_or_default()),
        deadline: instant(message.deadline),
        retention: Duration::from_secs(u64::try_from(message.retention).unwrap_or_default()),
        unique_key: filled(message.unique_key),
        group: filled(message.group_key),
        headers: headers_from(message.headers),
        last_error: message.error_msg,
        last_failed_at: instant(message.last_failed_at),
        completed_at: instant(message.completed_at),
    })
}

fn message_from(record: &TaskRecord) -> TaskMessage {
    TaskMessage {
        kind: record.kind.clone(),
        payload: record.payload.clone(),
        id: record.id.to_string(),
        queue: record.queue.to_string(),
        retry: i32::try_from(record.max_retry).unwrap_or(i32::MAX),
        retried: i32::try_from(record.retried).unwrap_or(i32::MAX),
        error_msg: record.last_error.clone(),
        timeout: whole_seconds(record.timeout),
        deadline: record.deadline.map_or(0, Timestamp::as_second),
        unique_key: record.unique_key.clone().unwrap_or_default(),
        last_failed_at: record.last_failed_at.map_or(0, Timestamp::as_second),
        retention: whole_seconds(record.retention),
        completed_at: record.completed_at.map_or(0, Timestamp::as_second),
        group_key: record.group.clone().unwrap_or_default(),
        headers: headers_to(&record.headers),
    }
}

/// The whole message of a record.
#[cfg(test)]
pub(in crate::redis) fn encode(record: &TaskRecord) -> Vec<u8> {
    message_from(record).encode_to_vec()
}

/// The message after a failure with this text; open is `last_failed_at` (field 11).
pub(in crate::redis) fn failed(record: &TaskRecord, error: &str, counts: bool) -> MessageHalves {
    let mut head = message_from(record);
    stored_error(error).clone_into(&mut head.error_msg);
    if counts {
        head.retried = head.retried.saturating_add(1);
    }
    // The fields behind the open one, by number. Protobuf allows any order, but asynq writes and compares this one.
    let tail = TaskMessage {
        retention: std::mem::take(&mut head.retention),
        completed_at: std::mem::take(&mut head.completed_at),
        group_key: std::mem::take(&mut head.group_key),
        headers: std::mem::take(&mut head.headers),
        ..TaskMessage::default()
    };
    head.last_failed_at = 0;
    MessageHalves {
        head: head.encode_to_vec(),
        tail: tail.encode_to_vec(),
    }
}

/// The message after success; open is `completed_at` (field 13).
pub(in crate::redis) fn completed(record: &TaskRecord) -> MessageHalves {
    let mut head = message_from(record);
    let tail = TaskMessage {
        group_key: std::mem::take(&mut head.group_key),
        headers: std::mem::take(&mut head.headers),
        ..TaskMessage::default()
    };
    head.completed_at = 0;
    MessageHalves {
        head: head.encode_to_vec(),
        tail: tail.encode_to_vec(),
    }
}

/// Whole seconds, rounded toward zero, at most what the wire can hold.
pub(in crate::redis) fn whole_seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}

/// The same for a script that adds them to the present, bounded so that no digit is lost.
pub(in crate::redis) fn seconds(span: Duration) -> u64 {
    millis(span) / 1000
}

/// Whole milliseconds, bounded so that a script can add them to the present without losing digits.
pub(in crate::redis) fn millis(span: Duration) -> u64 {
    /// About 30,000 years.
    const LONGEST: u64 = 1_000_000_000_000_000;
    u64::try_from(span.as_millis()).map_or(LONGEST, |ms| ms.min(LONGEST))
}

fn instant(seconds: i64) -> Option<Timestamp> {
    if seconds == 0 {
        return None;
    }
    Some(Timestamp::from_second(seconds).unwrap_or(if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX }))
}

fn filled(text: String) -> Option<String> {
    Some(text).filter(|t| !t.is_empty())
}

fn headers_from(headers: Vec<Header>) -> BTreeMap<String, String> {
    let pair = |header: Header| (header.key.unwrap_or_default(), header.value.unwrap_or_default());
    headers.into_iter().map(pair).collect()
}

fn headers_to(headers: &BTreeMap<String, String>) -> Vec<Header> {
    headers
        .iter()
        .map(|(key, value)| Header {
            key: Some(key.clone()),
            value: Some(value.clone()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn full() -> TaskMessage {
        TaskMessage {
            kind: "image:resize".into(),
            payload: Bytes::from_static(&[0, 1, 2, 255]),
            id: "custom-id".into(),
            queue: "critical".into(),
            retry: 7,
            retried: 3,
            error_msg: "boom ✓".into(),
            timeout: 30,
            deadline: 1_893_557_045,
            unique_key: "asynq:{critical}:unique:image:resize:0123".into(),
            last_failed_at: 1_893_553_445,
            retention: 60,
            completed_at: 1_893_553_446,
            group_key: "g1".into(),
            headers: vec![Header {
                key: Some("k".into()),
                value: Some("v".into()),
            }],
        }
    }

    /// What the scripts do with the two halves.
    fn join(halves: &MessageHalves, tag: u8, mut seconds: u64) -> Vec<u8> {
        let mut bytes = halves.head.clone();
        bytes.push(tag);
        while seconds >= 128 {
            bytes.push((seconds % 128) as u8 | 128);
            seconds /= 128;
        }
        bytes.push(seconds as u8);
        bytes.extend_from_slice(&halves.tail);
        bytes
    }

    #[test]
    fn there_and_back_changes_nothing() {
        let record = record_of(full(), &QueueName::new("critical").unwrap()).unwrap();
        assert_eq!(message_from(&record), full());
    }

    #[test]
    fn halves_joined_are_the_message_that_go_would_write() {
        let record = record_of(full(), &QueueName::new("critical").unwrap()).unwrap();
        let mut expected = full();
        expected.error_msg = "again".into();
        expected.retried = 4;
        expected.last_failed_at = 1_900_000_000;
        let joined = join(&failed(&record, "again", true), 0x58, 1_900_000_000);
        assert_eq!(joined, expected.encode_to_vec());

        let mut expected = full();
        expected.completed_at = 1_900_000_000;
        let joined = join(&completed(&record), 0x68, 1_900_000_000);
        assert_eq!(joined, expected.encode_to_vec());
    }

    #[test]
    fn headers_that_were_lost_come_back_and_those_that_were_not_stay() {
        let id = "m:show:default@20261128T211410Z";
        let message = TaskMessage {
            id: id.into(),
            queue: "q".into(),
            ..TaskMessage::default()
        };
        let fresh = || record_of(message.clone(), &"q".parse().unwrap()).unwrap();
        let task = Task::new("x")
            .header(SCHEDULE_HEADER, "m:show:default")
            .header("runner-missed", "3");
        let mut record = fresh();
        assert!(lost_headers(&record));
        record.headers.insert("trace".to_owned(), "1".to_owned());
        restore_headers(&mut record, Some(kept_headers(&task)));
        assert_eq!(record.headers["runner-missed"], "3");
        assert_eq!(record.headers["trace"], "1");
        assert!(!lost_headers(&record));
        // Of one that was fired before anything was kept; and what was kept is junk.
        for kept in [None, Some(Vec::new()), Some(vec![0xff; 9])] {
            let mut record = fresh();
            restore_headers(&mut record, kept);
            assert_eq!(record.headers["runner-scheduled-at"], "2026-11-28T21:14:10Z");
        }
        assert!(kept_headers(&Task::new("x").header("trace", "1")).is_empty());
    }

    #[test]
    fn numbers_out_of_bounds_count_as_none() {
        let odd = TaskMessage {
            id: "a".into(),
            queue: "q".into(),
            retry: -1,
            timeout: -5,
            retention: i64::MAX,
            deadline: i64::MAX,
            ..TaskMessage::default()
        };
        let record = decode(odd.encode_to_vec(), &"q".parse().unwrap(), b"a").unwrap();
        assert_eq!(record.max_retry, 0);
        assert_eq!(record.timeout, Duration::ZERO);
        assert_eq!(record.deadline, Some(Timestamp::MAX));
    }

    #[test]
    fn a_message_of_another_task_is_not_this_one() {
        let bytes = full().encode_to_vec();
        let queue: QueueName = "critical".parse().unwrap();
        assert!(decode(bytes.clone(), &queue, b"custom-id").is_ok());
        assert!(decode(bytes.clone(), &queue, b"other").is_err());
        assert!(decode(bytes.clone(), &"low".parse().unwrap(), b"custom-id").is_err());
    }
}
