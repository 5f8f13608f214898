//! One reason: its code and the values that it is about. How instants and spans are shown is decided by whoever shows it.

use std::time::Duration;

use jiff::Timestamp;
use runner_core::task::TaskState;

use super::{ReasonCode, ReasonSeverity};
use crate::text::fill;

/// Something that a reason is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReasonValue {
    /// A name, an error, foreign text.
    Text(String),
    /// A number.
    Count(u64),
    /// An instant.
    At(Timestamp),
    /// The state of a task.
    State(TaskState),
}

impl From<&str> for ReasonValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for ReasonValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for ReasonValue {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<u32> for ReasonValue {
    fn from(count: u32) -> Self {
        Self::Count(u64::from(count))
    }
}

impl From<Timestamp> for ReasonValue {
    fn from(at: Timestamp) -> Self {
        Self::At(at)
    }
}

impl From<TaskState> for ReasonValue {
    fn from(state: TaskState) -> Self {
        Self::State(state)
    }
}

/// Why a task waits, or a schedule does not fire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Which reason.
    pub code: ReasonCode,
    /// What it is about, by the names of the places in its texts.
    pub values: Vec<(&'static str, ReasonValue)>,
}

impl Reason {
    pub(super) fn new(code: ReasonCode) -> Self {
        let values = Vec::new();
        Self { code, values }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<ReasonValue>) -> Self {
        self.values.push((name, value.into()));
        self
    }

    /// Whether it lasts until someone acts.
    #[must_use]
    pub fn is_warning(&self) -> bool {
        self.code.severity() == ReasonSeverity::Warning
    }

    /// The values as texts.
    pub fn shown(&self, show: impl Fn(&ReasonValue) -> String) -> Vec<(&'static str, String)> {
        self.values.iter().map(|(name, value)| (*name, show(value))).collect()
    }

    /// The sentence in English.
    pub fn sentence(&self, show: impl Fn(&ReasonValue) -> String) -> String {
        fill(self.code.sentence(), &self.shown(show))
    }

    /// What to do, in English, if anything.
    pub fn hint(&self, show: impl Fn(&ReasonValue) -> String) -> Option<String> {
        let hint = self.code.hint();
        (!hint.is_empty()).then(|| fill(hint, &self.shown(show)))
    }
}

/// The most telling first: what lasts until someone acts comes before what goes away by itself, else as found.
pub(super) fn in_order(mut found: Vec<Reason>) -> Vec<Reason> {
    found.sort_by_key(|reason| std::cmp::Reverse(reason.code.severity()));
    found
}

/// How long after its time a thing is late: those who move and decide look about once a second.
pub(super) const LATE_AFTER: Duration = Duration::from_secs(10);

/// Whether `at` is over for longer than what is usual.
pub(super) fn is_late(at: Timestamp, now: Timestamp) -> bool {
    at.checked_add(LATE_AFTER).is_ok_and(|late| late <= now)
}
