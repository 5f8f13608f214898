//! Schedules that a program registers in code: read by the rules of manifests, with their errors and warnings. No I/O.

mod builder;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use runner_core::function::FunctionOptions;
use runner_core::schedule::{Definition, Origin, Problem, ScheduleId, Severity};
use runner_core::task::{InvalidTask, MAX_UNIQUE_KEY, Task, UniqueKey};

pub use builder::Schedule;

use super::manifest::{ScheduleContext, read_coded};
use crate::text::Report;
use crate::text::yaml::Mark;

/// The schedules in code.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Code {
    /// Schedules without an error.
    pub definitions: Vec<Definition>,
    /// Options that each states for its tasks itself; those of functions and types do not override them.
    pub stated: BTreeMap<ScheduleId, FunctionOptions>,
    /// Errors and warnings.
    pub problems: Vec<Problem>,
}

impl Code {
    /// Reads schedules, each with its name and the task that its occurrences enqueue.
    #[must_use]
    pub fn read(schedules: impl IntoIterator<Item = (String, Schedule, Task)>, context: &ScheduleContext) -> Self {
        let mut code = Self::default();
        for (name, schedule, task) in schedules {
            code.add(name, &schedule, task, context);
        }
        code
    }

    /// Errors that prevent the use of schedules; only a change of the program can repair them.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|p| p.severity == Severity::Error)
    }

    fn add(&mut self, name: String, schedule: &Schedule, task: Task, context: &ScheduleContext) {
        let id = ScheduleId::code(&name);
        let mut report = Report::of_code(id.as_str());
        let mark = Mark::default();
        if name.trim().is_empty() {
            report.error("E111", mark, "a schedule in code needs a name");
        }
        if self.definitions.iter().any(|d| d.id == id) {
            let text = format!("the name {name:?} is registered twice in code");
            report.error("E140", mark, text);
        }
        if let Err(error) = task.check() {
            report.error("E170", mark, error.to_string());
        }
        let read = read_coded(&schedule.to_node(), id.clone(), context, &mut report);
        let text_key = schedule.unique.as_ref().and_then(|unique| unique.key.as_ref());
        let text_key = text_key.filter(|key| matches!(key, UniqueKey::Text(_)));
        if let Some(UniqueKey::Text(text)) = text_key
            && text.len() > MAX_UNIQUE_KEY
        {
            let why = InvalidTask::UniqueKeyTooLong(text.len());
            report.error("E167", mark, why.to_string());
        }
        let good = report.errors() == 0;
        let problems = report.finish();
        self.problems.extend(problems.into_iter().map(|p| p.about(id.clone())));
        let Some((read, mut options)) = read.filter(|_| good) else {
            return;
        };
        if let (Some(unique), Some(key)) = (&mut options.unique, text_key) {
            unique.key = Some(key.clone());
        }
        let stated = options.or(&FunctionOptions::of(&task));
        let mut task = task;
        stated.apply(&mut task);
        self.stated.insert(id.clone(), stated);
        let definition = Definition {
            description: schedule.description.trim().to_owned(),
            enabled: schedule.enabled,
            ..Definition::new(id, name, Origin::code(), read.timing, task)
        };
        let definition = read.policies.of(super::manifest::CODED_OVERLAP, definition);
        self.definitions.push(definition);
    }
}
