//! Questions about queues, for the dashboard and the command line.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::Date;
use runner_core::task::{QueueName, TaskState};
use serde::Serialize;

use super::BrokerResult;

/// How many days of a queue's history a store keeps.
pub const MAX_HISTORY_DAYS: usize = 90;

/// The most tasks that a look at pending types reads: about a millisecond of the store's time.
pub const MAX_PENDING_LOOK: usize = 1_000;

/// The most types that such a look returns.
pub const MAX_PENDING_TYPES: usize = 100;

/// A queue at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueueInfo {
    /// Its name.
    pub name: QueueName,
    /// How many tasks are in each state; every state is present. With more than a thousand groups a store may read some
    /// and count one task for each of the others: the number of aggregating ones is then a lower bound.
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

/// Tasks of one type among the oldest pending ones of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingType {
    /// The type.
    pub kind: String,
    /// How many.
    pub count: u64,
    /// Since when the oldest of them has been pending, if that is known.
    pub oldest: Option<Timestamp>,
}

/// The most entries of one queue that [`InspectQueues::limits_in_use`] returns.
pub const MAX_LIMITS_SHOWN: usize = 500;

/// How full a limit is, for one value of its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LimitInUse {
    /// What it counts and of which type or queue: `concurrency fn:report`, `rate mail:*`; of a semaphore its scope: `semaphore api`.
    pub name: String,
    /// The value of its key; `None` where all tasks count together.
    pub key: Option<String>,
    /// How many may run at a time; `None` for a rate.
    pub most: Option<u64>,
    /// How many run, or keep their place in an order; 0 for a rate. At a semaphore those of other queues and programs too.
    pub running: u64,
    /// How many wait for their turn.
    pub waiting: u64,
}

#[cfg(any(feature = "redis", feature = "embedded"))]
impl LimitInUse {
    /// `gate`: the name of the limit, then a tab and the value of its key if it has one.
    pub(crate) fn of_gate(gate: &str, most: Option<u64>, running: u64, waiting: u64) -> Self {
        let (name, key) = match gate.split_once('\t') {
            Some((name, key)) => (name, Some(key.to_owned())),
            None => (gate, None),
        };
        Self {
            name: name.to_owned(),
            key,
            most,
            running,
            waiting,
        }
    }

    /// The order of a list: most waiting first, then by name.
    pub(crate) fn sort(list: &mut [Self]) {
        list.sort_by(|a, b| (b.waiting, &a.name, &a.key).cmp(&(a.waiting, &b.name, &b.key)));
    }
}

/// Queues, for the dashboard and the command line.
#[async_trait]
pub trait InspectQueues: Send + Sync {
    /// The names of all known queues, in order.
    async fn queue_names(&self) -> BrokerResult<Vec<QueueName>>;

    /// These queues, in this order; those that are not known are left out.
    async fn queues_of(&self, names: &[QueueName]) -> BrokerResult<Vec<QueueInfo>>;

    /// All known queues, by name. Costs as much as there are queues: ask [`InspectQueues::queues_of`] for a page of
    /// them.
    async fn queues(&self) -> BrokerResult<Vec<QueueInfo>>;

    /// What a queue processed on each of the last days, today (UTC) first. `days` counts from 1 to
    /// [`MAX_HISTORY_DAYS`]; other values are replaced by the nearest of these. An unknown queue processed nothing.
    async fn history(&self, queue: &QueueName, days: usize) -> BrokerResult<Vec<DayCount>>;

    /// About how many bytes the tasks of a queue take up in the store, estimated from a few tasks of each state.
    /// Costs more than the other questions: ask it on request, not on every page.
    async fn memory(&self, queue: &QueueName) -> BrokerResult<u64>;

    /// The types of the oldest pending tasks of a queue, of at most [`MAX_PENDING_TYPES`] and among at most `look`
    /// tasks, fewer when they are large. Tasks that cannot be read are left out. At most [`MAX_PENDING_LOOK`] are
    /// looked at.
    async fn pending_types(&self, queue: &QueueName, look: usize) -> BrokerResult<Vec<PendingType>>;

    /// The limits of a queue at which tasks run or wait, those with most waiting first. Of more than [`MAX_LIMITS_SHOWN`], as
    /// with very many values of a key, some.
    async fn limits_in_use(&self, queue: &QueueName) -> BrokerResult<Vec<LimitInUse>>;
}
