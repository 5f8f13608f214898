//! A live worker as an object: what it says of itself, and the tasks that it runs.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use runner_queue::ServerView;
use serde::Serialize;

use super::WrittenInstant;
use super::reason::word;

/// A worker and its tasks.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = Worker))]
pub struct WorkerObject {
    /// The process.
    pub info: WorkerInfoObject,
    /// Its tasks.
    pub working: Vec<WorkingObject>,
}

/// A worker process.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = WorkerInfo))]
pub struct WorkerInfoObject {
    /// Host name.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// Random, new for each start.
    pub id: String,
    /// How many tasks it runs at once.
    pub concurrency: u32,
    /// Queues and their priorities; a name with `*` stands for every queue that it matches.
    pub queues: BTreeMap<String, u32>,
    /// Whether higher priorities always come first.
    pub strict_priority: bool,
    /// `active`, `stopped` (takes no new tasks) or `closed`.
    pub status: String,
    /// When it started.
    pub started_at: WrittenInstant,
    /// Tasks in flight.
    pub active: u32,
    /// Task types that it has handlers for: names, and prefixes that end in `*`. Empty for a worker in Go.
    pub handlers: Vec<String>,
}

/// A task in flight.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = WorkingTask))]
pub struct WorkingObject {
    /// Its id.
    pub id: String,
    /// Its type.
    pub kind: String,
    /// Its queue.
    pub queue: String,
    /// When the worker took it.
    pub started_at: WrittenInstant,
    /// When the attempt must end.
    pub deadline: WrittenInstant,
}

impl WorkerObject {
    /// From what it reports.
    #[must_use]
    pub fn of(view: &ServerView, zone: &TimeZone) -> Self {
        let info = &view.info;
        let working = view.working.iter().map(|task| WorkingObject {
            id: task.id.to_string(),
            kind: task.kind.clone(),
            queue: task.queue.to_string(),
            started_at: WrittenInstant::of(task.started_at, zone),
            deadline: WrittenInstant::of(task.deadline, zone),
        });
        Self {
            info: WorkerInfoObject {
                host: info.host.clone(),
                pid: info.pid,
                id: info.id.clone(),
                concurrency: info.concurrency,
                queues: info.queues.clone(),
                strict_priority: info.strict_priority,
                status: word(&info.status),
                started_at: WrittenInstant::of(info.started_at, zone),
                active: info.active,
                handlers: info.handlers.clone(),
            },
            working: working.collect(),
        }
    }
}
