//! One manifest file as text: what it defines, and everything that is wrong with it. No I/O.
//!
//! A file is the atom: if anything in it is wrong, nothing of it is used.

mod action;
mod command;
mod fields;
mod function;
mod options;
mod payload;
mod places;
mod report;
mod schedule;

#[cfg(test)]
mod tests;

pub use action::MAX_TASK_TYPE;
pub use fields::Fields;
pub use function::FunctionEntry;
pub use options::{Policies, read_policies, read_task_options};
pub use report::Report;
pub use schedule::{CODED_OVERLAP, ScheduleContext, read_coded, read_zone};

use runner_core::schedule::{Problem, Severity};

use crate::text::yaml::{self, Fault, FaultKind, Mark};

/// What a file says.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// In the order of the file; empty if there is any error.
    pub entries: Vec<FunctionEntry>,
    /// What its functions are called, as far as that can be told of a text with errors; without repetition.
    pub names: Vec<String>,
    /// Errors and warnings, in the order of the file.
    pub problems: Vec<Problem>,
    /// Whether the text may be one that is still being written.
    pub unfinished: bool,
}

impl Reading {
    /// Whether nothing is wrong but perhaps warnings.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.problems.iter().all(|p| p.severity == Severity::Warning)
    }

    /// A reading that is nothing but one error about the file as a whole.
    #[must_use]
    pub fn failed(place: &str, code: &str, message: impl Into<String>) -> Self {
        let mut report = Report::of_file(place, "");
        report.error(code, Mark::default(), message);
        Self {
            entries: Vec::new(),
            names: Vec::new(),
            problems: report.finish(),
            unfinished: false,
        }
    }
}

/// Reads the text of a file; `place` is the path that people know it by.
#[must_use]
pub fn read(text: &str, place: &str, context: &ScheduleContext) -> Reading {
    if text.is_empty() {
        let message = "the file is empty; delete the file to remove its functions";
        let empty = Reading::failed(place, "E107", message);
        return Reading {
            unfinished: true,
            ..empty
        };
    }
    let mut report = Report::of_file(place, text);
    let documents = match yaml::parse(text) {
        Ok(documents) => documents,
        Err(fault) => {
            report_fault(&fault, text, &mut report);
            let unfinished = fault.kind == FaultKind::Syntax;
            return Reading {
                entries: Vec::new(),
                names: names_in(text),
                problems: report.finish(),
                unfinished,
            };
        }
    };
    let mut entries: Vec<FunctionEntry> = Vec::with_capacity(documents.len());
    for node in &documents {
        let Some(entry) = function::read_function(node, context, &mut report) else {
            continue;
        };
        let name = &entry.function.name;
        if let Some(first) = entries.iter().find(|e| e.function.name == *name) {
            let message = format!("name \"{name}\" is already defined in {}", first.origin.place);
            report.error("E401", node.mark, message);
        }
        entries.push(entry);
    }
    if report.errors() > 0 {
        entries.clear();
    }
    Reading {
        entries,
        names: names_in(text),
        problems: report.finish(),
        unfinished: false,
    }
}

/// The names that stand at the beginning of a line: that much can be told of a text that is no YAML, too.
fn names_in(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in text.lines() {
        let Some(value) = line.strip_prefix("name:") else {
            continue;
        };
        let value = value.split(" #").next().unwrap_or_default();
        let name = value.trim().trim_matches(['"', '\'']).to_owned();
        if function::is_name(&name, function::MAX_NAME) && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn report_fault(fault: &Fault, text: &str, report: &mut Report<'_>) {
    let code = match fault.kind {
        FaultKind::Syntax => "E100",
        FaultKind::Limit => "E104",
        FaultKind::Refused => "E109",
    };
    let mark = fault.mark.unwrap_or_default();
    let line = mark
        .line
        .checked_sub(1)
        .and_then(|n| text.lines().nth(n))
        .unwrap_or_default();
    let message = fault.message.clone();
    report.error(code, mark, message).hint = syntax_hint(line, mark);
}

/// The slips that are made most often, by the look of the line.
fn syntax_hint(line: &str, mark: Mark) -> Option<String> {
    if line.trim_start_matches(' ').starts_with('\t') {
        return Some("indent with spaces; YAML knows no tabs there".to_owned());
    }
    let (key, value) = line.split_once(':')?;
    let key = key.trim_start_matches([' ', '-']).trim();
    let value = value.trim();
    let at_value = mark.column > line.find(':').unwrap_or_default();
    if at_value && value.starts_with(['*', '@']) && ["schedule", "cron"].contains(&key) {
        let bare = value.split(" #").next().unwrap_or(value).trim();
        return Some(format!("quote cron expressions: {key}: \"{bare}\""));
    }
    if at_value && value.starts_with(['*', '@', '&', '%', '`', '!']) {
        return Some("put the value in quotes".to_owned());
    }
    if at_value && value.contains(": ") && !value.starts_with(['"', '\'', '{', '[']) {
        return Some("put a value that holds \": \" in quotes".to_owned());
    }
    None
}
