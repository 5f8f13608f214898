//! Options that manifests and code state for all tasks of a type that a handler in code runs: a function with `handler` and
//! without a schedule is about its type, one with a schedule about its own tasks. Those of a manifest go over those of code.

use std::collections::{BTreeMap, BTreeSet};

use runner_core::function::{Function, FunctionOptions, Functions};
use runner_core::schedule::{Definition, ScheduleId, Source};
use runner_core::task::FUNCTION_PREFIX;
use runner_core::trigger::TriggerDefinition;

/// Options for tasks by their type, unless they state their own.
#[derive(Debug, Clone, Default)]
pub struct TypeOptions {
    by_type: BTreeMap<String, FunctionOptions>,
    /// Options that functions of handlers state about their own tasks, by name.
    own: BTreeMap<String, FunctionOptions>,
    /// Options that types state in code.
    in_code: BTreeMap<String, FunctionOptions>,
}

impl TypeOptions {
    /// Of these functions, whose schedules are among `definitions`. If two are about one type, the first by name
    /// counts.
    #[must_use]
    pub fn new<'a>(functions: &Functions, definitions: impl IntoIterator<Item = &'a Definition>) -> Self {
        let of_manifests = definitions.into_iter().filter(|d| d.origin.source == Source::Manifest);
        let scheduled: BTreeSet<&str> = of_manifests.map(|d| d.name.as_str()).collect();
        let mut this = Self::default();
        for function in functions.all().values() {
            let kind = function.task_type();
            if function.kind.handler_type().is_none() {
                this.by_type.insert(kind, function.task_options());
                continue;
            }
            this.own.insert(function.name.clone(), function.options.clone());
            if is_about_type(function, scheduled.contains(function.name.as_str())) {
                this.by_type.entry(kind).or_insert_with(|| function.options.clone());
            }
        }
        this
    }

    /// The same with what types state in code.
    #[must_use]
    pub fn with_code(mut self, in_code: BTreeMap<String, FunctionOptions>) -> Self {
        self.in_code = in_code;
        self
    }

    /// The options of a task of this type.
    #[must_use]
    pub fn of(&self, kind: &str) -> FunctionOptions {
        let found = self.by_type.get(kind).cloned();
        let found = found.unwrap_or_else(|| match kind.starts_with(FUNCTION_PREFIX) {
            true => FunctionOptions::of_function(),
            false => FunctionOptions::default(),
        });
        match self.in_code.get(kind) {
            Some(in_code) => found.or(in_code),
            None => found,
        }
    }

    /// The options of a run of this function by hand.
    #[must_use]
    pub fn of_function(&self, function: &Function) -> FunctionOptions {
        function.options.clone().or(&self.of(&function.task_type()))
    }

    /// A schedule, completed with the options of its type; `stated` are those that rows and code state themselves.
    #[must_use]
    pub fn complete(&self, definition: &Definition, stated: &BTreeMap<ScheduleId, FunctionOptions>) -> Definition {
        let mut definition = definition.clone();
        let own = match definition.origin.source {
            Source::Manifest => self.own.get(&definition.name),
            Source::Table | Source::Code => stated.get(&definition.id),
        };
        if let Some(own) = own {
            let options = own.clone().or(&self.of(&definition.task.kind));
            options.apply(&mut definition.task);
        }
        definition
    }

    /// The same for the tasks of a trigger.
    #[must_use]
    pub fn complete_trigger(&self, trigger: &TriggerDefinition) -> TriggerDefinition {
        let mut trigger = trigger.clone();
        if let Some(own) = self.own.get(&trigger.function) {
            let options = own.clone().or(&self.of(&trigger.task.kind));
            options.apply(&mut trigger.task);
        }
        trigger
    }
}

/// Whether a function states options for all tasks of its type.
#[must_use]
pub fn is_about_type(function: &Function, scheduled: bool) -> bool {
    let handler = function.kind.handler_type().is_some();
    handler && !scheduled && function.options != FunctionOptions::default()
}
