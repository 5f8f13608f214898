//! A task as a broker holds it, and the record of its attempts.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use runner_core::task::{AttemptOutcome, QueueName, TaskId};
use serde::{Deserialize, Serialize};

/// How many attempts of one task are on record; the oldest are dropped first.
pub const MAX_ATTEMPTS_KEPT: usize = 30;

/// How many bytes of output are kept of one attempt (first quarter, last three quarters).
pub const MAX_LOG_BYTES: usize = 256 * 1024;

/// How many bytes of an error's text are kept with a task: enough for a stack trace, and a task stays small enough
/// to be listed by the thousand.
pub const MAX_ERROR_BYTES: usize = 16 * 1024;

/// How many bytes of a result are kept with a completed task: as much as a command may return. A store that keeps
/// thousands of them, and sends them over connections that others wait for, is not a place for files.
pub const MAX_RESULT_BYTES: usize = 1024 * 1024;

/// The beginning of an error's text that is kept; it ends between two characters.
#[cfg_attr(not(any(feature = "redis", feature = "embedded")), allow(dead_code))]
pub(crate) fn stored_error(error: &str) -> &str {
    &error[..error.floor_char_boundary(MAX_ERROR_BYTES)]
}

/// A task in a store: what its producer stated, and what has happened to it since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRecord {
    /// Identity within the queue.
    pub id: TaskId,
    /// Task type.
    pub kind: String,
    /// Empty when there is none.
    pub payload: Bytes,
    /// The queue it belongs to.
    pub queue: QueueName,
    /// How often it may be retried.
    pub max_retry: u32,
    /// How often it was.
    pub retried: u32,
    /// How long one attempt may take; zero: no limit of this kind.
    pub timeout: Duration,
    /// The instant after which no attempt may run.
    pub deadline: Option<Timestamp>,
    /// How long it is kept after success; zero: not at all.
    pub retention: Duration,
    /// Full key of the uniqueness lock it took, if any.
    pub unique_key: Option<String>,
    /// Its group, if any.
    pub group: Option<String>,
    /// Free key-value pairs.
    pub headers: BTreeMap<String, String>,
    /// Text of the last error, at most [`MAX_ERROR_BYTES`]; empty when it never failed.
    pub last_error: String,
    /// When it last failed.
    pub last_failed_at: Option<Timestamp>,
    /// When it succeeded.
    pub completed_at: Option<Timestamp>,
}

impl TaskRecord {
    /// Whether one more failure is followed by another attempt.
    #[must_use]
    pub fn retries_left(&self) -> bool {
        self.retried < self.max_retry
    }
}

/// One try at a task, ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Counts from 1.
    pub number: u32,
    /// When the handler was called; of a lost one when it was claimed, or noticed if that was not noted.
    pub started_at: Timestamp,
    /// When it ended; of a lost one when that was noticed.
    pub ended_at: Timestamp,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// Text of the error, at most [`MAX_ERROR_BYTES`], if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// `host:pid` of the worker; empty when it is not known, as of a lost run of a Go worker.
    pub server: String,
    /// What the function printed, at most [`MAX_LOG_BYTES`]; lossy text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        let long = format!("x{}", "é".repeat(MAX_ERROR_BYTES));
        let cut = stored_error(&long);
        assert!(cut.len() == MAX_ERROR_BYTES - 1 && long.starts_with(cut));
        assert_eq!(stored_error("boom ✓"), "boom ✓");
        assert_eq!(stored_error(""), "");
    }
}
