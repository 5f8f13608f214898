//! Workflows from a program: stages of tasks that are one thing.
//!
//! This describes and stores them. Continuing is up to the runners of the broker, also where others run the tasks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use runner_core::notification::{MAX_CHANNEL_NAME, is_channel_name};
use runner_core::task::{Enqueue, InvalidTask, Run, TRACEPARENT, Task, TaskId, TraceContext};
use runner_queue::{
    Broker, BrokerError, GivenResults, MAX_WORKFLOW_BYTES, MAX_WORKFLOW_CHANNELS, MAX_WORKFLOW_NAME,
    MAX_WORKFLOW_STEPS, NewWorkflow, WorkflowCallback, WorkflowHead, WorkflowNotify, WorkflowPlan, WorkflowStep,
    advance_workflow, cancel_workflow, is_workflow_id, retry_workflow,
};
use tokio::time::Instant;

use crate::Client;

/// How often a wait looks.
const LOOK: Duration = Duration::from_millis(200);

/// A step of a [`Workflow`]: a task, and what it is given of the results before it.
#[derive(Debug, Clone)]
pub struct Step {
    task: Task,
    takes: Option<GivenResults>,
}

impl Step {
    /// A step that runs this task.
    #[must_use]
    pub fn new(task: impl Enqueue) -> Self {
        Self {
            task: task.into_task(),
            takes: None,
        }
    }

    /// The results of the stage before, in order, become this member of the payload, which must be an object in JSON or
    /// nothing. A result that is no JSON is a text; a missing one, or one of more than 64 KiB, is `null`.
    #[must_use]
    pub fn results(mut self, member: impl Into<String>) -> Self {
        self.takes = Some(GivenResults {
            member: member.into(),
            all: true,
        });
        self
    }

    /// The same for the result of the first step of the stage before, usually the only one.
    #[must_use]
    pub fn result(mut self, member: impl Into<String>) -> Self {
        self.takes = Some(GivenResults {
            member: member.into(),
            all: false,
        });
        self
    }
}

impl<T: Enqueue> From<T> for Step {
    fn from(task: T) -> Self {
        Self::new(task)
    }
}

/// Stages of tasks. Each begins when all tasks of the one before have succeeded.
///
/// ```
/// use runner_client::{Step, Task, Workflow};
/// let import = Workflow::new("import")
///     .then(Task::new("fetch"))
///     .then_all(["de", "fr"].map(|land| Step::new(Task::new("convert").payload(format!("{{\"land\":\"{land}\"}}"))).result("file")))
///     .then(Step::new(Task::new("merge")).results("parts"))
///     .on_failed(Task::new("alarm"));
/// # let _ = import;
/// ```
#[derive(Debug, Clone)]
pub struct Workflow {
    name: String,
    id: Option<String>,
    stages: Vec<Vec<Step>>,
    on_done: Option<Task>,
    on_failed: Option<Task>,
    notify: WorkflowNotify,
    /// The headers that name its trace.
    trace: BTreeMap<String, String>,
}

impl Workflow {
    /// A workflow without steps. The name is for people.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            id: None,
            stages: Vec::new(),
            on_done: None,
            on_failed: None,
            notify: WorkflowNotify::default(),
            trace: BTreeMap::new(),
        }
    }

    /// Sets its id, instead of a random one: at most 64 of `a-z A-Z 0-9 . _ -`. A second workflow with it is refused.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Adds a stage of one step.
    #[must_use]
    pub fn then(self, step: impl Into<Step>) -> Self {
        self.then_all([step])
    }

    /// Adds a stage of steps that run at the same time. One without steps is left out.
    #[must_use]
    pub fn then_all<S: Into<Step>>(mut self, steps: impl IntoIterator<Item = S>) -> Self {
        let steps: Vec<Step> = steps.into_iter().map(Into::into).collect();
        if !steps.is_empty() {
            self.stages.push(steps);
        }
        self
    }

    /// A task that is enqueued once when all steps have succeeded.
    #[must_use]
    pub fn on_done(mut self, task: impl Enqueue) -> Self {
        self.on_done = Some(task.into_task());
        self
    }

    /// A task that is enqueued once when a step has failed for good, and again if one does after a retry of the workflow.
    #[must_use]
    pub fn on_failed(mut self, task: impl Enqueue) -> Self {
        self.on_failed = Some(task.into_task());
        self
    }

    /// The channels of the runner's settings that hear that it has failed, instead of those of `notify.default`; none for silence.
    /// At most 20.
    #[must_use]
    pub fn notify_on_failure<C: Into<String>>(mut self, channels: impl IntoIterator<Item = C>) -> Self {
        self.notify.failure = Some(channels.into_iter().map(Into::into).collect());
        self
    }

    /// The channels that hear that it is done after it had failed, instead of those of `notify.default.on_recovery`; none for
    /// silence. At most 20.
    #[must_use]
    pub fn notify_on_recovery<C: Into<String>>(mut self, channels: impl IntoIterator<Item = C>) -> Self {
        self.notify.recovery = Some(channels.into_iter().map(Into::into).collect());
        self
    }

    /// Makes its tasks parts of the trace that this `traceparent` names, such as that of a handler which starts it
    /// (`cx.trace()`). One that is not valid is ignored. Without one, the tasks of a workflow are a trace of their own.
    #[must_use]
    pub fn traced(mut self, traceparent: &str, tracestate: Option<&str>) -> Self {
        self.trace = Task::new("").traced(traceparent, tracestate).headers;
        self
    }

    /// Every task that does not name a trace of its own belongs to that of the workflow.
    fn trace_tasks(&mut self) {
        if self.trace.is_empty() {
            let root = TraceContext::root(true).to_string();
            self.trace.insert(TRACEPARENT.to_owned(), root);
        }
        let steps = self.stages.iter_mut().flatten().map(|step| &mut step.task);
        for task in steps.chain(&mut self.on_done).chain(&mut self.on_failed) {
            task.inherit_trace(&self.trace);
        }
    }

    fn check(mut self) -> Result<NewWorkflow, WorkflowError> {
        self.trace_tasks();
        let id = self.id.unwrap_or_else(|| TaskId::random().to_string());
        if !is_workflow_id(&id) {
            return Err(WorkflowError::BadId(id));
        }
        if self.name.trim().is_empty() || self.name.len() > MAX_WORKFLOW_NAME {
            return Err(WorkflowError::BadName);
        }
        check_channels(&self.notify)?;
        let steps: usize = self.stages.iter().map(Vec::len).sum();
        if steps == 0 {
            return Err(WorkflowError::Empty);
        }
        if steps > MAX_WORKFLOW_STEPS {
            return Err(WorkflowError::TooManySteps(steps));
        }
        let callbacks = self.on_done.iter().chain(&self.on_failed);
        let tasks = self.stages.iter().flatten().map(|step| &step.task).chain(callbacks);
        let bytes: usize = tasks.filter_map(|task| task.payload.as_ref()).map(Bytes::len).sum();
        if bytes > MAX_WORKFLOW_BYTES {
            return Err(WorkflowError::TooLarge(bytes));
        }
        let callback = |task: Option<Task>, what| -> Result<_, WorkflowError> {
            let Some(task) = task else { return Ok(None) };
            checked(&task, what)?;
            Ok(Some(WorkflowCallback {
                step: WorkflowStep::of(&task, None),
                payload: task.payload.unwrap_or_default().to_vec(),
            }))
        };
        let plan = WorkflowPlan {
            name: self.name,
            stages: self
                .stages
                .iter()
                .map(|stage| u32::try_from(stage.len()).unwrap_or(u32::MAX))
                .collect(),
            on_done: callback(self.on_done, usize::MAX)?,
            on_failed: callback(self.on_failed, usize::MAX)?,
            notify: self.notify,
            // Set when it is stored.
            taken: None,
        };
        let mut all = Vec::with_capacity(steps);
        for (number, step) in self.stages.into_iter().flatten().enumerate() {
            checked(&step.task, number)?;
            let made = WorkflowStep::of(&step.task, step.takes);
            all.push((made, step.task.payload.unwrap_or_default()));
        }
        Ok(NewWorkflow { id, plan, steps: all })
    }
}

/// Only their form: a client does not know the settings of the runners.
fn check_channels(notify: &WorkflowNotify) -> Result<(), WorkflowError> {
    for channels in [&notify.failure, &notify.recovery].into_iter().flatten() {
        if channels.len() > MAX_WORKFLOW_CHANNELS {
            return Err(WorkflowError::TooManyChannels(channels.len()));
        }
        if let Some(bad) = channels.iter().find(|name| !is_channel_name(name)) {
            return Err(WorkflowError::BadChannel(bad.clone()));
        }
    }
    Ok(())
}

/// What a step cannot have: its id and its time are those of the workflow.
fn checked(task: &Task, number: usize) -> Result<(), WorkflowError> {
    task.check().map_err(|why| WorkflowError::BadStep { number, why })?;
    let option = match task {
        Task { id: Some(_), .. } => "an id",
        Task { unique: Some(_), .. } => "a uniqueness lock",
        Task { group: Some(_), .. } => "a group",
        Task { deadline: Some(_), .. } => "a deadline",
        Task { run, .. } if *run != Run::Now => "a time",
        _ => return Ok(()),
    };
    Err(WorkflowError::StepOption { number, option })
}

/// Why a workflow was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkflowError {
    /// Its id has other characters, or is too long.
    #[error("the id of a workflow has at most {MAX_WORKFLOW_NAME} of a-z A-Z 0-9 . _ -, not {0:?}")]
    BadId(String),
    /// Its name is blank or too long.
    #[error("the name of a workflow must not be blank, and have at most {MAX_WORKFLOW_NAME} bytes")]
    BadName,
    /// The name of a channel has other characters, or is too long.
    #[error("the name of a channel has at most {MAX_CHANNEL_NAME} of a-z A-Z 0-9 . _ -, not {0:?}")]
    BadChannel(String),
    /// It names more than 20 channels for an event.
    #[error("the workflow names {0} channels; at most {MAX_WORKFLOW_CHANNELS} are possible")]
    TooManyChannels(usize),
    /// It has no steps.
    #[error("a workflow must have a step")]
    Empty,
    /// More than 10,000.
    #[error("the workflow has {0} steps; at most {MAX_WORKFLOW_STEPS} are possible (start several)")]
    TooManySteps(usize),
    /// Payloads of more than 16 MiB.
    #[error(
        "the payloads of the workflow have {0} bytes; at most {MAX_WORKFLOW_BYTES} are possible (hand on places instead of contents)"
    )]
    TooLarge(usize),
    /// The task of a step or callback is invalid.
    #[error("step {number}: {why}")]
    BadStep {
        /// Its number, from 0.
        number: usize,
        /// Why.
        why: InvalidTask,
    },
    /// A step or callback has an option that steps cannot have.
    #[error("step {number} has {option}, which steps of workflows cannot have")]
    StepOption {
        /// Its number, from 0.
        number: usize,
        /// What.
        option: &'static str,
    },
    /// There is one with this id.
    #[error("there is a workflow with the id {0} already")]
    IdTaken(String),
    /// The broker could not be asked.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

impl WorkflowError {
    /// A stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadId(_) | Self::BadName => "workflow_bad_name",
            Self::BadChannel(_) | Self::TooManyChannels(_) => "workflow_bad_channel",
            Self::Empty => "workflow_empty",
            Self::TooManySteps(_) | Self::TooLarge(_) => "workflow_too_large",
            Self::BadStep { .. } | Self::StepOption { .. } => "workflow_bad_step",
            Self::IdTaken(_) => "workflow_id_taken",
            Self::Broker(error) => error.code(),
        }
    }
}

/// A workflow in the broker.
#[derive(Clone)]
pub struct WorkflowHandle {
    broker: Arc<dyn Broker>,
    id: String,
}

impl WorkflowHandle {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it stands; `None` if there is none, or it is no longer kept.
    ///
    /// # Errors
    ///
    /// If the broker could not be asked.
    pub async fn state(&self) -> Result<Option<WorkflowHead>, BrokerError> {
        self.broker.workflow(&self.id).await
    }

    /// Waits until it is done, failed or cancelled, at most this long. Returns where it stands then.
    ///
    /// # Errors
    ///
    /// If the broker could not be asked.
    #[allow(clippy::disallowed_methods)] // a look after the other, which the patience ends
    pub async fn wait(&self, patience: Duration) -> Result<Option<WorkflowHead>, BrokerError> {
        let until = Instant::now() + patience;
        loop {
            let head = self.state().await?;
            let running = head.as_ref().is_some_and(|head| {
                use runner_queue::WorkflowState::{Cancelling, Running};
                matches!(head.place.state, Running | Cancelling)
            });
            if !running || Instant::now() >= until {
                return Ok(head);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Cancels it: no further stage begins, tasks that wait are deleted, those that run are stopped.
    ///
    /// # Errors
    ///
    /// If the broker could not be asked.
    pub async fn cancel(&self) -> Result<Option<WorkflowHead>, BrokerError> {
        cancel_workflow(&*self.broker, &self.id, None).await
    }

    /// Runs its failed steps again. Returns how many.
    ///
    /// # Errors
    ///
    /// If the broker could not be asked.
    pub async fn retry(&self) -> Result<u32, BrokerError> {
        Ok(retry_workflow(&*self.broker, &self.id, None).await?.unwrap_or(0))
    }
}

impl std::fmt::Debug for WorkflowHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WorkflowHandle").field(&self.id).finish()
    }
}

impl Client {
    /// Starts a workflow. Once this returned `Ok`, it is in the broker, and continues even if this program ends.
    ///
    /// # Errors
    ///
    /// [`WorkflowError`] if it is invalid, its id is taken, or the broker could not be asked; for `Unreachable` it is
    /// unknown whether it was started: give it an [id](Workflow::id) to repeat the call.
    pub async fn workflow(&self, workflow: Workflow) -> Result<WorkflowHandle, WorkflowError> {
        let new = workflow.check()?;
        let broker = Arc::clone(self.broker());
        if !broker.keep_workflow(&new).await? {
            return Err(WorkflowError::IdTaken(new.id));
        }
        // If this fails, the next look of any runner continues.
        let _ = advance_workflow(&*broker, &new.id, None).await;
        Ok(WorkflowHandle { broker, id: new.id })
    }

    /// A workflow that was started before, perhaps by another program. Looks up nothing.
    #[must_use]
    pub fn workflow_of(&self, id: impl Into<String>) -> WorkflowHandle {
        WorkflowHandle {
            broker: Arc::clone(self.broker()),
            id: id.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_workflow_that_cannot_be_is_refused_with_a_code() {
        let one = || Workflow::new("w").then(Task::new("a"));
        assert!(one().check().is_ok());
        let many = || (0..=MAX_WORKFLOW_STEPS).map(|_| Task::new("a"));
        for (workflow, code) in [
            (Workflow::new("w"), "workflow_empty"),
            (Workflow::new("w").then_all(many()), "workflow_too_large"),
            (one().id("a b"), "workflow_bad_name"),
            (Workflow::new(" ").then(Task::new("a")), "workflow_bad_name"),
            (one().then(Task::new("a").id("x")), "workflow_bad_step"),
            (one().then(Task::new("a").delay(LOOK)), "workflow_bad_step"),
            (one().on_done(Task::new(" ")), "workflow_bad_step"),
            (one().notify_on_failure(["a b"]), "workflow_bad_channel"),
            (one().notify_on_recovery([""]), "workflow_bad_channel"),
            (one().notify_on_failure(vec!["a"; 21]), "workflow_bad_channel"),
            (
                one().on_failed(Task::new("b").payload(vec![b'x'; MAX_WORKFLOW_BYTES + 1])),
                "workflow_too_large",
            ),
        ] {
            assert_eq!(workflow.check().unwrap_err().code(), code);
        }
    }
}
