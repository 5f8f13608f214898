//! Reasons as commands print them: lines for people. Objects for programs are in `objects`.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::diagnose::Reason;
use crate::objects::ReasonWriter;

/// How instants are shown.
pub(super) struct ReasonPrinter<'a> {
    pub(super) now: Timestamp,
    pub(super) zone: &'a TimeZone,
}

impl ReasonPrinter<'_> {
    /// What makes objects of them.
    pub(super) fn writer(&self) -> ReasonWriter<'_> {
        ReasonWriter {
            now: self.now,
            zone: self.zone,
        }
    }

    /// `W101 The queue default is paused. (help: …)`.
    pub(super) fn line(&self, reason: &Reason) -> String {
        let hint = self.hint(reason);
        let hint = hint.map_or_else(String::new, |hint| format!(" (help: {hint})"));
        format!("{} {}{hint}", reason.code.as_str(), self.sentence(reason))
    }

    /// `The queue default is paused.`
    pub(super) fn sentence(&self, reason: &Reason) -> String {
        self.writer().sentence(reason)
    }

    /// What to do, if anything.
    pub(super) fn hint(&self, reason: &Reason) -> Option<String> {
        self.writer().hint(reason)
    }

    /// A row for each among the facts of a task or a schedule.
    pub(super) fn rows(&self, reasons: &[Reason]) -> Vec<Vec<String>> {
        let row = |reason: &Reason| vec!["why".to_owned(), self.line(reason)];
        reasons.iter().map(row).collect()
    }

    /// An array of objects.
    pub(super) fn json(&self, reasons: &[Reason]) -> Value {
        json!(self.writer().objects(reasons))
    }
}
