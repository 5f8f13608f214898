//! Facts as JSON objects: one form for `--json` of commands and for the API. Fields, instants, payloads.
//!
//! Made from what the broker and the sources say; asks nothing itself. Not here: tables for people (`cli`), pages (`web`).

mod at_instant;
mod audit;
mod enqueued;
mod function;
mod limit;
mod operation;
mod problem;
mod queue;
mod reason;
mod row;
mod run;
mod schedule;
mod task;
mod trigger;
mod value;
mod worker;
mod workflow;

pub use at_instant::AtInstantObject;
pub use audit::AuditObject;
pub use enqueued::EnqueuedObject;
pub use function::FunctionObject;
pub use limit::LimitObject;
pub use operation::{OperationObject, operation_status};
pub use problem::ProblemObject;
pub use queue::QueueObject;
pub use reason::{ReasonObject, ReasonWriter};
pub use row::{PreviewObject, PreviewedObject, RowObject};
pub use run::RunObject;
pub use schedule::{
    DecisionObject, ScheduleDetailsObject, ScheduleFactsNow, ScheduleObject, pause_words, schedule_state,
};
pub use task::{AttemptObject, LiveObject, TaskDetailsObject, TaskListItem, TaskObject, UnreadableTaskObject};
pub use trigger::TriggerObject;
pub use value::{JsonField, WrittenInstant, instant, payload};
pub use worker::WorkerObject;
pub use workflow::{StepObject, WorkflowDetailsObject, WorkflowObject};
