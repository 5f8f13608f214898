//! Workflows: stages of tasks that are one thing. A stage begins when all steps of the one before have succeeded.
//!
//! What a store keeps of them, and how it changes: steps that end, and the place of the workflow, by compare and set. What
//! follows from a state is decided by `workflow_advance`, for which nothing here needs to be called exactly once.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use runner_core::task::{QueueName, Task, TaskId};
use serde::{Deserialize, Serialize};

use super::BrokerResult;
use crate::TaskRecord;

/// The most steps of a workflow.
pub const MAX_WORKFLOW_STEPS: usize = 10_000;

/// The most bytes of all payloads of a workflow together: it is stored in one call.
pub const MAX_WORKFLOW_BYTES: usize = 16 << 20;

/// The longest result of a step that is handed on, in bytes; of a longer one nothing is.
pub const MAX_STEP_RESULT: usize = 64 << 10;

/// The most bytes of results that one step is given.
pub const MAX_RESULTS_GIVEN: usize = 4 << 20;

/// The most bytes of results that are kept of one workflow: of the stage whose results are being handed on, and of the one that runs.
pub const MAX_RESULTS_KEPT: u64 = 2 * MAX_RESULTS_GIVEN as u64;

/// How long a workflow that is done, failed or cancelled is kept after its last change. Others are kept as they are.
pub const WORKFLOWS_KEPT_FOR: Duration = Duration::from_secs(7 * 86_400);

/// How long a task of a step is kept at least after it has succeeded, so that what a worker in Go has done is seen.
pub const STEP_RETENTION: Duration = Duration::from_secs(86_400);

/// The header of the task of a step: the workflow, the number of the step, and when the workflow was stored, in ms; slashes
/// between them. That of a callback has `done` or `failed:EPOCH` after the workflow.
pub const WORKFLOW_HEADER: &str = "runner-workflow";

/// The longest id or name, in bytes.
pub const MAX_WORKFLOW_NAME: usize = 64;

/// The most channels that a workflow names for an event.
pub const MAX_WORKFLOW_CHANNELS: usize = 20;

/// Where a workflow stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkflowState {
    /// Steps wait or run, or the next stage is about to begin.
    Running,
    /// All steps have succeeded.
    Done,
    /// A step has failed for good. Those that were started go on; no further stage begins.
    Failed,
    /// It is being cancelled: steps that wait are deleted, those that run are stopped.
    Cancelling,
    /// It was cancelled.
    Cancelled,
}

impl WorkflowState {
    /// All, with their words.
    pub const WORDS: [(Self, &'static str); 5] = [
        (Self::Running, "running"),
        (Self::Done, "done"),
        (Self::Failed, "failed"),
        (Self::Cancelling, "cancelling"),
        (Self::Cancelled, "cancelled"),
    ];

    /// A stable word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::WORDS
            .iter()
            .find(|(state, _)| *state == self)
            .map_or("", |(_, word)| word)
    }

    /// The state with this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::WORDS
            .iter()
            .find(|(_, known)| *known == word)
            .map(|(state, _)| *state)
    }

    /// Whether nothing happens to it any more by itself.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled)
    }
}

/// What a step is given of the results of the stage before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenResults {
    /// The member of its payload, which is an object, that they are put into.
    pub member: String,
    /// A list in the order of the steps; else the result of the first one.
    pub all: bool,
}

/// Which results of a stage the next one is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TakenResults {
    /// That of its first step.
    First,
    /// All.
    All,
}

/// A step without its payload: the task that runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowStep {
    /// The type of its task.
    pub kind: String,
    /// The queue.
    pub queue: QueueName,
    /// Retries.
    pub max_retry: u32,
    /// Time limit of an attempt in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How long the task is kept after success, in seconds.
    pub retention_s: u64,
    /// Headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// What it is given of the results before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes: Option<GivenResults>,
}

impl WorkflowStep {
    /// The step that a task describes.
    #[must_use]
    pub fn of(task: &Task, takes: Option<GivenResults>) -> Self {
        Self {
            kind: task.kind.clone(),
            queue: task.queue.clone(),
            max_retry: task.max_retry,
            timeout_ms: task
                .timeout
                .map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
            retention_s: task.retention.max(STEP_RETENTION).as_secs(),
            headers: task.headers.clone(),
            takes,
        }
    }

    /// Its task, without an id.
    #[must_use]
    pub fn task(&self, payload: Bytes) -> Task {
        let mut task = Task::new(self.kind.as_str())
            .queue(self.queue.clone())
            .retry(self.max_retry)
            .retention(Duration::from_secs(self.retention_s));
        task.timeout = self.timeout_ms.map(Duration::from_millis);
        task.headers.clone_from(&self.headers);
        if !payload.is_empty() {
            task.payload = Some(payload);
        }
        task
    }
}

/// A task that is enqueued when a workflow ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowCallback {
    /// The task.
    pub step: WorkflowStep,
    /// Its payload.
    #[serde(with = "text_or_numbers")]
    pub payload: Vec<u8>,
}

/// Bytes in JSON: as a text if they are one, which nearly all are, else as a list of numbers.
mod text_or_numbers {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Form<T, N> {
        Text(T),
        Numbers(N),
    }

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        let form = match std::str::from_utf8(bytes) {
            Ok(text) => Form::Text(text),
            Err(_) => Form::Numbers(bytes),
        };
        form.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        Ok(match Form::<String, Vec<u8>>::deserialize(from)? {
            Form::Text(text) => text.into_bytes(),
            Form::Numbers(bytes) => bytes,
        })
    }
}

/// Channels that hear of a workflow instead of those of the settings; `None` where it states none, and silence if a list is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WorkflowNotify {
    /// They hear that a step has failed for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Vec<String>>,
    /// They hear that it is done after such a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Vec<String>>,
}

impl WorkflowNotify {
    fn is_unstated(&self) -> bool {
        *self == Self::default()
    }
}

/// What never changes of a workflow, without its steps.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WorkflowPlan {
    /// A name for people.
    pub name: String,
    /// How many steps each stage has.
    pub stages: Vec<u32>,
    /// What follows when all steps have succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_done: Option<WorkflowCallback>,
    /// What follows when a step has failed for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failed: Option<WorkflowCallback>,
    /// Who hears of it.
    #[serde(default, skip_serializing_if = "WorkflowNotify::is_unstated")]
    pub notify: WorkflowNotify,
    /// The stages whose results the next one is given. Follows from the steps, and is set when they are stored; without it all may
    /// be taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<BTreeMap<u32, TakenResults>>,
}

impl WorkflowPlan {
    /// How many steps there are in the first stages.
    #[must_use]
    pub fn steps_of(&self, stages: u32) -> u32 {
        let some = self.stages.iter().take(stages as usize);
        some.fold(0, |sum, size| sum.saturating_add(*size))
    }

    /// How many steps there are.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.steps_of(u32::MAX)
    }

    /// The stage of a step, from 0.
    #[must_use]
    pub fn stage_of(&self, number: u32) -> u32 {
        let mut end = 0_u32;
        let stage = self.stages.iter().position(|size| {
            end = end.saturating_add(*size);
            number < end
        });
        u32::try_from(stage.unwrap_or(self.stages.len())).unwrap_or(u32::MAX)
    }

    /// Which results of a stage are handed on; `None` if none are.
    #[must_use]
    pub fn taken_of(&self, stage: u32) -> Option<TakenResults> {
        match &self.taken {
            Some(taken) => taken.get(&stage).copied(),
            None => Some(TakenResults::All),
        }
    }

    /// Whether the result of a step is handed on.
    #[must_use]
    pub fn takes_result_of(&self, number: u32) -> bool {
        let stage = self.stage_of(number);
        match self.taken_of(stage) {
            Some(TakenResults::All) => true,
            Some(TakenResults::First) => number == self.steps_of(stage),
            None => false,
        }
    }
}

/// A workflow to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWorkflow {
    /// Its id, at most [`MAX_WORKFLOW_NAME`] of `a-z A-Z 0-9 . _ -`.
    pub id: String,
    /// The plan.
    pub plan: WorkflowPlan,
    /// All steps in order, with their payloads.
    pub steps: Vec<(WorkflowStep, Bytes)>,
}

impl NewWorkflow {
    /// The plan as it is stored: it knows which results are handed on.
    #[must_use]
    pub fn stored_plan(&self) -> WorkflowPlan {
        let mut taken = BTreeMap::new();
        let mut steps = self.steps.iter();
        for (stage, size) in (0..).zip(&self.plan.stages) {
            for (step, _) in steps.by_ref().take(*size as usize) {
                // The first stage has none before it.
                let (Some(takes), Some(before)) = (&step.takes, u32::checked_sub(stage, 1)) else {
                    continue;
                };
                let what = if takes.all {
                    TakenResults::All
                } else {
                    TakenResults::First
                };
                let known = taken.entry(before).or_insert(what);
                *known = what.max(*known);
            }
        }
        WorkflowPlan {
            taken: Some(taken),
            ..self.plan.clone()
        }
    }
}

/// The part of a workflow that is changed by compare and set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkflowPlace {
    /// The state.
    pub state: WorkflowState,
    /// How many stages have been enqueued.
    pub sent: u32,
    /// How often it was continued after a failure.
    pub epoch: u32,
    /// Up to which epoch, counted from 1, the failure was reported.
    pub called: u32,
}

impl WorkflowPlace {
    /// Whether there is a failure that is to be reported still.
    #[must_use]
    pub fn is_unreported(self) -> bool {
        self.state == WorkflowState::Failed && self.called <= self.epoch && self.called < u32::MAX
    }

    /// Whether it failed before. `called` may be behind: a failure was reported, and the workflow continued before that was
    /// written down. `epoch` may be, too: one that is cancelled after a failure stays in its epoch.
    #[must_use]
    pub fn has_failed(self) -> bool {
        self.epoch > 0 || self.called > 0
    }
}

/// A workflow at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowHead {
    /// Its id.
    pub id: String,
    /// The plan.
    pub plan: WorkflowPlan,
    /// Where it stands.
    pub place: WorkflowPlace,
    /// Steps that have succeeded.
    pub done: u32,
    /// Steps that have failed for good.
    pub failed: u32,
    /// Why the last one failed; empty if none did.
    pub error: String,
    /// When it was stored.
    pub created_at: Timestamp,
    /// When it changed last.
    pub changed_at: Timestamp,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepEnd {
    /// With this result, of which at most [`MAX_STEP_RESULT`] bytes are kept, else nothing.
    Done(Bytes),
    /// For good, with this error.
    Failed(String),
}

/// A step as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowStepView {
    /// Its number, from 0.
    pub number: u32,
    /// Its task.
    pub step: WorkflowStep,
    /// How it ended, if it has.
    pub end: Option<StepEnd>,
    /// It is done, and its result was left out because those of the workflow had more than [`MAX_RESULTS_KEPT`] bytes.
    pub left_out: bool,
}

/// Workflows in a store.
#[async_trait]
pub trait Workflows: Send + Sync {
    /// Stores a workflow. Returns whether its id was free.
    ///
    /// # Errors
    ///
    /// When the store could not be asked.
    async fn keep_workflow(&self, new: &NewWorkflow) -> BrokerResult<bool>;

    /// One workflow at a glance.
    ///
    /// # Errors
    ///
    /// As above.
    async fn workflow(&self, id: &str) -> BrokerResult<Option<WorkflowHead>>;

    /// Ids of workflows, newest first, from a place on. With `open` only those that may still change by themselves.
    ///
    /// # Errors
    ///
    /// As above.
    async fn workflow_ids(&self, open: bool, skip: usize, most: usize) -> BrokerResult<Vec<String>>;

    /// How many workflows [`Workflows::workflow_ids`] may list; a few of them may be gone.
    ///
    /// # Errors
    ///
    /// As above.
    async fn workflow_count(&self) -> BrokerResult<u64>;

    /// The states of workflows that may still change by themselves, newest first.
    ///
    /// # Errors
    ///
    /// As above.
    async fn workflow_states(&self, most: usize) -> BrokerResult<Vec<WorkflowState>>;

    /// Steps of a workflow from a number on.
    ///
    /// # Errors
    ///
    /// As above.
    async fn workflow_steps(&self, id: &str, from: u32, most: u32) -> BrokerResult<Vec<WorkflowStepView>>;

    /// The payloads of steps from a number on.
    ///
    /// # Errors
    ///
    /// As above.
    async fn workflow_payloads(&self, id: &str, from: u32, most: u32) -> BrokerResult<Vec<Bytes>>;

    /// Writes down how steps ended; numbers that the workflow does not have are ignored. A success counts once, also after a
    /// failure of the same step. A failure counts only if there is nothing yet and the workflow is still in `epoch`, which the
    /// caller has read before it saw the failure: the step may have been run again meanwhile. Beyond [`MAX_RESULTS_KEPT`] bytes a
    /// result is left out. The first failure makes a running
    /// workflow failed; when none is left it runs again, in the next epoch. Returns the workflow as it is then.
    ///
    /// # Errors
    ///
    /// As above.
    async fn end_steps(&self, id: &str, epoch: u32, ends: &[(u32, StepEnd)]) -> BrokerResult<Option<WorkflowHead>>;

    /// Forgets the results of steps that are done, from a number on: they have been handed on, and there is room for others.
    ///
    /// # Errors
    ///
    /// As above.
    async fn forget_results(&self, id: &str, from: u32, most: u32) -> BrokerResult<()>;

    /// Forgets failures of a workflow that has failed, which runs again in the next epoch when none is left; any other stays as it
    /// is. Returns the workflow as it is then.
    ///
    /// # Errors
    ///
    /// As above.
    async fn reopen_workflow(&self, id: &str, failed: &[u32]) -> BrokerResult<Option<WorkflowHead>>;

    /// Changes the place of a workflow if it is the expected one. Returns whether it was.
    ///
    /// # Errors
    ///
    /// As above.
    async fn move_workflow(&self, id: &str, from: WorkflowPlace, to: WorkflowPlace) -> BrokerResult<bool>;
}

/// The id of the task of a step.
#[must_use]
pub fn step_task_id(workflow: &str, number: u32) -> Option<TaskId> {
    TaskId::new(format!("workflow:{workflow}:{number}")).ok()
}

/// The step that a task runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepOfTask {
    /// The id of its workflow.
    pub workflow: String,
    /// Its number, from 0.
    pub number: u32,
    /// When its workflow was stored, in ms since 1970: there may be a later one of the same id.
    pub created_ms: i64,
}

impl StepOfTask {
    /// Whether it belongs to this workflow.
    #[must_use]
    pub fn is_of(&self, head: &WorkflowHead) -> bool {
        self.workflow == head.id && self.created_ms == head.created_at.as_millisecond()
    }
}

/// The step that a task runs. Its header alone decides nothing: a handler may have copied it to a task of its own.
#[must_use]
pub fn step_of_task(task: &TaskRecord) -> Option<StepOfTask> {
    let mut parts = task.headers.get(WORKFLOW_HEADER)?.splitn(3, '/');
    let step = StepOfTask {
        workflow: parts.next()?.to_owned(),
        number: parts.next()?.parse().ok()?,
        created_ms: parts.next()?.parse().ok()?,
    };
    (step_task_id(&step.workflow, step.number).as_ref() == Some(&task.id)).then_some(step)
}

/// Whether a task is kept as one that has succeeded if its handler revokes it: the step of a workflow, of which a look must see
/// that it is over, however the worker ended.
pub(crate) fn keeps_what_is_revoked(task: &TaskRecord) -> bool {
    task.retention.as_secs() > 0 && step_of_task(task).is_some()
}

/// The header of the task of a step.
pub(super) fn step_header(head: &WorkflowHead, number: u32) -> String {
    format!("{}/{number}/{}", head.id, head.created_at.as_millisecond())
}

/// Whether a text can be the id of a workflow.
#[must_use]
pub fn is_workflow_id(id: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !id.is_empty() && id.len() <= MAX_WORKFLOW_NAME && id.chars().all(fits)
}

/// The result of a step as it is kept.
#[must_use]
pub fn kept_result(result: Option<Bytes>) -> Bytes {
    result
        .filter(|result| result.len() <= MAX_STEP_RESULT)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_payload_of_a_callback_is_stored_as_the_text_that_it_is() {
        let callback = |payload: &[u8]| WorkflowCallback {
            step: WorkflowStep::of(&Task::new("announce"), None),
            payload: payload.to_vec(),
        };
        for (payload, stored) in [
            (&b"{\"a\":1}"[..], r#""payload":"{\"a\":1}""#),
            (b"\xff\x00", r#""payload":[255,0]"#),
        ] {
            let json = serde_json::to_string(&callback(payload)).unwrap();
            assert!(json.contains(stored), "{json}");
            assert_eq!(
                serde_json::from_str::<WorkflowCallback>(&json).unwrap(),
                callback(payload)
            );
        }
        // What an earlier version stored.
        let old = serde_json::to_string(&callback(b"x"))
            .unwrap()
            .replace("\"x\"", "[120]");
        assert_eq!(serde_json::from_str::<WorkflowCallback>(&old).unwrap(), callback(b"x"));
    }
}
