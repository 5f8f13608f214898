//! Reasons as commands print them: lines for people, objects for programs.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use super::print;
use crate::diagnose::{Reason, ReasonValue};

/// How instants are shown.
pub(super) struct ReasonPrinter<'a> {
    pub(super) now: Timestamp,
    pub(super) zone: &'a TimeZone,
}

impl ReasonPrinter<'_> {
    /// `W101 The queue default is paused. (help: …)`.
    pub(super) fn line(&self, reason: &Reason) -> String {
        let hint = self.hint(reason);
        let hint = hint.map_or_else(String::new, |hint| format!(" (help: {hint})"));
        format!("{} {}{hint}", reason.code.as_str(), self.sentence(reason))
    }

    /// `The queue default is paused.`
    pub(super) fn sentence(&self, reason: &Reason) -> String {
        reason.sentence(|value| self.value(value))
    }

    /// What to do, if anything.
    pub(super) fn hint(&self, reason: &Reason) -> Option<String> {
        reason.hint(|value| self.value(value))
    }

    /// A row for each among the facts of a task or a schedule.
    pub(super) fn rows(&self, reasons: &[Reason]) -> Vec<Vec<String>> {
        let row = |reason: &Reason| vec!["why".to_owned(), self.line(reason)];
        reasons.iter().map(row).collect()
    }

    /// An array of objects.
    pub(super) fn json(&self, reasons: &[Reason]) -> Value {
        let object = |reason: &Reason| {
            let values = reason
                .values
                .iter()
                .map(|(name, value)| ((*name).to_owned(), self.plain(value)));
            json!({
                "code": reason.code.as_str(),
                "severity": reason.code.severity(),
                "text": self.sentence(reason),
                "hint": self.hint(reason),
                "values": values.collect::<Map<String, Value>>(),
            })
        };
        reasons.iter().map(object).collect()
    }

    /// In a sentence.
    fn value(&self, value: &ReasonValue) -> String {
        match value {
            ReasonValue::Text(text) => text.clone(),
            ReasonValue::Count(count) => count.to_string(),
            ReasonValue::State(state) => state.to_string(),
            ReasonValue::Outcome(outcome) => outcome.to_string(),
            ReasonValue::At(at) => format!("{} ({})", distance(self.now, *at), print::instant(*at, self.zone)),
        }
    }

    fn plain(&self, value: &ReasonValue) -> Value {
        match value {
            ReasonValue::Text(text) => json!(text),
            ReasonValue::Count(count) => json!(count),
            ReasonValue::State(state) => json!(state),
            ReasonValue::Outcome(outcome) => json!(outcome.as_str()),
            ReasonValue::At(at) => json!(print::instant(*at, self.zone)),
        }
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
