//! A workflow as an object: where it stands, and its steps that have failed or not ended.

use jiff::tz::TimeZone;
use runner_queue::{StepEnd, WorkflowHead, WorkflowStepView, step_task_id};
use serde::Serialize;

use super::WrittenInstant;

/// A workflow.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = Workflow))]
pub struct WorkflowObject {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `running`, `failed`, `done`, `cancelling` or `cancelled`.
    pub state: String,
    /// Steps that have succeeded.
    pub done: u32,
    /// Steps that have failed.
    pub failed: u32,
    /// All steps.
    pub steps: u32,
    /// Stages that were enqueued.
    pub stage: u32,
    /// All stages.
    pub stages: usize,
    /// Why the last step failed; empty if none did.
    pub error: String,
    /// When it began.
    pub created_at: WrittenInstant,
    /// When it last changed.
    pub changed_at: WrittenInstant,
}

/// A step that has failed or not ended.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = WorkflowStep))]
pub struct StepObject {
    /// Counts from 0.
    pub number: u32,
    /// The type of its task.
    #[serde(rename = "type")]
    pub kind: String,
    /// The queue of its task.
    pub queue: String,
    /// Its task.
    pub task: String,
    /// `failed` or `open`.
    pub state: String,
    /// Its error; empty if it has none.
    pub error: String,
}

/// A workflow with its steps that have failed or not ended.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = WorkflowDetails))]
pub struct WorkflowDetailsObject {
    /// The workflow.
    #[serde(flatten)]
    pub workflow: WorkflowObject,
    /// Failed steps, then open ones, at most fifty.
    pub unfinished: Vec<StepObject>,
}

impl WorkflowObject {
    /// From what the broker says.
    #[must_use]
    pub fn of(head: &WorkflowHead, zone: &TimeZone) -> Self {
        Self {
            id: head.id.clone(),
            name: head.plan.name.clone(),
            state: head.place.state.as_str().to_owned(),
            done: head.done,
            failed: head.failed,
            steps: head.plan.steps(),
            stage: head.place.sent,
            stages: head.plan.stages.len(),
            error: head.error.clone(),
            created_at: WrittenInstant::of(head.created_at, zone),
            changed_at: WrittenInstant::of(head.changed_at, zone),
        }
    }
}

impl StepObject {
    /// A step of this workflow; `None` if it has succeeded.
    #[must_use]
    pub fn of(workflow: &str, step: WorkflowStepView) -> Option<Self> {
        let (state, error) = match step.end {
            Some(StepEnd::Done(_)) => return None,
            Some(StepEnd::Failed(error)) => ("failed", error),
            None => ("open", String::new()),
        };
        Some(Self {
            number: step.number,
            kind: step.step.kind,
            queue: step.step.queue.to_string(),
            task: step_task_id(workflow, step.number).map_or_else(String::new, |id| id.to_string()),
            state: state.to_owned(),
            error,
        })
    }
}
