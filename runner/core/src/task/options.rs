//! A task as its producer specifies it: type, payload and options.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use super::{MAX_PAYLOAD, QueueName, TaskId};

/// Default number of retries; asynq's default.
pub const DEFAULT_MAX_RETRY: u32 = 25;

/// Default time limit of an attempt without timeout and deadline; asynq's default.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// When a task is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Run {
    /// As soon as a worker is free.
    #[default]
    Now,
    /// Not before this instant.
    At(Timestamp),
    /// This long after it was enqueued, by the broker's clock.
    In(Duration),
}

/// Refuse a second task of the same queue, type and payload while the lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unique {
    /// Lifetime of the lock, at least 1 s; for a delayed task counted from the time it is to run.
    pub ttl: Duration,
}

/// One task to put on a queue: a type, a payload and options with asynq's defaults.
///
/// ```
/// use runner_core::task::Task;
/// let task = Task::new("task:daily-report").payload(r#"{"date":"today"}"#).max_retry(3);
/// assert_eq!(task.queue.as_str(), "default");
/// assert!(task.check().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Chosen by the producer, or random.
    pub id: Option<TaskId>,
    /// The task type: which handler runs it.
    pub kind: String,
    /// `None` is "no payload", which differs from an empty one only in the uniqueness key.
    pub payload: Option<Bytes>,
    /// The queue.
    pub queue: QueueName,
    /// Number of retries after the first failure.
    pub max_retry: u32,
    /// Time limit of an attempt. Whole seconds on the wire.
    pub timeout: Option<Duration>,
    /// The instant after which no attempt may run. Whole seconds on the wire.
    pub deadline: Option<Timestamp>,
    /// How long a finished task is kept. Zero: not at all.
    pub retention: Duration,
    /// The uniqueness lock to take, if any.
    pub unique: Option<Unique>,
    /// When to run.
    pub run: Run,
    /// The group to aggregate it with, instead of running it separately.
    pub group: Option<String>,
    /// Key-value pairs that accompany it.
    pub headers: BTreeMap<String, String>,
}

/// Why a task is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTask {
    /// The task type is empty or white space.
    #[error("the task type must not be blank")]
    BlankType,
    /// A uniqueness lock of under a second.
    #[error("a uniqueness lock must last at least 1s, not {0:?}")]
    UniqueTooShort(Duration),
    /// A blank group name.
    #[error("the group name must not be blank")]
    BlankGroup,
    /// A payload of more than [`MAX_PAYLOAD`] bytes.
    #[error("the payload has {0} bytes; at most {MAX_PAYLOAD} are possible")]
    PayloadTooLong(usize),
}

/// Whether a task may have a payload of this length.
///
/// # Errors
///
/// [`InvalidTask::PayloadTooLong`].
pub fn check_payload(payload: &[u8]) -> Result<(), InvalidTask> {
    match payload.len() {
        length if length > MAX_PAYLOAD => Err(InvalidTask::PayloadTooLong(length)),
        _ => Ok(()),
    }
}

impl Task {
    /// A task of this type with no payload and asynq's default options.
    #[must_use]
    pub fn new(kind: impl Into<String>) -> Self {
        Self {
            id: None,
            kind: kind.into(),
            payload: None,
            queue: QueueName::default(),
            max_retry: DEFAULT_MAX_RETRY,
            timeout: None,
            deadline: None,
            retention: Duration::ZERO,
            unique: None,
            run: Run::Now,
            group: None,
            headers: BTreeMap::new(),
        }
    }

    /// Sets the payload, byte for byte.
    #[must_use]
    pub fn payload(mut self, bytes: impl Into<Bytes>) -> Self {
        self.payload = Some(bytes.into());
        self
    }

    /// Sets the payload to `value` written as JSON.
    ///
    /// # Errors
    ///
    /// If `value` cannot be written as JSON (a map with keys that are not strings, for example).
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<Self, serde_json::Error> {
        let bytes = serde_json::to_vec(value)?;
        Ok(self.payload(bytes))
    }

    /// Sets the queue.
    #[must_use]
    pub fn queue(mut self, queue: QueueName) -> Self {
        self.queue = queue;
        self
    }

    /// Sets the identity.
    #[must_use]
    pub fn id(mut self, id: TaskId) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets the number of retries.
    #[must_use]
    pub fn max_retry(mut self, times: u32) -> Self {
        self.max_retry = times;
        self
    }

    /// Sets the time limit of an attempt.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets how long the finished task is kept.
    #[must_use]
    pub fn retention(mut self, keep: Duration) -> Self {
        self.retention = keep;
        self
    }

    /// Takes a uniqueness lock of this length.
    #[must_use]
    pub fn unique(mut self, ttl: Duration) -> Self {
        self.unique = Some(Unique { ttl });
        self
    }

    /// Sets when to run.
    #[must_use]
    pub fn run(mut self, run: Run) -> Self {
        self.run = run;
        self
    }

    /// Aggregates it with others of this group instead of running it separately. The group is ignored for a delayed task.
    #[must_use]
    pub fn group(mut self, name: impl Into<String>) -> Self {
        self.group = Some(name.into());
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(key.into(), value.into());
        self
    }

    /// Checks what the types do not guarantee.
    ///
    /// # Errors
    ///
    /// [`InvalidTask`], naming the first option that is out of bounds.
    pub fn check(&self) -> Result<(), InvalidTask> {
        if self.kind.trim().is_empty() {
            return Err(InvalidTask::BlankType);
        }
        if let Some(Unique { ttl }) = self.unique
            && ttl < Duration::from_secs(1)
        {
            return Err(InvalidTask::UniqueTooShort(ttl));
        }
        if self.group.as_deref().is_some_and(|g| g.trim().is_empty()) {
            return Err(InvalidTask::BlankGroup);
        }
        check_payload(self.payload.as_deref().unwrap_or_default())
    }

    /// Timeout in whole seconds (0: none) and deadline in Unix seconds (0: none) as asynq stores them:
    /// 30 minutes when neither was given, tested before truncation to seconds.
    #[must_use]
    pub fn stored_limits(&self) -> (u64, i64) {
        let timeout = self.timeout.filter(|t| !t.is_zero());
        let deadline = self.deadline.map(Timestamp::as_second).filter(|s| *s != 0);
        match (timeout, deadline) {
            (None, None) => (DEFAULT_TIMEOUT.as_secs(), 0),
            (timeout, deadline) => (timeout.map_or(0, |t| t.as_secs()), deadline.unwrap_or(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_asynqs() {
        let task = Task::new("a");
        assert_eq!(task.stored_limits(), (1800, 0));
        assert_eq!(task.clone().timeout(Duration::from_millis(500)).stored_limits(), (0, 0));
        let mut with_deadline = task;
        with_deadline.deadline = Timestamp::from_second(1_893_456_000).ok();
        assert_eq!(with_deadline.stored_limits(), (0, 1_893_456_000));
    }

    #[test]
    fn invalid_tasks_are_refused_with_a_reason() {
        assert_eq!(Task::new(" ").check(), Err(InvalidTask::BlankType));
        let short = Task::new("a").unique(Duration::from_millis(999));
        assert!(matches!(short.check(), Err(InvalidTask::UniqueTooShort(_))));
        // Zeroed memory that is never touched costs nothing.
        let of_length = |length: usize| Task::new("a").payload(vec![0; length]);
        assert_eq!(of_length(MAX_PAYLOAD).check(), Ok(()));
        let long = of_length(MAX_PAYLOAD + 1);
        assert_eq!(long.check(), Err(InvalidTask::PayloadTooLong(MAX_PAYLOAD + 1)));
    }
}
