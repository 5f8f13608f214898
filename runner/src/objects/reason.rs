//! Reasons why something waits or failed, as objects: the code, the sentence, and the values in it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::{Value, json};

use super::{JsonField, instant};
use crate::diagnose::{Reason, ReasonValue};

/// Why something waits, failed or does not fire.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = Reason))]
pub struct ReasonObject {
    /// Stable; docs/why.md has all.
    pub code: String,
    /// `info`, `warning` or `error`.
    pub severity: String,
    /// In a sentence.
    pub text: String,
    /// What to do, if anything.
    pub hint: Option<String>,
    /// The values in the sentence, by their names.
    pub values: BTreeMap<String, JsonField>,
}

/// How the instants of reasons are written.
#[derive(Debug, Clone, Copy)]
pub struct ReasonWriter<'a> {
    /// What distances are counted from.
    pub now: Timestamp,
    /// Whose offset instants have.
    pub zone: &'a TimeZone,
}

impl ReasonWriter<'_> {
    /// `The queue default is paused.`
    #[must_use]
    pub fn sentence(&self, reason: &Reason) -> String {
        reason.sentence(|value| self.value(value))
    }

    /// What to do, if anything.
    #[must_use]
    pub fn hint(&self, reason: &Reason) -> Option<String> {
        reason.hint(|value| self.value(value))
    }

    /// As objects.
    #[must_use]
    pub fn objects(&self, reasons: &[Reason]) -> Vec<ReasonObject> {
        reasons.iter().map(|reason| self.object(reason)).collect()
    }

    fn object(&self, reason: &Reason) -> ReasonObject {
        let values = reason
            .values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), JsonField::Value(self.plain(value))));
        ReasonObject {
            code: reason.code.as_str().to_owned(),
            severity: word(&reason.code.severity()),
            text: self.sentence(reason),
            hint: self.hint(reason),
            values: values.collect(),
        }
    }

    /// In a sentence.
    fn value(&self, value: &ReasonValue) -> String {
        match value {
            ReasonValue::Text(text) => text.clone(),
            ReasonValue::Count(count) => count.to_string(),
            ReasonValue::State(state) => state.to_string(),
            ReasonValue::Outcome(outcome) => outcome.to_string(),
            ReasonValue::At(at) => format!("{} ({})", distance(self.now, *at), instant(*at, self.zone)),
        }
    }

    fn plain(&self, value: &ReasonValue) -> Value {
        match value {
            ReasonValue::Text(text) => json!(text),
            ReasonValue::Count(count) => json!(count),
            ReasonValue::State(state) => json!(state),
            ReasonValue::Outcome(outcome) => json!(outcome.as_str()),
            ReasonValue::At(at) => json!(instant(*at, self.zone)),
        }
    }
}

/// A value that is serialized as a word, as a text.
pub(super) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

/// `in 1m30s`, `5s ago`.
fn distance(now: Timestamp, at: Timestamp) -> String {
    let length = at.duration_since(now);
    let seconds = std::time::Duration::from_secs(length.unsigned_abs().as_secs());
    let text = runner_core::duration::format(seconds);
    match (seconds.is_zero(), length.is_negative()) {
        (true, _) => "now".to_owned(),
        (false, true) => format!("{text} ago"),
        (false, false) => format!("in {text}"),
    }
}
