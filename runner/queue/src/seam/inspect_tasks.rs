//! Questions about tasks, for the dashboard and the command line.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use runner_core::task::{QueueName, Task, TaskId, TaskState};

use super::{Attempt, BrokerResult, TaskRecord};

/// Bytes of a payload and of a result that a list shows.
pub const HEAD_BYTES: usize = 2048;

/// Bytes of a payload and of a result that the page of a task shows.
pub const GLANCE_BYTES: usize = 64 * 1024;

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
    /// What it waits for, e.g. a handler of its type; `None` when it only waits its turn.
    pub waiting_for: Option<String>,
}

/// Tasks of one page and how many there are in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPage {
    /// Those that can be read. Tasks that are not over are in the order of their turn: pending tasks as they are
    /// claimed, scheduled and retry by their time, active ones by their claim, those of groups as they are combined.
    /// Finished ones are newest first: archived tasks by when they were archived, completed ones by when they will be
    /// deleted.
    pub tasks: Vec<TaskInfo>,
    /// Those that cannot.
    pub unreadable: Vec<RawTask>,
    /// In the whole list.
    pub total: u64,
}

/// What is stored under the id of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawTask {
    /// The id; another program may have written one that is not text.
    pub id: Vec<u8>,
    /// Its state, if it has one.
    pub state: Option<TaskState>,
    /// Why it cannot be read; `None`: it can, or it was not tried because it is large and would have blocked the
    /// store for too long.
    pub why: Option<String>,
    /// The beginning of its message (of its payload, where there are no messages).
    pub head: Bytes,
    /// Bytes of all of it.
    pub bytes: u64,
}

/// Tasks, for the dashboard and the command line.
#[async_trait]
pub trait InspectTasks: Send + Sync {
    /// One page of the tasks of a queue in one state, with at most [`HEAD_BYTES`] of each payload and result.
    async fn tasks(&self, queue: &QueueName, state: TaskState, page: Page) -> BrokerResult<TaskPage>;

    /// One task, whole.
    async fn task(&self, queue: &QueueName, id: &TaskId) -> BrokerResult<Option<TaskInfo>>;

    /// One task, with at most [`GLANCE_BYTES`] of its payload and result.
    async fn glance(&self, queue: &QueueName, id: &TaskId) -> BrokerResult<Option<TaskInfo>>;

    /// What is stored under an id, whether or not it can be read.
    async fn raw_task(&self, queue: &QueueName, id: &[u8]) -> BrokerResult<Option<RawTask>>;

    /// The queues that have a task of this id.
    async fn find(&self, id: &TaskId) -> BrokerResult<Vec<QueueName>>;

    /// The task that holds the uniqueness lock that this one would take; it may be gone while its lock remains.
    async fn lock_holder(&self, task: &Task) -> BrokerResult<Option<TaskId>>;

    /// Attempts of a task, oldest first; empty when none is on record.
    async fn attempts(&self, queue: &QueueName, id: &TaskId) -> BrokerResult<Vec<Attempt>>;
}
