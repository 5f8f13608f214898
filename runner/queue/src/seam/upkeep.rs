//! Upkeep: due tasks, expired leases, retention, repair. Any worker does it for all.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::task::QueueName;

use super::{BrokerResult, Recovered};

/// The lists of a queue that upkeep works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lists {
    /// Pending.
    Pending,
    /// Scheduled and retry.
    Delayed,
    /// Active.
    Active,
    /// Completed and archived.
    Ended,
    /// Aggregating, and staged sets.
    Grouped,
    /// Any of these.
    Any,
}

/// The result of a pass of [`Upkeep::forward`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forwarded {
    /// Tasks moved to pending or to their group.
    pub moved: usize,
    /// Whether the limit cut the pass short and another one should follow at once.
    pub more: bool,
    /// When the next scheduled or retried task is due, by the clock of the store.
    pub next_due: Option<Timestamp>,
    /// After how long a task that waits at a limit may go on. Not an instant: looks at limits are so frequent that a clock here
    /// which differs from that of the store would make them many more, or late.
    pub look_after: Option<Duration>,
}

/// The bounds of a queue's archive; the oldest tasks are deleted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveBounds {
    /// How many tasks, at least 1.
    pub most: usize,
    /// For how long; whole seconds.
    pub keep: Duration,
}

impl Default for ArchiveBounds {
    /// asynq's: 9999 tasks, 90 days.
    fn default() -> Self {
        Self {
            most: 9_999,
            keep: Duration::from_secs(90 * 24 * 3600),
        }
    }
}

/// The result of a pass of [`Upkeep::sweep`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Completed tasks whose retention had ended.
    pub expired: usize,
    /// Archived tasks beyond the bounds of the archive, those included that other calls deleted since the last pass.
    pub trimmed: usize,
    /// Whether a bound cut the pass short.
    pub more: bool,
}

/// What a pass of [`Upkeep::repair`] repaired, and what other calls repaired since the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Repaired {
    /// Ids without a task, or remains of one: dropped.
    pub ghosts: usize,
    /// Tasks that were in no list: put into that of their state.
    pub orphans: usize,
    /// Active tasks without a lease: given one that ends now.
    pub unleased: usize,
    /// Tasks whose state, list and lease contradicted each other, notes and sums that were off.
    pub misplaced: usize,
    /// Tasks that cannot be read, or whose state is unknown: archived with a reason.
    pub quarantined: usize,
}

impl Repaired {
    /// How many in all.
    #[must_use]
    pub fn total(&self) -> usize {
        self.each().iter().map(|(_, n)| n).sum()
    }

    /// Each count with its name.
    #[must_use]
    pub fn each(&self) -> [(&'static str, usize); 5] {
        [
            ("ghosts", self.ghosts),
            ("orphans", self.orphans),
            ("unleased", self.unleased),
            ("misplaced", self.misplaced),
            ("quarantined", self.quarantined),
        ]
    }
}

impl std::ops::AddAssign<&Self> for Repaired {
    fn add_assign(&mut self, other: &Self) {
        self.ghosts += other.ghosts;
        self.orphans += other.orphans;
        self.unleased += other.unleased;
        self.misplaced += other.misplaced;
        self.quarantined += other.quarantined;
    }
}

/// Maintenance of queues, by workers.
#[async_trait]
pub trait Upkeep: Send + Sync {
    /// Those of the queues that have anything on these lists: a cheap look, for workers of thousands of queues.
    async fn narrow(&self, queues: &[QueueName], lists: Lists) -> BrokerResult<Vec<QueueName>>;

    /// Moves tasks whose time has come to pending (or to their group), at most `limit` a queue and list.
    async fn forward(&self, queues: &[QueueName], limit: usize) -> BrokerResult<Forwarded>;

    /// Enqueues what follows ended tasks and was only written down with their end, because its queue is on another server.
    /// Returns how many that were. Where one step reaches all queues there are none.
    async fn move_followers(&self) -> BrokerResult<usize> {
        Ok(0)
    }

    /// When the first lease on a task of these queues ends; `None` if there is none.
    async fn next_lease_end(&self, queues: &[QueueName]) -> BrokerResult<Option<Timestamp>>;

    /// Takes back tasks whose lease expired at least `grace` ago: each goes to retry or to the archive as a
    /// failed attempt that is recorded as [lost](runner_core::task::AttemptOutcome::Lost), at most `limit` of them. An
    /// unreadable one is archived and does not stop the others.
    ///
    /// Each counts as a crash until the process that made the claim reports that it is alive
    /// ([`Claims::absolve`](super::Claims::absolve)), and makes the task a suspect ([`Claim::suspicion`]). The
    /// `poison_after`th crash in a row of a run that was alone in its process
    /// ([`Claims::run_alone`](super::Claims::run_alone)) archives the task whatever retries are left, and its count
    /// begins again; 0: never. Crashes of runs that were not alone are counted up to one less.
    ///
    /// Where servers are listed after their leases are extended
    /// ([`Presence::lists_first`](super::Presence::lists_first)), a process takes nothing back when its last heartbeat
    /// is older than half its lease: it may hold tasks itself that it could not extend.
    async fn recover(
        &self,
        queues: &[QueueName],
        grace: Duration,
        limit: usize,
        poison_after: u32,
    ) -> BrokerResult<Vec<Recovered>>;

    /// Takes back, as [`Upkeep::recover`] does, tasks that were active when this process began to claim and whose
    /// processes are known to be dead, however long their leases last, from `grace` after that on. Does nothing in a
    /// store that cannot know.
    async fn recover_dead(&self, grace: Duration, limit: usize, poison_after: u32) -> BrokerResult<Vec<Recovered>>;

    /// Deletes completed tasks whose retention ended and trims the archive, at most `limit` a queue. The bounds hold
    /// from then on for every client that archives: give the same everywhere.
    async fn sweep(&self, queues: &[QueueName], limit: usize, archive: ArchiveBounds) -> BrokerResult<Swept>;

    /// Looks for damage (ids without a task, tasks in no list, without a lease, in a list that is not their state's),
    /// and repairs it. Checks about `limit` tasks of each list and as many found by their keys; the next pass
    /// continues from there and starts over at the end. Consistent tasks are not touched.
    async fn repair(&self, queues: &[QueueName], limit: usize) -> BrokerResult<Repaired>;

    /// Puts tasks that wait for a handler of one of these types (exact names, or prefixes ending in `*`)
    /// back on their queues. Returns their number. Called when a worker starts or learns a function.
    async fn release_waiting(&self, queues: &[QueueName], handlers: &[String]) -> BrokerResult<usize>;
}
