//! How a worker works, with the defaults, and the times that follow from the lease. Read by `config`, never here.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use runner_core::limit::Limits;
use runner_core::notification::NOTIFICATION_QUEUE;
use runner_core::task::QueueName;
use runner_queue::{ArchiveBounds, GroupRule};
use runner_sdk::LeaseLimits;
use tokio::time::Instant;

/// The default lease: asynq's.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(30);

/// The shortest lease: its end is stored in whole seconds, and several heartbeats must fit.
pub const SHORTEST_LEASE: Duration = Duration::from_secs(3);

/// asynq's interval of heartbeats; a longer one would be of no use.
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(5);

/// Tasks mostly wait for others, so a few more than processors; enough of them on a small machine too.
const MIN_DEFAULT_CONCURRENCY: usize = 10;

/// How a worker works; plain values, already validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerSettings {
    /// Tasks run at once, at least 1.
    pub concurrency: usize,
    /// Queue names with priorities of at least 1; not empty. One with `*` stands for every queue that it matches.
    pub queues: BTreeMap<QueueName, u32>,
    /// Whether a higher priority always comes first.
    pub strict_priority: bool,
    /// How long a drain waits for running handlers.
    pub shutdown_timeout: Duration,
    /// How long a claim is good for without an extension; at least [`SHORTEST_LEASE`].
    pub lease: Duration,
    /// What the archive of a queue keeps.
    pub archive: ArchiveBounds,
    /// After how many crashes of its own in a row a task is archived as poison; 0: never.
    pub poison_after: u32,
    /// When a group is ripe.
    pub groups: GroupRule,
    /// Limits of queues, and of types where code states them.
    pub limits: Limits,
    /// Types whose runs are recorded beside those of functions: names, or prefixes and `*`.
    pub recorded_types: Vec<String>,
    /// Slots beside `concurrency` that only notifications use; 0 where the worker does not serve them.
    pub notification_slots: usize,
}

/// Notifications that are sent beside other tasks: a receiver that does not answer holds at most half of them.
const NOTIFICATION_SLOTS: usize = 16;

impl Default for WorkerSettings {
    fn default() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Self {
            concurrency: (2 * cpus).max(MIN_DEFAULT_CONCURRENCY),
            queues: [(QueueName::default(), 1)].into(),
            strict_priority: false,
            // Service managers often kill after 30 s.
            shutdown_timeout: Duration::from_secs(25),
            lease: DEFAULT_LEASE,
            archive: ArchiveBounds::default(),
            // A process may die by accident, and so may the next; hardly a third one in a row.
            poison_after: 3,
            groups: GroupRule::default(),
            limits: Limits::default(),
            recorded_types: Vec::new(),
            notification_slots: 0,
        }
    }
}

impl WorkerSettings {
    /// Serves the queue of notifications as well, before the others, and while they take all slots.
    pub fn serve_notifications(&mut self) {
        let highest = self.queues.values().max().copied().unwrap_or(1);
        // The names are ours, so this cannot fail.
        if let Ok(queue) = QueueName::new(NOTIFICATION_QUEUE) {
            self.queues.insert(queue, highest.saturating_add(1));
            self.notification_slots = NOTIFICATION_SLOTS;
        }
    }

    /// Six to a lease, so that five may be lost.
    pub(super) fn heartbeat_every(&self) -> Duration {
        (self.lease / 6).min(LONGEST_HEARTBEAT)
    }

    /// A handler whose lease was not extended for this long is asked to stop: 80 % of it.
    pub(super) fn fence_after(&self) -> Duration {
        self.lease * 8 / 10
    }

    /// How often that is checked: a handler that is asked one check late must still be gone in time.
    pub(super) fn fence_every(&self) -> Duration {
        (self.lease / 30).min(Duration::from_secs(1))
    }

    /// How long a handler that was asked to stop may take before it is dropped: it must be gone before the lease is.
    pub(super) fn last_moment(&self) -> Duration {
        self.lease * 2 / 15
    }

    /// How long a task whose lease was extended at `at` may run on when this process cannot stop it. The
    /// watchdog decides first: it may know that no other worker can take the task.
    pub(super) fn hold(&self, at: Instant) -> LeaseLimits {
        let ask = at + self.fence_after() + 2 * self.fence_every();
        LeaseLimits {
            ask: ask.into_std(),
            kill: (ask + self.last_moment()).into_std(),
        }
    }

    /// The same for a task whose lease is over while this worker was alone at `at`: gone before one that comes then has
    /// been listed for long enough, see [`Self::listed_first`].
    pub(super) fn hold_alone(&self, at: Instant) -> LeaseLimits {
        let ask = at + self.lease / 5;
        LeaseLimits {
            ask: ask.into_std(),
            kill: (ask + self.last_moment()).into_std(),
        }
    }

    /// How long this worker has to be listed before it takes back tasks of others, where these rely on being alone:
    /// more than their watchdog needs to see it and to drop handlers, and the grace that every lost lease has.
    pub(super) fn listed_first(&self) -> Duration {
        self.lease * 3 / 5 + self.recover_grace()
    }

    /// How long after the end of its lease a task is taken back: allowance for the rounding of its end to a second,
    /// and for one late call.
    pub(super) fn recover_grace(&self) -> Duration {
        (self.lease / 6).clamp(Duration::from_secs(1), Duration::from_secs(5))
    }
}

/// The settings of a worker that may change while it runs. Clones share them.
#[derive(Debug, Clone)]
pub struct ChangeableSettings(Arc<RwLock<Changeable>>);

#[derive(Debug, Clone)]
pub(super) struct Changeable {
    /// Tasks run at once, unless an operator ordered another number.
    pub(super) concurrency: usize,
    pub(super) limits: Limits,
    pub(super) archive: ArchiveBounds,
    pub(super) groups: GroupRule,
    pub(super) poison_after: u32,
    pub(super) shutdown_timeout: Duration,
    pub(super) recorded_types: Vec<String>,
}

impl Changeable {
    fn of(settings: &WorkerSettings) -> Self {
        Self {
            concurrency: settings.concurrency.max(1),
            limits: settings.limits.clone(),
            archive: settings.archive,
            groups: settings.groups,
            poison_after: settings.poison_after,
            shutdown_timeout: settings.shutdown_timeout,
            recorded_types: settings.recorded_types.clone(),
        }
    }
}

impl ChangeableSettings {
    /// The keys of a settings file that are meant, below `worker`.
    pub const KEYS: [&str; 10] = [
        "worker.concurrency",
        "worker.limits",
        "worker.archive_max",
        "worker.archive_keep",
        "worker.group_grace_period",
        "worker.group_max_delay",
        "worker.group_max_size",
        "worker.poison_after",
        "worker.shutdown_timeout",
        "worker.record_runs",
    ];

    pub(super) fn new(settings: &WorkerSettings) -> Self {
        Self(Arc::new(RwLock::new(Changeable::of(settings))))
    }

    /// Puts these in force within two seconds; the others of `settings` do not matter.
    pub fn set(&self, settings: &WorkerSettings) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Changeable::of(settings);
    }

    /// How long a stop waits for tasks that run.
    #[must_use]
    pub fn shutdown_timeout(&self) -> Duration {
        self.now().shutdown_timeout
    }

    /// Those in force. Not to be held over a wait.
    pub(super) fn now(&self) -> RwLockReadGuard<'_, Changeable> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}
