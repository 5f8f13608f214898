//! Schedules as other programs on the same store see them, and entries of these as this program sees them: asynq's
//! scheduler entries. For display alone; nothing is fired because of an entry.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use runner_core::schedule::ScheduleId;
use runner_core::task::{Task, TaskId};
use serde::Serialize;

use super::{BrokerResult, Page};

/// How many entries of other schedulers are read at most.
pub const MAX_FOREIGN_ENTRIES: usize = 1000;

/// A schedule of this program as shown to other tools.
#[derive(Debug, Clone, PartialEq)]
pub struct EntryView {
    /// Identity.
    pub id: ScheduleId,
    /// The rule in asynq's grammar, with `CRON_TZ=` where the zone matters.
    pub spec: String,
    /// The task that it enqueues, with its options.
    pub task: Task,
    /// The next occurrence, if any.
    pub next: Option<Timestamp>,
    /// The last fire, if any.
    pub last: Option<Timestamp>,
}

/// An entry of a scheduler of another program, such as asynq's in Go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ForeignEntry {
    /// Its id, new with each start of that scheduler; [`Entries::enqueue_events`]
    /// has its history under it.
    pub id: ScheduleId,
    /// The scheduler, as `host:pid:id`.
    pub scheduler: String,
    /// The rule as it was registered, without its zone.
    pub spec: String,
    /// The zone that the rule names; empty if it names none, which is UTC or that scheduler's own.
    pub zone: String,
    /// The task type.
    pub kind: String,
    /// The payload.
    #[serde(skip)]
    pub payload: Bytes,
    /// The options of the task in asynq's text form: `Queue("low")`, `MaxRetry(3)`.
    pub options: Vec<String>,
    /// The next planned occurrence.
    pub next: Option<Timestamp>,
    /// The last planned occurrence that has passed, whether or not its task was accepted.
    pub last: Option<Timestamp>,
}

impl ForeignEntry {
    /// The queue named by the options, else asynq's default.
    #[must_use]
    pub fn queue(&self) -> &str {
        let named = |option: &'_ String| option.starts_with("Queue(\"") && option.ends_with("\")");
        let option = self.options.iter().find(|option| named(option));
        option.map_or("default", |text| &text["Queue(\"".len()..text.len() - "\")".len()])
    }
}

/// A task that a schedule enqueued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EnqueueEvent {
    /// The task.
    pub task: TaskId,
    /// When it was enqueued, by the broker's clock.
    pub at: Timestamp,
}

/// Events of one page and how many there are in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnqueueEventPage {
    /// Newest first.
    pub events: Vec<EnqueueEvent>,
    /// On record.
    pub total: u64,
}

/// What a scheduler shows to other programs, and what their schedulers show.
#[async_trait]
pub trait Entries: Send + Sync {
    /// Shows all schedules to other tools for `ttl`; a broker without such tools does nothing.
    async fn publish_entries(&self, instance: &str, entries: &[EntryView], ttl: Duration) -> BrokerResult<()>;

    /// Live entries of the schedulers of other programs, soonest first, at most [`MAX_FOREIGN_ENTRIES`]; a store that
    /// no other program uses has none.
    async fn foreign_entries(&self) -> BrokerResult<Vec<ForeignEntry>> {
        Ok(Vec::new())
    }

    /// What a schedule enqueued, as far as it is on record.
    async fn enqueue_events(&self, schedule: &ScheduleId, page: Page) -> BrokerResult<EnqueueEventPage>;
}
