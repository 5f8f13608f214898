//! A task as its producer specifies it: type, payload and options.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use super::{BlankName, MAX_PAYLOAD, MAX_UNIQUE_KEY, QueueName, TaskId, Unique, UniqueKey, payload_value};

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
    /// The first option that a method could not take; [`Task::check`] returns it. Boxed: few tasks have one.
    fault: Option<Box<InvalidTask>>,
}

/// Why a task is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTask {
    /// The task type is empty or white space.
    #[error("the task type must not be blank")]
    BlankType,
    /// A blank queue name or id.
    #[error(transparent)]
    BlankName(#[from] BlankName),
    /// A payload that cannot be written as JSON.
    #[error("the payload cannot be written as JSON: {0}")]
    Payload(String),
    /// A uniqueness lock of under a second.
    #[error("a uniqueness lock must last at least 1s, not {0:?}")]
    UniqueTooShort(Duration),
    /// A key of a uniqueness lock of more than [`MAX_UNIQUE_KEY`] bytes.
    #[error("the key of a uniqueness lock has {0} bytes; at most {MAX_UNIQUE_KEY} are possible")]
    UniqueKeyTooLong(usize),
    /// A blank group name.
    #[error("the group name must not be blank")]
    BlankGroup,
    /// A payload of more than [`MAX_PAYLOAD`] bytes.
    #[error("the payload has {0} bytes; at most {MAX_PAYLOAD} are possible")]
    PayloadTooLong(usize),
    /// A payload that the schema of the function does not accept; why.
    #[error("{0}")]
    PayloadRefused(String),
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

fn check_unique(unique: &Unique) -> Result<(), InvalidTask> {
    if unique.ttl < Duration::from_secs(1) {
        return Err(InvalidTask::UniqueTooShort(unique.ttl));
    }
    match &unique.key {
        Some(UniqueKey::Text(text)) if text.len() > MAX_UNIQUE_KEY => Err(InvalidTask::UniqueKeyTooLong(text.len())),
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
            fault: None,
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

    /// Sets the queue: a name, or a text. A text that is no name makes the task invalid.
    #[must_use]
    pub fn queue<N: TryInto<QueueName, Error: Into<BlankName>>>(mut self, queue: N) -> Self {
        match queue.try_into() {
            Ok(queue) => self.queue = queue,
            Err(blank) => self = self.invalid(blank.into().into()),
        }
        self
    }

    /// Sets the identity: a second task of the queue with the same one is refused. A text that is no id makes the task
    /// invalid.
    #[must_use]
    pub fn id<N: TryInto<TaskId, Error: Into<BlankName>>>(mut self, id: N) -> Self {
        match id.try_into() {
            Ok(id) => self.id = Some(id),
            Err(blank) => self = self.invalid(blank.into().into()),
        }
        self
    }

    /// Sets the number of retries after the first failure.
    #[must_use]
    pub fn retry(mut self, times: u32) -> Self {
        self.max_retry = times;
        self
    }

    /// As [`Task::retry`], by asynq's name for it.
    #[must_use]
    pub fn max_retry(self, times: u32) -> Self {
        self.retry(times)
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

    /// Takes a uniqueness lock: of this length, or a [`Unique`] that also says what makes two tasks the same and what
    /// happens to the second one.
    #[must_use]
    pub fn unique(mut self, unique: impl Into<Unique>) -> Self {
        self.unique = Some(unique.into());
        self
    }

    /// Sets the instant after which no attempt may run.
    #[must_use]
    pub fn deadline(mut self, deadline: Timestamp) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Runs it this long after it was enqueued, by the broker's clock.
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        self.run(Run::In(delay))
    }

    /// Runs it not before this instant.
    #[must_use]
    pub fn at(self, at: Timestamp) -> Self {
        self.run(Run::At(at))
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

    /// The same task, refused by [`Task::check`] for this reason unless it has an earlier one.
    #[must_use]
    pub(super) fn invalid(mut self, why: InvalidTask) -> Self {
        self.fault.get_or_insert_with(|| Box::new(why));
        self
    }

    /// What the name of its lock is made of besides queue and type: the bytes whose digest it has, and a mark behind that. By the
    /// payload the mark is empty, and there are no bytes for "no payload": that is asynq's name. A payload without a value at
    /// the path of its key counts as a whole: otherwise a path that was misspelt would make all tasks the same.
    #[must_use]
    pub fn lock_content(&self) -> (Option<Cow<'_, [u8]>>, &'static str) {
        let payload = self.payload.as_deref();
        match self.unique.as_ref().and_then(|unique| unique.key.as_ref()) {
            None => (payload.map(Cow::Borrowed), ""),
            Some(UniqueKey::Text(text)) => (Some(Cow::Borrowed(text.as_bytes())), ":key"),
            Some(UniqueKey::Payload(path)) => {
                let whole = payload.unwrap_or_default();
                let value = payload_value(whole, path);
                match value.is_empty() {
                    true => (Some(Cow::Borrowed(whole)), ":payload"),
                    false => (Some(Cow::Owned(value.into_bytes())), ":key"),
                }
            }
        }
    }

    /// Checks what the types do not guarantee.
    ///
    /// # Errors
    ///
    /// [`InvalidTask`], naming the first option that is out of bounds.
    pub fn check(&self) -> Result<(), InvalidTask> {
        if let Some(fault) = &self.fault {
            return Err(InvalidTask::clone(fault));
        }
        if self.kind.trim().is_empty() {
            return Err(InvalidTask::BlankType);
        }
        if let Some(unique) = &self.unique {
            check_unique(unique)?;
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
    fn plain_arguments_are_checked_when_the_task_is() {
        let at = Timestamp::from_second(1_893_456_000).unwrap();
        let low = QueueName::new("low").unwrap();
        let task = Task::new("a").queue("low").id("7").retry(3).deadline(at).at(at);
        assert_eq!((&task.queue, task.max_retry, task.run), (&low, 3, Run::At(at)));
        assert_eq!(task.check(), Ok(()));
        assert_eq!(
            Task::new("a")
                .queue(&low)
                .queue(low.clone())
                .queue(String::from("low"))
                .queue,
            low
        );
        let blank = Task::new("a").queue(" ").id("").queue("low");
        assert_eq!(
            blank.check(),
            Err(InvalidTask::BlankName(BlankName { what: "queue name" }))
        );
        assert_eq!(blank.check().unwrap_err().to_string(), "queue name must not be blank");
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

    #[test]
    fn a_lock_is_named_by_the_payload_or_by_a_key() {
        let hour = Duration::from_secs(3600);
        let task = Task::new("a").payload(r#"{"page": 7, "text": "x"}"#);
        let (bytes, mark) = task.lock_content();
        assert_eq!((bytes.as_deref(), mark), (task.payload.as_deref(), ""));
        assert_eq!(Task::new("a").unique(hour).lock_content(), (None, ""));
        let keyed = task.clone().unique(Unique::new(hour).key("k"));
        assert_eq!(keyed.lock_content(), (Some(Cow::Borrowed(&b"k"[..])), ":key"));
        let by_path = |path: &str| {
            let mut unique = Unique::new(hour);
            unique.key = Some(UniqueKey::Payload(path.to_owned()));
            task.clone().unique(unique)
        };
        assert_eq!(by_path("page").lock_content(), (Some(Cow::Borrowed(&b"7"[..])), ":key"));
        let misspelt = by_path("pgae");
        let (bytes, mark) = misspelt.lock_content();
        assert_eq!((bytes.as_deref(), mark), (task.payload.as_deref(), ":payload"));
    }
}
