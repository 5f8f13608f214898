//! A trial: one attempt at a made-up task, of which the outcome is returned.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use runner_core::task::{Enqueue, QueueName, Task, TaskId};
use serde::Serialize;

use crate::services::Recorded;
use crate::{Artifact, Ctx, CtxParts, Handlers, Outcome, Progress, Registry, RegistryError, Stop};

/// A made-up task for a test.
///
/// ```
/// # use runner_sdk::{testing::Trial, Ctx, Outcome, Registry};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// async fn greet(cx: Ctx) -> String {
///     cx.log().push("log", "greeting");
///     format!("attempt {} of {}", cx.attempt(), cx.id())
/// }
/// let report = Trial::of("greet").attempt(2).run(Registry::new().on("greet", greet)).await?;
/// assert_eq!(report.outcome, Outcome::success("attempt 2 of trial"));
/// assert!(report.log.contains("log: greeting"));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Trial {
    parts: CtxParts,
    stop: Stop,
}

/// The result of a trial.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialReport {
    /// How the run ended.
    pub outcome: Outcome,
    /// The run's log; empty if nothing was written.
    pub log: String,
    /// The tasks that the handler enqueued, in order; they went nowhere.
    pub enqueued: Vec<Task>,
    /// The last stated progress.
    pub progress: Option<Progress>,
    /// The files that the run left.
    pub artifacts: Vec<Artifact>,
}

/// Why the trial could not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrialError {
    /// The registry has a name twice, or lacks a state.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// No handler for this task type.
    #[error("no handler for task type `{kind}`; registered: {}", names.join(", "))]
    Unknown {
        /// The task type.
        kind: String,
        /// What is registered.
        names: Vec<String>,
    },
}

impl Trial {
    /// A task of this type: id `trial`, queue `default`, first attempt of 26, nothing else.
    #[must_use]
    pub fn of(kind: &str) -> Self {
        Self {
            parts: CtxParts {
                id: TaskId::new("trial").unwrap_or_else(|_| TaskId::random()),
                kind: kind.to_owned(),
                payload: Bytes::new(),
                queue: QueueName::default(),
                attempt: 1,
                max_attempts: 26,
                headers: BTreeMap::new(),
                deadline: None,
                time_limit: None,
            },
            stop: Stop::new(),
        }
    }

    /// As [`Trial::of`], with the type, payload and options of this task.
    #[must_use]
    pub fn of_task(task: impl Enqueue) -> Self {
        let task = task.into_task();
        let mut this = Self::of(&task.kind);
        this.parts.payload = task.payload.unwrap_or_default();
        this.parts.queue = task.queue;
        this.parts.max_attempts = task.max_retry.saturating_add(1);
        this.parts.headers = task.headers;
        this.parts.time_limit = task.timeout;
        this.parts.deadline = task.deadline;
        this
    }

    /// Sets the payload.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.parts.payload = payload.into();
        self
    }

    /// Sets the payload to this value as JSON.
    ///
    /// # Errors
    ///
    /// If the value cannot be written as JSON.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<Self, serde_json::Error> {
        let bytes = serde_json::to_vec(value)?;
        Ok(self.payload(bytes))
    }

    /// Sets the number of the attempt, from 1.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.parts.attempt = attempt;
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, key: &str, value: &str) -> Self {
        self.parts.headers.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Sets when and after how long the attempt ends. Nothing enforces it here: use [`Trial::stop`].
    #[must_use]
    pub fn limits(mut self, deadline: Option<Timestamp>, time_limit: Option<Duration>) -> Self {
        self.parts.deadline = deadline;
        self.parts.time_limit = time_limit;
        self
    }

    /// The switch that stops the run.
    #[must_use]
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// The context that the handler would get: for a test of a layer or of a function that takes one. What it enqueues is
    /// lost.
    #[must_use]
    pub fn context(self, handlers: &Handlers) -> Ctx {
        Ctx::new(self.parts, self.stop, handlers.states(), Arc::new(Recorded::default()))
    }

    /// Runs the task with the handler that this registry has for it.
    ///
    /// # Errors
    ///
    /// [`TrialError`] if the registry has a name twice, lacks a state, or has no handler for this type.
    pub async fn run(self, registry: Registry) -> Result<TrialReport, TrialError> {
        self.run_with(&registry.build()?).await
    }

    /// As [`Trial::run`], with handlers that several trials share.
    ///
    /// # Errors
    ///
    /// [`TrialError::Unknown`] if there is no handler for this type.
    pub async fn run_with(self, handlers: &Handlers) -> Result<TrialReport, TrialError> {
        let Some(found) = handlers.find(&self.parts.kind) else {
            let (kind, names) = (self.parts.kind, handlers.names());
            return Err(TrialError::Unknown { kind, names });
        };
        let recorded = Arc::new(Recorded::default());
        let cx = Ctx::new(self.parts, self.stop, handlers.states(), recorded.clone());
        let outcome = found.call(cx.clone()).await;
        let log = cx.log().take().unwrap_or_default();
        let enqueued = recorded.take();
        Ok(TrialReport {
            outcome,
            log,
            enqueued,
            progress: cx.last_progress(),
            artifacts: cx.take_artifacts(),
        })
    }
}
