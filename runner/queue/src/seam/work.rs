//! The worker's side of the seam: claiming, settling, and maintaining the broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use runner_core::task::{QueueName, TaskId, TaskState, covers};
use serde::{Deserialize, Serialize};

use super::{Attempt, BrokerResult, KnownTypes, StopRequest, TaskRecord};

/// A task that this process holds until its lease runs out.
///
/// Only a broker makes one, so nobody can settle a task they do not hold.
#[derive(Debug, Clone)]
pub struct Claim {
    // Shared: a claim is handed to the table of tasks in work, to the attempt and to the settlement.
    record: Arc<TaskRecord>,
    run: u64,
    lease_until: Timestamp,
    suspicion: Option<Suspicion>,
}

/// What is known of a task whose last run ended with its worker process: it may be the cause, or have run beside it.
///
/// A task that ends by itself, however that is, is suspected no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspicion {
    /// Crashes in a row that are counted against it, at least 1; see [`Work::recover`].
    pub crashes: u32,
    /// At most how long its last run took until the process died.
    pub ran: Duration,
}

impl Claim {
    // Only brokers make claims, and a producer may be built without any.
    #[cfg_attr(not(any(feature = "redis", feature = "embedded")), allow(dead_code))]
    pub(crate) fn new(record: TaskRecord, run: u64, lease_until: Timestamp) -> Self {
        Self {
            record: Arc::new(record),
            run,
            lease_until,
            suspicion: None,
        }
    }

    /// Of a claim that nobody else has yet: that is not copied.
    #[cfg(feature = "redis")]
    pub(crate) fn record_mut(&mut self) -> &mut TaskRecord {
        Arc::make_mut(&mut self.record)
    }

    #[cfg_attr(not(any(feature = "redis", feature = "embedded")), allow(dead_code))]
    pub(crate) fn suspected(self, suspicion: Option<Suspicion>) -> Self {
        Self { suspicion, ..self }
    }

    /// What the task is suspected of; `None` for nearly all.
    #[must_use]
    pub fn suspicion(&self) -> Option<Suspicion> {
        self.suspicion
    }

    /// The task.
    #[must_use]
    pub fn task(&self) -> &TaskRecord {
        &self.record
    }

    /// The fence: grows with each claim of the task; a settle with an older number is refused.
    #[must_use]
    pub fn run(&self) -> u64 {
        self.run
    }

    /// When the lease ends unless it is extended, by the broker's clock.
    #[must_use]
    pub fn lease_until(&self) -> Timestamp {
        self.lease_until
    }
}

/// How a claim ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It succeeded: gone, or kept as completed when it has a retention.
    Done,
    /// It failed and is tried again after this delay.
    Retry {
        /// Counted from the settle, by the broker's clock.
        after: Duration,
        /// Kept as the task's last error.
        error: String,
        /// Whether a retry is used up and a failure counted.
        counts: bool,
    },
    /// It failed for good.
    Archive {
        /// Kept as the task's last error.
        error: String,
    },
    /// It goes back to the front of its queue, untouched; what it is suspected of stays.
    HandBack,
    /// It waits for this long, using up no retry; nothing is counted.
    Snooze {
        /// Counted from the settle, by the broker's clock.
        delay: Duration,
        /// Why it was not run, for people: shown as what the task is waiting for; what it is suspected of stays. `None`
        /// leaves no note: the handler said so.
        waiting_for: Option<String>,
    },
    /// It is not to be done any more: gone, even with a retention; counts as processed.
    Revoke,
}

/// A claim together with how it ended: plain data that can be kept and sent again.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// The claim to end.
    pub claim: Claim,
    /// How.
    pub verdict: Verdict,
    /// What the handler returned, kept with a completed task, or what it had by the time it failed, kept with one that is
    /// retried or archived; at most [`MAX_RESULT_BYTES`](crate::MAX_RESULT_BYTES). The last one stays until an operator
    /// runs the task again.
    pub result: Option<Bytes>,
    /// What to remember of the attempt; `None` remembers nothing (the cheapest).
    pub attempt: Option<Attempt>,
}

/// What became of one settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It took effect.
    Accepted,
    /// The claim was not ours any more (lease lost, or settled before); nothing was written.
    Stale,
    /// The server that holds its queue did not answer, while others did: as if the call had failed for it alone.
    Unknown,
}

/// What came of [`Work::exchange`]; each half may fail alone.
#[derive(Debug)]
pub struct Exchanged {
    /// As [`Work::settle`].
    pub settled: BrokerResult<Vec<Settled>>,
    /// As [`Work::claim`].
    pub claims: BrokerResult<Vec<Claim>>,
}

/// What a pass of [`Work::forward`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forwarded {
    /// Tasks moved to pending or to their group.
    pub moved: usize,
    /// Whether the limit cut the pass short and another one should follow at once.
    pub more: bool,
    /// When the next scheduled or retried task is due.
    pub next_due: Option<Timestamp>,
}

/// A task whose worker fell silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Its queue.
    pub queue: QueueName,
    /// Its id.
    pub id: TaskId,
    /// Its type; empty when the record could not be read.
    pub kind: String,
    /// Where it is now: retry, archived or pending.
    pub state: TaskState,
    /// How many crashes are counted against it, this one included; 0 when it could not be read.
    pub lost: u32,
    /// Whether that was once too often: archived as poison, although retries may be left.
    pub poison: bool,
}

/// No lease is longer: the settings allow no more. One that reaches further was written while the clock was wrong, and is
/// cut to this.
pub const LONGEST_LEASE: Duration = Duration::from_secs(3600);

/// What became of the report that the process of a lost run lives; see [`Work::absolve`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absolved {
    /// The run was counted as a crash and is no longer.
    Corrected,
    /// The run has not been taken back yet: report it again later.
    Held,
    /// The task is gone, or the run was not counted as its last crash.
    Gone,
}

/// What a task's error says whose worker fell silent: asynq's words, tools look for them.
pub const LEASE_EXPIRED: &str = "asynq: task lease expired";

/// The error of a task that is archived because its worker died so often while it ran.
#[cfg_attr(not(any(feature = "redis", feature = "embedded")), allow(dead_code))]
pub(crate) fn poison(runs: u32) -> String {
    format!("poison: {runs} runs ended with the death of their worker; {LEASE_EXPIRED}")
}

/// What a lost run adds to the `before` crashes of its task: how many there are now, and whether that makes it poison.
///
/// Only a run that had its process to itself proves anything. Every other one may have run beside the cause, so
/// however many there are, they stop one short of the bound: then the task has to run alone.
#[cfg_attr(not(any(feature = "redis", feature = "embedded")), allow(dead_code))]
pub(crate) fn after_crash(before: u32, alone: bool, poison_after: u32) -> (u32, bool) {
    let crashes = before.saturating_add(1);
    match poison_after {
        0 => (crashes, false),
        most if alone && crashes >= most => (crashes, true),
        most => (crashes.min(most - 1).max(1), false),
    }
}

/// At most how long a run took until its process died, claimed at `claimed` under a lease that ended at `until` and was
/// found to be over at `now`.
///
/// The process lived when it last extended the lease, and died before it would have done so again: workers do that six
/// times in each `lease`. It is the lease of the process that asks, as all workers of a store should have the same; zero
/// if it is not known, and then the time up to `now` is the bound.
#[cfg_attr(not(any(feature = "redis", feature = "embedded")), allow(dead_code))]
pub(crate) fn longest_run(claimed: Timestamp, until: Timestamp, lease: Duration, now: Timestamp) -> Duration {
    let between = |end: Timestamp| Duration::try_from(end.duration_since(claimed)).unwrap_or_default();
    if lease.is_zero() {
        return between(now);
    }
    let last_sign = between(until).saturating_sub(lease);
    last_sign.saturating_add(lease / 6).min(between(now))
}

/// What an archive keeps of a queue's failed tasks; the oldest go first.
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

/// What a pass of [`Work::sweep`] cleaned up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Completed tasks whose retention had ended.
    pub expired: usize,
    /// Archived tasks beyond the bounds of the archive, those included that other calls deleted since the last pass.
    pub trimmed: usize,
    /// Whether a bound cut the pass short.
    pub more: bool,
}

/// What a pass of [`Work::repair`] put right, and other passes since the last one on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Repaired {
    /// Ids without a task, or what was left of one: dropped.
    pub ghosts: usize,
    /// Tasks that lay in no list: put where their state says.
    pub orphans: usize,
    /// Active tasks without a lease: given one that ends now.
    pub unleased: usize,
    /// Tasks whose state, list and lease contradicted each other, notes and sums that were off.
    pub misplaced: usize,
    /// Tasks that cannot be read, or that nothing tells where they belong: archived with a reason.
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

/// What a worker process tells about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Host name.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// Random, new for each start.
    pub id: String,
    /// How many tasks it runs at once.
    pub concurrency: u32,
    /// Queue name to priority, as configured; a name with `*` stands for every queue that it matches.
    pub queues: BTreeMap<String, u32>,
    /// Whether higher priorities always come first.
    pub strict_priority: bool,
    /// What it is doing.
    pub status: ServerStatus,
    /// When it started.
    pub started_at: Timestamp,
    /// Tasks in work.
    pub active: u32,
    /// Task types it has handlers for: exact names, and prefixes ending in `*`. Empty for a Go worker.
    pub handlers: Vec<String>,
}

/// What a worker process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerStatus {
    /// Takes tasks.
    Active,
    /// Takes no new tasks; everything else goes on.
    Stopped,
    /// Shutting down.
    Closed,
}

/// A task in work, as its worker reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Working {
    /// Task id.
    pub id: TaskId,
    /// Task type.
    pub kind: String,
    /// Its queue.
    pub queue: QueueName,
    /// When the worker took it.
    pub started_at: Timestamp,
    /// When the attempt must end.
    pub deadline: Timestamp,
}

impl ServerInfo {
    /// Whether it takes tasks from this queue: by its name, or by a pattern with `*`.
    #[must_use]
    pub fn serves(&self, queue: &str) -> bool {
        self.queues.contains_key(queue) || self.queues.keys().any(|name| covers(name, queue))
    }
}

/// Lists of a queue, as far as upkeep is about them.
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
    /// Aggregating, and sets of these that are being put together.
    Grouped,
    /// Any of these.
    Any,
}

/// What a worker asks of a broker.
#[async_trait]
pub trait Work {
    /// Takes up to `max` tasks, from the first queue that has any onwards. Paused queues yield nothing.
    ///
    /// Only tasks of the types of [`Work::claims_types`]: others stay in their queue, in place and untouched, for a
    /// worker that knows them. A call looks at a bounded number of those; while they are many, it may bring fewer tasks
    /// than there are, and the next call goes on behind them.
    ///
    /// A task whose type cannot be read, or that cannot be decoded although its type is known, is put aside as archived
    /// and never returned, its neighbours are.
    async fn claim(&self, queues: &[QueueName], max: usize, lease: Duration) -> BrokerResult<Vec<Claim>>;

    /// Those of the queues that have anything on these lists: a cheap look, for workers of thousands of queues.
    async fn narrow(&self, queues: &[QueueName], lists: Lists) -> BrokerResult<Vec<QueueName>>;

    /// Ends claims, each on its own; one answer for each, in order.
    ///
    /// The same settlement may be sent again after an error; if it had taken effect, it is `Stale` then.
    async fn settle(&self, settlements: &[Settlement]) -> BrokerResult<Vec<Settled>>;

    /// Ends claims and takes new ones, in this order and, where the store can, in one round trip: a busy worker
    /// makes no other call. Nothing to settle or a `max` of zero leaves that half out.
    ///
    /// An error of the call itself leaves both halves unknown.
    async fn exchange(
        &self,
        settlements: &[Settlement],
        queues: &[QueueName],
        max: usize,
        lease: Duration,
    ) -> BrokerResult<Exchanged> {
        let settled = match settlements {
            [] => Vec::new(),
            some => self.settle(some).await?,
        };
        let claims = match max {
            0 => Ok(Vec::new()),
            _ => self.claim(queues, max, lease).await,
        };
        let settled = Ok(settled);
        Ok(Exchanged { settled, claims })
    }

    /// Extends leases to `lease` from now; for each claim the new end, or `None` if it is not ours any more.
    async fn extend(&self, claims: &[Claim], lease: Duration) -> BrokerResult<Vec<Option<Timestamp>>>;

    /// Moves tasks whose time has come to pending (or to their group), at most `limit` a queue and list.
    async fn forward(&self, queues: &[QueueName], limit: usize) -> BrokerResult<Forwarded>;

    /// Returns when somebody may have written a task that is due later, or after `at_most`. A hint like
    /// [`Work::wait_for_work`]: tasks that other programs write are seen only by looking.
    async fn wait_for_delayed(&self, at_most: Duration);

    /// When the first of the leases on tasks of these queues ends; `None` if nothing is leased.
    async fn next_lease_end(&self, queues: &[QueueName]) -> BrokerResult<Option<Timestamp>>;

    /// Takes back tasks whose lease ran out at least `grace` ago: each goes to retry or to the archive as a
    /// failed attempt that is remembered as [lost](runner_core::task::AttemptOutcome::Lost), at most `limit` of them. An unreadable one is archived and
    /// does not stop the others.
    ///
    /// Each counts as a crash until the process that made the claim says that it lives ([`Work::absolve`]), and makes
    /// the task a suspect ([`Claim::suspicion`]). The `poison_after`th crash in a row of a run that was alone in its
    /// process ([`Work::run_alone`]) archives the task whatever retries are left, and its count begins anew; 0: never.
    /// Crashes of runs that were not alone are counted up to one less.
    ///
    /// Where servers are listed after their leases are extended ([`Work::lists_first`]), a process takes nothing back when
    /// its last heartbeat is older than half its lease: it may hold tasks itself that it could not extend.
    async fn recover(
        &self,
        queues: &[QueueName],
        grace: Duration,
        limit: usize,
        poison_after: u32,
    ) -> BrokerResult<Vec<Recovered>>;

    /// Takes back, as [`Work::recover`] does, tasks that were active when this process began to claim and whose processes
    /// are known to be dead, however long their leases last, from `grace` after that on. Nothing in a store that cannot know.
    async fn recover_dead(&self, grace: Duration, limit: usize, poison_after: u32) -> BrokerResult<Vec<Recovered>>;

    /// Whether a call of this broker that claims failed so that the store may have made claims nobody here knows of.
    fn has_unanswered(&self) -> bool {
        false
    }

    /// The claims of this broker that such calls may have made, their leases extended. Claims whose answer did arrive
    /// while those calls were under way can be among them: leave out what is known by its run. Ask while no other call
    /// that claims is under way. What this does not find comes back when its lease ends.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Unreachable`](crate::BrokerError::Unreachable): ask again.
    async fn unanswered(&self, lease: Duration) -> BrokerResult<Vec<Claim>> {
        let _ = lease;
        Ok(Vec::new())
    }

    /// Notes whether this run is the only one in work in its process; whether the claim still is ours. Forgotten when
    /// the claim ends. Nothing else may be started before a `false` is written.
    async fn run_alone(&self, claim: &Claim, alone: bool) -> BrokerResult<bool>;

    /// Says that the process of these claims lives although they were lost: what was counted as a crash of theirs is
    /// taken back, and the task is suspected of no more than before. One answer for each, in order.
    async fn absolve(&self, claims: &[Claim]) -> BrokerResult<Vec<Absolved>>;

    /// Deletes completed tasks whose retention ended and trims the archive, at most `limit` a queue. The bounds hold
    /// from then on, for whoever archives: give the same everywhere.
    async fn sweep(&self, queues: &[QueueName], limit: usize, archive: ArchiveBounds) -> BrokerResult<Swept>;

    /// Looks for damage (ids without a task, tasks in no list, without a lease, in a list that is not their state's),
    /// and puts it right. Looks at about `limit` tasks of each list and as many found by their keys; the next pass
    /// goes on from there and begins anew at the end. Nothing that is in order is touched.
    async fn repair(&self, queues: &[QueueName], limit: usize) -> BrokerResult<Repaired>;

    /// Says whose claims those of this broker are from now on; the first one stays. Asks no store.
    fn claims_as(&self, host: &str, pid: u32);

    /// Says which task types the claims of this broker are for from now on; until then for all. Asks no store. Waits for
    /// work that are under way look again.
    fn claims_types(&self, types: &KnownTypes);

    /// Says that this server lives and what it works on; forgotten after `ttl` without another word. Claims of this
    /// broker are noted as this server's from then on, if nobody has said otherwise.
    /// Lists the server's queues (not what stands for several), so that a queue of a flushed store is seen again.
    async fn heartbeat(&self, server: &ServerInfo, working: &[Working], ttl: Duration) -> BrokerResult<()>;

    /// Whether only this server can take back what it holds, although its leases are over: no other one is listed, and
    /// none can take anything back before it was listed for a while ([`Work::lists_first`]). For stores on this host;
    /// `false` where another server could act unseen.
    async fn is_alone(&self, server: &ServerInfo) -> BrokerResult<bool> {
        let _ = server;
        Ok(false)
    }

    /// Whether a server must be listed for a while, without a gap, before it takes back tasks of others: those who rely
    /// on [`Work::is_alone`] must see it first. It says that it lives only when it has just extended its own leases.
    fn lists_first(&self) -> bool {
        false
    }

    /// Takes this server off the list.
    async fn leave(&self, server: &ServerInfo) -> BrokerResult<()>;

    /// Returns when one of `queues` may have something to claim, or after `at_most`. A hint, never a promise:
    /// too early costs a look, and a lost wake-up costs at most `at_most`. Tasks of types that this broker does not
    /// claim, and that a claim has seen, are nothing to wake up for.
    async fn wait_for_work(&self, queues: &[QueueName], at_most: Duration);

    /// Requests to end attempts, from now on. Ends when the store is gone; call again then.
    async fn cancellations(&self) -> BrokerResult<tokio::sync::mpsc::Receiver<StopRequest>>;

    /// Puts tasks that wait for a handler of one of these types (exact names, or prefixes ending in `*`)
    /// back on their queues; how many. Called when a worker starts or learns a function.
    async fn release_waiting(&self, queues: &[QueueName], handlers: &[String]) -> BrokerResult<usize>;
}
