//! One manifest file as text: its definitions, and all of its problems. No I/O.
//!
//! A file is applied as a whole: with any error, none of it is used.

mod function;
mod kinds;
mod limits;
mod notification;
mod options;
mod payload;
mod payload_schema;
mod places;
mod schedule;
mod triggers;

#[cfg(test)]
mod tests;

pub use function::FunctionEntry;
pub use kinds::MAX_TASK_TYPE;
pub use limits::NO_SEMAPHORE;
pub use options::{POLICIES, Policies, TASK_OPTIONS, read_policies, read_task_options};
pub use schedule::{CODED_OVERLAP, ScheduleContext, read_coded, read_zone};

use runner_core::schedule::{Problem, Severity};

use crate::text::Report;
use crate::text::yaml::{self, FaultKind, Mark};

/// The content of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// In the order of the file; empty if there is any error.
    pub entries: Vec<FunctionEntry>,
    /// The names of its functions, as far as a text with errors shows them; without repetition.
    pub names: Vec<String>,
    /// Errors and warnings, in the order of the file.
    pub problems: Vec<Problem>,
    /// Whether the text may still be being written.
    pub unfinished: bool,
}

impl Reading {
    /// Whether there are no errors.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.problems.iter().all(|p| p.severity == Severity::Warning)
    }

    /// A reading with a single error about the file as a whole.
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

/// Reads the text of a file; `place` is its path as shown to people.
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
    let mut report = Report::of_file(place, text).knowing(places::meant);
    let documents = match yaml::parse(text) {
        Ok(documents) => documents,
        Err(fault) => {
            report.fault(&fault);
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

/// The names at the beginning of lines, which can be found even in a text that is not YAML.
fn names_in(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in text.lines() {
        let Some(value) = line.strip_prefix("name:") else {
            continue;
        };
        let value = value.split(" #").next().unwrap_or_default();
        let name = value.trim().trim_matches(['"', '\'']).to_owned();
        if places::is_name(&name, places::MAX_FUNCTION_NAME) && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
