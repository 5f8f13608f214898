//! Uniqueness of tasks: what counts as the same task, for how long, and what happens to a second one.
//!
//! Not here: the lock itself, which a broker takes in the step that enqueues the task.

use std::time::Duration;

/// The longest key, in bytes.
pub const MAX_UNIQUE_KEY: usize = 1024;

/// One task of its queue, type and key at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    /// Lifetime of the lock, at least 1 s; for a delayed task counted from the time it is to run.
    pub ttl: Duration,
    /// What two tasks must share besides queue and type to be the same; `None`: the payload, as in asynq.
    pub key: Option<UniqueKey>,
    /// How long the lock counts within its lifetime.
    pub scope: UniqueScope,
    /// What happens to a second task.
    pub on_conflict: OnConflict,
}

/// What makes two tasks of a queue and type the same, instead of the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UniqueKey {
    /// This text, at most [`MAX_UNIQUE_KEY`] bytes.
    Text(String),
    /// The text, number or truth value at this path of a payload in JSON, such as `account.id`; the whole payload if there is
    /// none.
    Payload(String),
}

/// How long a uniqueness lock counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UniqueScope {
    /// Until its task has succeeded or was deleted, as in asynq.
    #[default]
    All,
    /// While its task waits: pending, scheduled, to be retried, or in a group.
    Pending,
}

/// What happens to a task whose lock another one holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// It is refused.
    #[default]
    Keep,
    /// The task that waits takes its payload, options and time, and keeps its id. One that runs is not touched.
    Replace,
    /// The task that waits takes its time, and keeps everything else.
    Reschedule,
}

impl OnConflict {
    /// The words of manifests and commands.
    pub const WORDS: [(&'static str, Self); 3] = [
        ("keep", Self::Keep),
        ("replace", Self::Replace),
        ("reschedule", Self::Reschedule),
    ];
}

impl UniqueScope {
    /// The words of manifests and commands.
    pub const WORDS: [(&'static str, Self); 2] = [("all", Self::All), ("pending", Self::Pending)];
}

impl Unique {
    /// A lock of this length, by the payload; a second task is refused.
    #[must_use]
    pub fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            key: None,
            scope: UniqueScope::All,
            on_conflict: OnConflict::Keep,
        }
    }

    /// Tasks with the same text are the same, whatever their payloads.
    #[must_use]
    pub fn key(mut self, text: impl Into<String>) -> Self {
        self.key = Some(UniqueKey::Text(text.into()));
        self
    }

    /// The lock counts only while its task waits.
    #[must_use]
    pub fn while_pending(mut self) -> Self {
        self.scope = UniqueScope::Pending;
        self
    }

    /// A task that waits is replaced by the new one. With a delay, the last of many within it runs.
    #[must_use]
    pub fn replace(mut self) -> Self {
        self.on_conflict = OnConflict::Replace;
        self
    }

    /// A task that waits takes the time of the new one.
    #[must_use]
    pub fn reschedule(mut self) -> Self {
        self.on_conflict = OnConflict::Reschedule;
        self
    }

    /// The policy as a broker stores it: empty for asynq's.
    #[must_use]
    pub fn letters(&self) -> &'static str {
        match (self.on_conflict, self.scope) {
            (OnConflict::Keep, UniqueScope::All) => "",
            (OnConflict::Keep, UniqueScope::Pending) => "p",
            (OnConflict::Replace, UniqueScope::All) => "r",
            (OnConflict::Replace, UniqueScope::Pending) => "rp",
            (OnConflict::Reschedule, UniqueScope::All) => "t",
            (OnConflict::Reschedule, UniqueScope::Pending) => "tp",
        }
    }
}

impl From<Duration> for Unique {
    fn from(ttl: Duration) -> Self {
        Self::new(ttl)
    }
}
