//! The task types that handlers in code name by their payload, with the options of each: for tasks that are enqueued by the
//! name of their type, without its payload's Rust type.

use std::collections::BTreeMap;

use runner_core::task::Task;

/// The options of types that derive `TaskType` and have a handler here.
#[derive(Debug, Clone, Default)]
pub struct TypedTasks(BTreeMap<String, SetOptions>);

/// Sets the options of a type. Called for each task: one may be a time.
type SetOptions = fn(Task) -> Task;

impl TypedTasks {
    /// Adds a type; the first of a name counts.
    pub(crate) fn add(&mut self, name: &str, options: SetOptions) {
        self.0.entry(name.to_owned()).or_insert(options);
    }

    /// Adds the types of the other list; where both have one, it stays as it is.
    pub fn merge(&mut self, other: &Self) {
        for (name, options) in &other.0 {
            self.add(name, *options);
        }
    }

    /// A task of this type with the options that its type states, without a payload. A type that states none has those of
    /// [`Task::new`].
    #[must_use]
    pub fn new_task(&self, kind: &str) -> Task {
        let task = Task::new(kind);
        match self.0.get(kind) {
            Some(options) => options(task),
            None => task,
        }
    }

    /// Whether the type is one of them.
    #[must_use]
    pub fn knows(&self, kind: &str) -> bool {
        self.0.contains_key(kind)
    }

    /// A task of each, in the order of their names.
    pub fn tasks(&self) -> impl Iterator<Item = Task> {
        self.0.keys().map(|name| self.new_task(name))
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::testing::Trial;
    use crate::{Ctx, Payload, Registry, TaskType};

    #[derive(Serialize, Deserialize)]
    struct Greet(String);

    impl TaskType for Greet {
        const NAME: &'static str = "greet";

        fn options(task: Task) -> Task {
            task.queue("low").retry(3)
        }
    }

    async fn greet(Payload(Greet(_)): Payload<Greet>) {}

    async fn other(cx: Ctx) -> String {
        let task = cx.new_task("greet");
        format!("{} {}", task.queue, task.max_retry)
    }

    #[tokio::test]
    async fn a_type_is_known_by_its_handler() {
        let registry = Registry::new().on_task(greet).on("other", other);
        assert!(registry.typed().knows("greet") && !registry.typed().knows("other"));
        assert_eq!(registry.typed().new_task("other"), Task::new("other"));
        let report = Trial::of("other").run(registry).await;
        let outcome = report.map(|report| report.outcome);
        assert_eq!(outcome, Ok(crate::Outcome::success("low 3")));
    }
}
