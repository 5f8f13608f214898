//! The aggregator's side of the seam: groups, and the sets in which the tasks of a group become one.
//!
//! A group is ripe by its size or its age. A ripe one is *staged*: its tasks move from the group to a set of their
//! own, which is on no list and belongs to whoever staged it, until a deadline. They become one task by an enqueue
//! and then a drop of the set; when the set is still there after its deadline, its tasks go back to the group. So
//! each task is put together with others at least once, and twice when its aggregator dies between the two.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::task::QueueName;
use serde::Serialize;

use super::{BrokerResult, Page, TaskPage, TaskRecord};

/// Tasks of one set at most: they are all in memory at once when they become one. A group that reaches it is ripe.
pub const MAX_SET: usize = 10_000;

/// How long a set is its stager's; asynq's time.
pub const SET_DEADLINE: Duration = Duration::from_secs(120);

/// When a group is ripe. A store may count spans in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupRule {
    /// It is when no task has joined it for this long; at least 1 s.
    pub grace: Duration,
    /// It is when its first task has waited for this long, however many join.
    pub max_delay: Option<Duration>,
    /// It is when it has so many tasks, and no more become one; at least 1. [`MAX_SET`] bounds it in any case.
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
    /// Tasks that become one at most.
    #[must_use]
    pub fn size(&self) -> usize {
        self.max_size.unwrap_or(MAX_SET).clamp(1, MAX_SET)
    }
}

/// A part of the names of a queue's groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupNames {
    /// In no order; a name may come twice. Some of these groups may have no task.
    pub names: Vec<String>,
    /// Where to go on; `None` at the end.
    pub next: Option<String>,
}

/// Tasks that were taken out of their group to become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedSet {
    /// Their queue.
    pub queue: QueueName,
    /// Their group.
    pub group: String,
    /// Random, new for each set.
    pub id: String,
    /// When they go back to their group unless the set was dropped, by the broker's clock.
    pub deadline: Timestamp,
}

/// What went back to a group.
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
    /// Groups of the queue that have tasks; at least, for a store may leave off counting and showing at a thousand.
    pub total: u64,
}

/// What an aggregator asks of a broker, and the dashboard about groups.
#[async_trait]
pub trait Groups {
    /// Names of groups of a queue, part by part: from the beginning, or where the last part ended.
    async fn group_names(&self, queue: &QueueName, from: Option<&str>) -> BrokerResult<GroupNames>;

    /// Stages the first tasks of a group if it is ripe: those that joined first, at most [`GroupRule::size`]. In
    /// the order of the instants at which they joined, then of the bytes of their ids.
    async fn stage(&self, queue: &QueueName, group: &str, rule: &GroupRule) -> BrokerResult<Option<StagedSet>>;

    /// The tasks of a set, in order; empty when it is there no more. A task that cannot be read is put aside as
    /// archived, and an id without a task is forgotten; the others are returned.
    async fn read_staged(&self, set: &StagedSet) -> BrokerResult<Vec<TaskRecord>>;

    /// Deletes the tasks of a set that became one task; how many. Their uniqueness locks live on until their time
    /// is over. Nothing happens when the set went back to its group.
    async fn drop_staged(&self, set: &StagedSet) -> BrokerResult<usize>;

    /// Puts the tasks of sets whose deadline passed at least `grace` ago back into their groups, as they lay
    /// there, at most `limit` tasks.
    async fn reclaim(&self, queues: &[QueueName], grace: Duration, limit: usize) -> BrokerResult<Vec<Reclaimed>>;

    /// The groups of a queue that have tasks, by name. Tasks that are being put together right now are not counted.
    async fn groups(&self, queue: &QueueName, page: Page) -> BrokerResult<GroupPage>;

    /// One page of the tasks that wait in one group, in the order in which they are put together, cut like
    /// [`InspectTasks::tasks`](super::InspectTasks::tasks).
    async fn group_tasks(&self, queue: &QueueName, group: &str, page: Page) -> BrokerResult<TaskPage>;
}
