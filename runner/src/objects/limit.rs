//! How full a limit is, as an object.

use runner_core::task::QueueName;
use runner_queue::LimitInUse;
use serde::Serialize;

/// A limit at which tasks run or wait, for one value of its key.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = Limit))]
pub struct LimitObject {
    /// The queue.
    pub queue: String,
    /// What it counts and of which type or queue: `concurrency fn:report`.
    pub limit: String,
    /// The value of its key; `null` where all tasks count together.
    pub key: Option<String>,
    /// How many run, or keep their place; 0 for a rate.
    pub running: u64,
    /// How many may run; `null` for a rate.
    pub most: Option<u64>,
    /// How many wait.
    pub waiting: u64,
}

impl LimitObject {
    /// From what the broker says.
    #[must_use]
    pub fn of(queue: &QueueName, limit: LimitInUse) -> Self {
        Self {
            queue: queue.to_string(),
            limit: limit.name,
            key: limit.key,
            running: limit.running,
            most: limit.most,
            waiting: limit.waiting,
        }
    }
}
