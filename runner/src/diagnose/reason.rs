//! One reason: its code and the values that it is about. Pages and commands decide how instants and spans are shown.

use std::time::Duration;

use jiff::Timestamp;
use runner_core::task::{AttemptOutcome, TaskState};

use super::{MEANT, ReasonCode, ReasonSeverity};
use crate::text::{fill, shell};

/// A value in a reason.
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
    /// How an attempt ended.
    Outcome(AttemptOutcome),
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

impl From<AttemptOutcome> for ReasonValue {
    fn from(outcome: AttemptOutcome) -> Self {
        Self::Outcome(outcome)
    }
}

/// Why a task waits, or a schedule does not fire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Which reason.
    pub code: ReasonCode,
    /// Its values, by the names of the places in its texts.
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

    pub(super) fn with_some(self, name: &'static str, value: Option<String>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
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

    /// The values as texts for a hint, whose commands may be pasted into a shell: names are complete and quoted. Where
    /// one is the last argument of a command, the hint has `{task_argument}` and the like.
    pub fn shown_in_hint(&self, show: impl Fn(&ReasonValue) -> String) -> Vec<(&'static str, String)> {
        const NAMES: [(&str, &str); 3] = [
            ("task", "task_argument"),
            ("queue", "queue_argument"),
            ("schedule", "schedule_argument"),
        ];
        let mut shown = Vec::new();
        for (name, value) in &self.values {
            match (value, NAMES.iter().find(|(known, _)| known == name)) {
                (ReasonValue::Text(text), Some((_, argument))) => {
                    shown.push((*name, shell::word(text)));
                    shown.push((*argument, shell::argument(text)));
                }
                _ => shown.push((*name, show(value))),
            }
        }
        shown
    }

    /// Whether this hint ends with the name that was probably meant.
    #[must_use]
    pub fn adds_meant(&self, hint: &str) -> bool {
        !hint.contains("{meant}") && self.values.iter().any(|(name, _)| *name == "meant")
    }

    /// The sentence in English.
    pub fn sentence(&self, show: impl Fn(&ReasonValue) -> String) -> String {
        closed(&fill(self.code.sentence(), &self.shown(show)), ':', ".")
    }

    /// What to do, in English, if anything.
    pub fn hint(&self, show: impl Fn(&ReasonValue) -> String) -> Option<String> {
        let hint = self.code.hint();
        let more = if self.adds_meant(hint) { MEANT } else { "" };
        (!hint.is_empty()).then(|| fill(&format!("{hint}{more}"), &self.shown_in_hint(show)))
    }
}

/// A sentence whose last value may be empty: without a blank or colon before nothing.
#[must_use]
pub fn closed(sentence: &str, colon: char, stop: &str) -> String {
    let sentence = sentence.trim_end();
    let without = sentence.strip_suffix(colon).map(|text| format!("{text}{stop}"));
    without.unwrap_or_else(|| sentence.to_owned())
}

/// The most important first: reasons that last until someone acts come before those that pass by themselves.
pub(super) fn in_order(mut found: Vec<Reason>) -> Vec<Reason> {
    found.sort_by_key(|reason| std::cmp::Reverse(reason.code.severity()));
    found
}

/// From how long after its time a task or occurrence is late: workers and schedulers check about once a second.
pub(super) const LATE_AFTER: Duration = Duration::from_secs(10);

/// Whether `at` passed longer ago than usual.
pub(super) fn is_late(at: Timestamp, now: Timestamp) -> bool {
    at.checked_add(LATE_AFTER).is_ok_and(|late| late <= now)
}
