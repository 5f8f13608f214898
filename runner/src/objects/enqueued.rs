//! A task that was just enqueued, as an object.

use jiff::tz::TimeZone;
use runner_core::task::{QueueName, TaskId, TaskState};
use runner_queue::Enqueued;
use serde::Serialize;

use super::WrittenInstant;

/// An accepted task.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = EnqueuedTask))]
pub struct EnqueuedObject {
    /// Its id, unique within its queue.
    pub id: String,
    /// Its queue.
    pub queue: String,
    /// Its state; `null` if it was accepted before and is gone.
    pub state: Option<String>,
    /// When it will run; `null` for tasks that wait in a group, and where that is not known.
    pub run_at: Option<WrittenInstant>,
    /// Whether the same call was made before, so that this one added nothing.
    pub repeated: bool,
}

impl EnqueuedObject {
    /// A task that is new.
    #[must_use]
    pub fn new(enqueued: &Enqueued, zone: &TimeZone) -> Self {
        Self {
            id: enqueued.id.to_string(),
            queue: enqueued.queue.to_string(),
            state: Some(enqueued.state.to_string()),
            run_at: WrittenInstant::maybe(enqueued.run_at, zone),
            repeated: false,
        }
    }

    /// A task that an earlier call enqueued.
    #[must_use]
    pub fn repeated(queue: &QueueName, id: &TaskId, state: Option<TaskState>) -> Self {
        Self {
            id: id.to_string(),
            queue: queue.to_string(),
            state: state.map(|state| state.to_string()),
            run_at: None,
            repeated: true,
        }
    }
}
