//! Facts as JSON objects: one form for `--json` of commands and for the API. Fields, instants, payloads.
//!
//! Made from what the broker and the sources say; asks nothing itself. Not here: tables for people (`cli`), pages (`web`).

mod enqueued;
mod queue;
mod reason;
mod run;
mod task;
mod value;

pub use enqueued::EnqueuedObject;
pub use queue::QueueObject;
pub use reason::{ReasonObject, ReasonWriter};
pub use run::RunObject;
pub use task::{AttemptObject, LiveObject, TaskDetailsObject, TaskListItem, TaskObject, UnreadableTaskObject};
pub use value::{JsonField, WrittenInstant, instant, payload};
