//! Aggregators: functions that combine the tasks of a group into one task.
//!
//! An aggregator is an `async fn` that takes a [`Group`] and returns a task, listed in the registry beside the handlers. The
//! worker decides when groups are ripe and enqueues the task.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use runner_core::task::{QueueName, Task, TaskId, TypePattern};

use crate::{BoxFuture, States, TaskError};

/// A task of a group, as its producer specified it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupTask {
    /// Its identity within its queue.
    pub id: TaskId,
    /// Its type.
    pub kind: String,
    /// Its payload, byte for byte; empty if it has none.
    pub payload: Bytes,
    /// Key-value pairs that accompany it.
    pub headers: BTreeMap<String, String>,
}

/// The tasks of a group to combine.
#[derive(Debug, Clone)]
pub struct Group {
    name: String,
    queue: QueueName,
    tasks: Vec<GroupTask>,
    states: Arc<States>,
}

impl Group {
    /// Made by the worker. In a test of an aggregator, `States::default()` will do.
    #[must_use]
    pub fn new(name: impl Into<String>, queue: QueueName, tasks: Vec<GroupTask>, states: Arc<States>) -> Self {
        Self {
            name: name.into(),
            queue,
            tasks,
            states,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The queue of its tasks, and of the combined task.
    #[must_use]
    pub fn queue(&self) -> &QueueName {
        &self.queue
    }

    /// Its tasks in the order in which they joined; at least one, at most 10 000.
    #[must_use]
    pub fn tasks(&self) -> &[GroupTask] {
        &self.tasks
    }

    /// The shared value of type `T`, if the registry was given one.
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.states.get()
    }
}

/// The return type of an aggregator.
#[diagnostic::on_unimplemented(
    message = "an aggregator cannot return `{Self}`",
    note = "return a Task, or a Result of a Task and any error"
)]
pub trait IntoTask {
    /// The task, or the reason why there is none.
    ///
    /// # Errors
    ///
    /// The aggregator's own error.
    fn into_task(self) -> Result<Task, TaskError>;
}

impl IntoTask for Task {
    fn into_task(self) -> Result<Task, TaskError> {
        Ok(self)
    }
}

impl<E: Into<TaskError>> IntoTask for Result<Task, E> {
    fn into_task(self) -> Result<Task, TaskError> {
        self.map_err(Into::into)
    }
}

type Call = Arc<dyn Fn(Group) -> BoxFuture<'static, Result<Task, TaskError>> + Send + Sync>;

/// A matching aggregator.
#[derive(Clone)]
pub struct Aggregator(Call);

impl Aggregator {
    /// Combines the tasks of a group. Does not catch panics; the caller does.
    #[must_use]
    pub fn call(&self, group: Group) -> BoxFuture<'static, Result<Task, TaskError>> {
        (self.0)(group)
    }
}

impl fmt::Debug for Aggregator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aggregator")
    }
}

/// Aggregators by the names of their groups.
#[derive(Default)]
pub(crate) struct Aggregators {
    exact: BTreeMap<String, Aggregator>,
    prefixes: BTreeMap<String, Aggregator>,
}

impl Aggregators {
    /// Adds one; returns false, with nothing changed, if the pattern is taken.
    pub(crate) fn add<F, Fut>(&mut self, pattern: &str, aggregator: F) -> bool
    where
        F: Fn(Group) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output: IntoTask> + Send + 'static,
    {
        let call: Call = Arc::new(move |group| {
            let aggregator = aggregator.clone();
            // Called within the future, so that a panic before its first await is caught like any other.
            Box::pin(async move { aggregator(group).await.into_task() })
        });
        let (list, name) = match TypePattern::parse(pattern) {
            TypePattern::Prefix(prefix) => (&mut self.prefixes, prefix),
            TypePattern::Name(name) => (&mut self.exact, name),
        };
        if list.contains_key(name) {
            return false;
        }
        list.insert(name.to_owned(), Aggregator(call));
        true
    }

    /// The aggregator with exactly this name, else the one with the longest prefix.
    pub(crate) fn find(&self, group: &str) -> Option<Aggregator> {
        let by_prefix = || {
            let fits = self.prefixes.iter().filter(|(prefix, _)| group.starts_with(*prefix));
            fits.max_by_key(|(prefix, _)| prefix.len()).map(|(_, found)| found)
        };
        self.exact.get(group).or_else(by_prefix).cloned()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
    }
}
