//! The dashboard's side of the seam: questions, and the trait that also carries an operator's actions.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use jiff::civil::Date;
use runner_core::schedule::ScheduleId;
use runner_core::task::{QueueName, Task, TaskId, TaskState};
use serde::Serialize;

use super::{
    Acted, Action, ActionError, Attempt, BrokerResult, ForeignEntry, GroupPage, PendingType, RemoveError, ServerInfo,
    TaskRecord, Working,
};

/// Bytes of a payload and of a result that a list shows.
pub const HEAD_BYTES: usize = 2048;

/// Bytes of a payload and of a result that the page of a task shows.
pub const GLANCE_BYTES: usize = 64 * 1024;

/// How many days a store remembers what a queue processed.
pub const MAX_HISTORY_DAYS: usize = 90;

/// How many tasks a look at the types of pending tasks goes through at most: about a millisecond of the store's time.
pub const MAX_PENDING_LOOK: usize = 1_000;

/// How many types such a look tells of at most.
pub const MAX_PENDING_TYPES: usize = 100;

/// A queue at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueueInfo {
    /// Its name.
    pub name: QueueName,
    /// How many tasks are in each state; every state is present. Of more than a thousand groups a store may look at some
    /// and count one task for each of the others: there are at least so many aggregating ones.
    pub counts: BTreeMap<TaskState, u64>,
    /// Whether it is paused.
    pub paused: bool,
    /// How long its oldest pending task has waited; zero when none has.
    pub latency: Duration,
    /// Tasks processed today (UTC), failures included.
    pub processed_today: u64,
    /// Failures today (UTC).
    pub failed_today: u64,
    /// Tasks processed ever.
    pub processed: u64,
    /// Failures ever.
    pub failed: u64,
}

impl QueueInfo {
    /// All its tasks, whatever their state.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.counts.values().sum()
    }
}

/// A page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Counts from 1.
    pub number: usize,
    /// Tasks on it, 1 to 1000.
    pub size: usize,
}

impl Default for Page {
    fn default() -> Self {
        Self { number: 1, size: 30 }
    }
}

/// Everything known about one task but its attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskInfo {
    /// The task.
    pub record: TaskRecord,
    /// Its state.
    pub state: TaskState,
    /// When it runs next: scheduled and retry.
    pub next_run: Option<Timestamp>,
    /// Since when it has been pending, if that is known.
    pub pending_since: Option<Timestamp>,
    /// When its lease ends: active.
    pub lease_until: Option<Timestamp>,
    /// When it was archived: archived. When it will be deleted: completed.
    pub filed_at: Option<Timestamp>,
    /// What its handler returned.
    pub result: Option<Bytes>,
    /// Bytes of the whole payload; lists have its beginning only.
    pub payload_bytes: u64,
    /// Bytes of the whole result.
    pub result_bytes: u64,
    /// What it waits for, e.g. a handler of its type; `None` when it just waits its turn.
    pub waiting_for: Option<String>,
}

/// Tasks of one page and how many there are in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPage {
    /// Those that can be read. What is still to come is in the order of its turn: pending tasks as they are claimed,
    /// scheduled and retry by their time, active ones by their claim, those of groups as they are put together. What is over is
    /// newest first: archived tasks by when they were, completed ones by when they will be deleted.
    pub tasks: Vec<TaskInfo>,
    /// Those that cannot.
    pub unreadable: Vec<RawTask>,
    /// In the whole list.
    pub total: u64,
}

/// What lies in the store under the id of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawTask {
    /// The id; another program may have written one that is no text.
    pub id: Vec<u8>,
    /// Its state, if it has one.
    pub state: Option<TaskState>,
    /// Why it cannot be read; `None`: it can, or it was not, because it is large and reading it would have kept the
    /// store for too long.
    pub why: Option<String>,
    /// The beginning of its message (of its payload, where there are no messages).
    pub head: Bytes,
    /// Bytes of all of it.
    pub bytes: u64,
}

/// A worker process and what it works on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerView {
    /// The process.
    pub info: ServerInfo,
    /// Its tasks.
    pub working: Vec<Working>,
}

/// Who runs a task that is active, as far as servers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunBy<'a> {
    /// A worker of this program. So is one that no server lists, where no worker in Go serves the queue.
    Own,
    /// This worker in Go, which understands a cancellation of the attempt and nothing else.
    Go(&'a ServerView),
    /// No server lists it yet, and this worker in Go serves the queue: those list a task some seconds after its start.
    Unknown(&'a ServerView),
}

impl<'a> RunBy<'a> {
    /// Looks for the task in what servers list. A server without handlers is one in Go.
    #[must_use]
    pub fn of(servers: &'a [ServerView], queue: &QueueName, id: &TaskId) -> Self {
        let runs = |task: &Working| task.id == *id && task.queue == *queue;
        let is_go = |server: &ServerView| server.info.handlers.is_empty();
        match servers.iter().find(|server| server.working.iter().any(runs)) {
            Some(server) if is_go(server) => Self::Go(server),
            Some(_) => Self::Own,
            None => {
                let mut go = servers.iter().filter(|server| is_go(server));
                let may = go.find(|server| server.info.queues.contains_key(queue.as_str()));
                may.map_or(Self::Own, Self::Unknown)
            }
        }
    }
}

/// What a queue processed on one UTC day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DayCount {
    /// The day, UTC.
    pub day: Date,
    /// Tasks processed, failures included.
    pub processed: u64,
    /// Failures.
    pub failed: u64,
}

/// A task that a schedule put on a queue.
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

/// What the dashboard and the command line ask of a broker.
#[async_trait]
pub trait Inspector {
    /// The names of all known queues, in order.
    async fn queue_names(&self) -> BrokerResult<Vec<QueueName>>;

    /// These queues, in this order; those that are not known are left out.
    async fn queues_of(&self, names: &[QueueName]) -> BrokerResult<Vec<QueueInfo>>;

    /// All known queues, by name. Costs as much as there are queues: ask [`Inspector::queues_of`] for a page of them.
    async fn queues(&self) -> BrokerResult<Vec<QueueInfo>>;

    /// One page of the tasks of a queue in one state, with at most [`HEAD_BYTES`] of each payload and result.
    async fn tasks(&self, queue: &QueueName, state: TaskState, page: Page) -> BrokerResult<TaskPage>;

    /// The groups of a queue that have tasks, by name. Tasks that are being put together right now are not counted.
    async fn groups(&self, queue: &QueueName, page: Page) -> BrokerResult<GroupPage>;

    /// One page of the tasks that wait in one group, in the order in which they are put together, cut like
    /// [`Inspector::tasks`].
    async fn group_tasks(&self, queue: &QueueName, group: &str, page: Page) -> BrokerResult<TaskPage>;

    /// One task, whole.
    async fn task(&self, queue: &QueueName, id: &TaskId) -> BrokerResult<Option<TaskInfo>>;

    /// One task, with at most [`GLANCE_BYTES`] of its payload and result.
    async fn glance(&self, queue: &QueueName, id: &TaskId) -> BrokerResult<Option<TaskInfo>>;

    /// What lies under an id, whether or not it can be read.
    async fn raw_task(&self, queue: &QueueName, id: &[u8]) -> BrokerResult<Option<RawTask>>;

    /// Deletes what lies under an id, as [`Action::Delete`] does with a task that can be read.
    async fn delete_raw(&self, queue: &QueueName, id: &[u8]) -> Result<(), ActionError>;

    /// The queues that have a task of this id.
    async fn find(&self, id: &TaskId) -> BrokerResult<Vec<QueueName>>;

    /// The task that holds the uniqueness lock that this one would take; it may be gone while its lock stays.
    async fn lock_holder(&self, task: &Task) -> BrokerResult<Option<TaskId>>;

    /// Attempts of a task, oldest first; empty when none is remembered.
    async fn attempts(&self, queue: &QueueName, id: &TaskId) -> BrokerResult<Vec<Attempt>>;

    /// What a queue processed on each of the last days, today (UTC) first. `days` counts from 1 to
    /// [`MAX_HISTORY_DAYS`]; anything else is taken for the nearest of these. An unknown queue processed nothing.
    async fn history(&self, queue: &QueueName, days: usize) -> BrokerResult<Vec<DayCount>>;

    /// About how many bytes the tasks of a queue take up in the store, estimated from a few tasks of each state.
    /// Costs more than the other questions: ask it on request, not on every page.
    async fn memory(&self, queue: &QueueName) -> BrokerResult<u64>;

    /// What a schedule enqueued, as far as the store remembers.
    async fn enqueue_events(&self, schedule: &ScheduleId, page: Page) -> BrokerResult<EnqueueEventPage>;

    /// Live entries of the schedulers of other programs, soonest first, at most [`MAX_FOREIGN_ENTRIES`]; a store that
    /// no other program uses has none.
    async fn foreign_entries(&self) -> BrokerResult<Vec<ForeignEntry>> {
        Ok(Vec::new())
    }

    /// Carries out an operator's action.
    async fn act(&self, queue: &QueueName, id: &TaskId, action: Action) -> Result<(), ActionError>;

    /// Carries out an action on [`MAX_ACTED`] tasks of a list, of archived and completed ones on the oldest, of others on the
    /// first; for tasks that wait in groups, of all groups of the queue. Call it again while there are more.
    ///
    /// Tasks that come meanwhile are taken too: a caller who wants to end counts first.
    async fn act_all(&self, queue: &QueueName, state: TaskState, action: Action) -> Result<Acted, ActionError>;

    /// The same for the tasks that wait in one group.
    async fn act_group(&self, queue: &QueueName, group: &str, action: Action) -> Result<Acted, ActionError>;

    /// Gives a scheduled task another payload, of [`MAX_PAYLOAD`](runner_core::task::MAX_PAYLOAD) bytes at most. Its
    /// uniqueness lock stays the one that it took.
    async fn update_payload(&self, queue: &QueueName, id: &TaskId, payload: Bytes) -> Result<(), ActionError>;

    /// Removes a queue with everything of it: tasks, their attempts and locks, counters, pause. Without `force`
    /// only an empty one; never one that has active tasks, unless their leases ran out more than
    /// [`REMOVE_GRACE`](super::REMOVE_GRACE) ago.
    ///
    /// Deletes at most [`MAX_ACTED`] tasks a call: while there are more, the queue is paused, and calling again
    /// goes on. Nothing keeps producers from using the name again.
    async fn remove_queue(&self, queue: &QueueName, force: bool) -> Result<Acted, RemoveError>;

    /// Asks whichever worker holds the task, here or in Go, to end its attempt: it has failed with [`CANCELED`](super::CANCELED)
    /// and is tried again if retries are left. Workers get the id alone: tasks of this id in other
    /// queues are stopped too.
    async fn cancel(&self, id: &TaskId) -> BrokerResult<()>;

    /// Asks the worker of this program that holds the task to end it for good: it is archived with this error, whatever retries
    /// are left. One in Go does not hear of it, and nothing happens to a task that no worker holds.
    async fn stop(&self, queue: &QueueName, id: &TaskId, error: &str) -> BrokerResult<()>;

    /// Stops claims from a queue; whether it was running.
    async fn pause_queue(&self, queue: &QueueName) -> BrokerResult<bool>;

    /// Lets claims go on; whether it was paused.
    async fn resume_queue(&self, queue: &QueueName) -> BrokerResult<bool>;

    /// The types of the oldest pending tasks of a queue, of at most [`MAX_PENDING_TYPES`] and among at most `look` tasks,
    /// fewer when they are large. Tasks that cannot be read are left out. At most [`MAX_PENDING_LOOK`] are looked at.
    async fn pending_types(&self, queue: &QueueName, look: usize) -> BrokerResult<Vec<PendingType>>;

    /// Live servers and what they work on.
    async fn servers(&self) -> BrokerResult<Vec<ServerView>>;
}
