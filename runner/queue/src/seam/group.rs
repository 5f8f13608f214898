//! The aggregator's side of the seam: groups, and the sets in which the tasks of a group are combined into one.
//!
//! A group is ripe by its size or its age. A ripe one is *staged*: its tasks move from the group to a set of their own,
//! which is on no list and belongs to the instance that staged it, until a deadline. They are combined by enqueueing
//! the new task and then dropping the set; if the set still exists after its deadline, its tasks return to the group.
//! So each task is combined with others at least once, and twice if its aggregator dies between the two steps.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::task::QueueName;
use serde::Serialize;

use super::{BrokerResult, Page, TaskPage, TaskRecord};

/// The most tasks of a set: they are all in memory at once when they are combined. A group that reaches it is ripe.
pub const MAX_SET: usize = 10_000;

/// How long a set belongs to its stager; asynq's time.
pub const SET_DEADLINE: Duration = Duration::from_secs(120);

/// When a group is ripe. A store may count spans in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupRule {
    /// Ripe when no task has joined it for this long; at least 1 s.
    pub grace: Duration,
    /// Ripe when its first task has waited for this long, however many join.
    pub max_delay: Option<Duration>,
    /// Ripe when it has this many tasks, which is also the most that are combined; at least 1. [`MAX_SET`] bounds it in
    /// any case.
    pub max_size: Option<usize>,
}

impl Default for GroupRule {
    /// asynq's: a minute of grace and nothing else.
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(60),
            max_delay: None,
            max_size: None,
        }
    }
}

impl GroupRule {
    /// The most tasks that are combined.
    #[must_use]
    pub fn size(&self) -> usize {
        self.max_size.unwrap_or(MAX_SET).clamp(1, MAX_SET)
    }
}

/// A part of the names of a queue's groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupNames {
    /// Unordered; a name may appear twice. Some of these groups may have no task.
    pub names: Vec<String>,
    /// Where to continue; `None` at the end.
    pub next: Option<String>,
}

/// Tasks that were taken out of their group to be combined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedSet {
    /// Their queue.
    pub queue: QueueName,
    /// Their group.
    pub group: String,
    /// Random, new for each set.
    pub id: String,
    /// When they return to their group unless the set was dropped, by the broker's clock.
    pub deadline: Timestamp,
}

/// Tasks that returned to a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reclaimed {
    /// The queue.
    pub queue: QueueName,
    /// The group.
    pub group: String,
    /// How many tasks.
    pub tasks: usize,
}

/// A group at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupInfo {
    /// Its name.
    pub name: String,
    /// Tasks that wait in it.
    pub tasks: u64,
}

/// Groups of one page and how many there are in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPage {
    /// By name.
    pub groups: Vec<GroupInfo>,
    /// Groups of the queue that have tasks; a lower bound, since a store may stop counting and showing them at a
    /// thousand.
    pub total: u64,
}

/// Groups, for aggregators and the dashboard.
#[async_trait]
pub trait Groups: Send + Sync {
    /// Names of groups of a queue, part by part: from the beginning, or where the last part ended.
    async fn group_names(&self, queue: &QueueName, from: Option<&str>) -> BrokerResult<GroupNames>;

    /// Stages the first tasks of a group if it is ripe: those that joined first, at most [`GroupRule::size`]. In
    /// the order of the instants at which they joined, then of the bytes of their ids.
    async fn stage(&self, queue: &QueueName, group: &str, rule: &GroupRule) -> BrokerResult<Option<StagedSet>>;

    /// The tasks of a set, in order; empty when it does not exist any more. A task that cannot be read is
    /// archived, and an id without a task is dropped; the others are returned.
    async fn read_staged(&self, set: &StagedSet) -> BrokerResult<Vec<TaskRecord>>;

    /// Deletes the combined tasks of a set. Returns their number. Their uniqueness locks last until their time
    /// is over. Nothing happens when the set returned to its group.
    async fn drop_staged(&self, set: &StagedSet) -> BrokerResult<usize>;

    /// Returns the tasks of sets whose deadline passed at least `grace` ago to their groups, in their old
    /// order, at most `limit` tasks.
    async fn reclaim(&self, queues: &[QueueName], grace: Duration, limit: usize) -> BrokerResult<Vec<Reclaimed>>;

    /// The groups of a queue that have tasks, by name. Tasks in staged sets are not counted.
    async fn groups(&self, queue: &QueueName, page: Page) -> BrokerResult<GroupPage>;

    /// One page of the tasks that wait in one group, in the order in which they are combined, cut like
    /// [`InspectTasks::tasks`](super::InspectTasks::tasks).
    async fn group_tasks(&self, queue: &QueueName, group: &str, page: Page) -> BrokerResult<TaskPage>;
}
