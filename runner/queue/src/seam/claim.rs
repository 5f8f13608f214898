//! Claims: the right to run a task and to settle it, and how a claim ends.
//!
//! Not here: what happens to a claim whose worker dies (`lost`, `upkeep`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use runner_core::limit::Limits;
use runner_core::task::QueueName;

use super::{Absolved, Attempt, BrokerResult, FollowUps, KnownTypes, RecordedTypes, TaskRecord};

/// A task that this process holds until its lease expires.
///
/// Only a broker makes one, so no code can settle a task that it does not hold.
#[derive(Debug, Clone)]
pub struct Claim {
    // Shared: a claim is handed to the table of tasks in flight, to the attempt and to the settlement.
    record: Arc<TaskRecord>,
    run: u64,
    lease_until: Timestamp,
    suspicion: Option<Suspicion>,
    refused_by: Option<Arc<str>>,
    waited: Option<Duration>,
}

impl Claim {
    // Only brokers make claims, and a producer may be built without them.
    #[cfg_attr(not(any(feature = "redis", feature = "embedded")), allow(dead_code))]
    pub(crate) fn new(record: TaskRecord, run: u64, lease_until: Timestamp) -> Self {
        Self {
            record: Arc::new(record),
            run,
            lease_until,
            suspicion: None,
            refused_by: None,
            waited: None,
        }
    }

    /// Changes a claim that is not shared yet, so that nothing is copied.
    #[cfg(feature = "redis")]
    pub(crate) fn record_mut(&mut self) -> &mut TaskRecord {
        Arc::make_mut(&mut self.record)
    }

    #[cfg_attr(not(any(feature = "redis", feature = "embedded")), allow(dead_code))]
    pub(crate) fn suspected(self, suspicion: Option<Suspicion>) -> Self {
        Self { suspicion, ..self }
    }

    #[cfg_attr(not(any(feature = "redis", feature = "embedded")), allow(dead_code))]
    pub(crate) fn refused(self, limit: Option<&str>) -> Self {
        let refused_by = limit.map(Arc::from);
        Self { refused_by, ..self }
    }

    #[cfg_attr(not(any(feature = "redis", feature = "embedded")), allow(dead_code))]
    pub(crate) fn after_waiting(self, waited: Option<Duration>) -> Self {
        Self { waited, ..self }
    }

    /// How long the task was pending before it was claimed, by the broker's clock, to the millisecond. `None` if that is not known: its
    /// producer did not say since when, or the claim was found after its answer was lost.
    #[must_use]
    pub fn waited(&self) -> Option<Duration> {
        self.waited
    }

    /// The limit because of which the task is not to be run, such as `concurrency fn:report`; `None` for nearly all. Only a limit
    /// with [`OnLimit::Skip`](runner_core::limit::OnLimit::Skip) does that. Not kept with the claim in the store.
    #[must_use]
    pub fn refused_by(&self) -> Option<&str> {
        self.refused_by.as_deref()
    }

    /// The crashes that the task is suspected of; `None` for nearly all.
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

/// What is known of a task whose last run ended with its worker process: the task may be the cause, or have run beside
/// it.
///
/// A task that ends by itself, with any result, is no longer suspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspicion {
    /// Crashes in a row that are counted against it, at least 1; see [`Upkeep::recover`](super::Upkeep::recover).
    pub crashes: u32,
    /// At most how long its last run took until the process died.
    pub ran: Duration,
}

/// The longest lease: the settings allow no more. One that reaches further was written while the clock was wrong, and
/// is cut to this.
pub const LONGEST_LEASE: Duration = Duration::from_secs(3600);

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
    /// There is nothing left to do: deleted, even with a retention, unless it is the step of a workflow, which is kept as one that
    /// has succeeded; counts as processed.
    Revoke,
}

/// A claim together with how it ended: plain data that can be kept and sent again.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// The claim to end.
    pub claim: Claim,
    /// How.
    pub verdict: Verdict,
    /// What the handler returned, kept with a completed task, or what it had by the time it failed, kept with one that
    /// is retried or archived; at most [`MAX_RESULT_BYTES`](crate::MAX_RESULT_BYTES). The last one stays until an
    /// operator runs the task again.
    pub result: Option<Bytes>,
    /// The attempt to record; `None` records nothing (the cheapest).
    pub attempt: Option<Attempt>,
}

/// The result of one settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It took effect.
    Accepted,
    /// The claim was no longer ours (lease lost, or settled before); nothing was written.
    Stale,
    /// The server that holds its queue did not answer, while others did: as if the call had failed for it alone.
    Unknown,
}

/// The result of [`Claims::exchange`]; each half may fail on its own.
#[derive(Debug)]
pub struct Exchanged {
    /// As [`Claims::settle`].
    pub settled: BrokerResult<Vec<Settled>>,
    /// As [`Claims::claim`].
    pub claims: BrokerResult<Vec<Claim>>,
    /// Whether there may be more than were claimed, behind tasks that wait for a limit now: the call ends early then, so that
    /// what it claimed starts while its lease is new.
    pub more: bool,
}

/// Claims of a worker on the tasks that it runs.
#[async_trait]
pub trait Claims: Send + Sync {
    /// Names the claimant of this broker's claims from now on; the first call counts. Does not access the store.
    fn claims_as(&self, host: &str, pid: u32);

    /// Sets the task types that this broker claims from now on; initially all. Does not access the store. Waits for
    /// work that are under way check again.
    fn claims_types(&self, types: &KnownTypes);

    /// Sets the limits that this broker's claims keep from now on; initially none. Does not access the store.
    ///
    /// A claim leaves out a task for which a limit has no room: it becomes scheduled and waits for its turn, which comes in the
    /// order in which tasks were refused, without using up a retry; or it is claimed with [`Claim::refused_by`]. Every broker that claims
    /// from a queue must know the same limits: a broker without them, or a Go server, claims a task whatever runs. A limit of a
    /// type counts in each queue for itself. A semaphore counts what other queues and programs in Go hold too, where the store is
    /// shared with them; see [`SemaphoreReach`](runner_core::limit::SemaphoreReach).
    ///
    /// A task counts as running until its claim ends, however it ends. One in a sequence keeps its place until it has ended for
    /// good: completed, archived or deleted.
    fn claims_limits(&self, limits: &Limits);

    /// Gives this broker the one who knows which tasks follow others; the first call counts. From then on whatever ends a task
    /// for good, a settlement or a recovery, enqueues those that follow it in the same step, each id once. Does not access
    /// the store.
    fn follow_by(&self, follow_ups: Arc<dyn FollowUps>);

    /// Names types whose runs are recorded beside those of functions; the first call counts, and without one there are none.
    /// Does not access the store.
    fn record_types(&self, types: Arc<RecordedTypes>);

    /// Takes up to `max` tasks, from the first queue that has any onwards. Paused queues yield nothing.
    ///
    /// Only tasks of the types of [`Claims::claims_types`]: others stay in their queue, in place and untouched, for a
    /// worker that knows them. A call checks a bounded number of those; if there are many, it may return fewer tasks
    /// than there are, and the next call continues behind them.
    ///
    /// A task whose type cannot be read, or that cannot be decoded although its type is known, is archived
    /// and not returned; its neighbours are.
    async fn claim(&self, queues: &[QueueName], max: usize, lease: Duration) -> BrokerResult<Vec<Claim>>;

    /// Ends claims independently; one answer for each, in order.
    ///
    /// The same settlement may be sent again after an error; if it had taken effect, it is `Stale` then.
    async fn settle(&self, settlements: &[Settlement]) -> BrokerResult<Vec<Settled>>;

    /// Ends claims and takes new ones, in this order and, where the store can, in one round trip: a busy worker
    /// makes no other call. Nothing to settle or a `max` of zero leaves that half out.
    ///
    /// An error of the call itself leaves both halves unknown.
    ///
    /// Unlike [`Claims::claim`] it does not go on while many tasks have to wait for a limit; see [`Exchanged::more`].
    async fn exchange(
        &self,
        settlements: &[Settlement],
        queues: &[QueueName],
        max: usize,
        lease: Duration,
    ) -> BrokerResult<Exchanged>;

    /// Extends leases to `lease` from now; for each claim the new end, or `None` if it is no longer ours.
    async fn extend(&self, claims: &[Claim], lease: Duration) -> BrokerResult<Vec<Option<Timestamp>>>;

    /// Whether a claiming call of this broker failed in such a way that the store may have made claims that this
    /// process does not know.
    fn has_unanswered(&self) -> bool {
        false
    }

    /// The claims that such calls made, their leases extended. `known`: every claim that this process holds, or gave up
    /// while its lease may last; their runs are left out. Ask while no other call that claims is under way, since its
    /// claims are not known yet; for the same reason only one worker may use a broker. What this does not find comes
    /// back when its lease ends, and counts as a crash then.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Unreachable`](crate::BrokerError::Unreachable): ask again.
    async fn unanswered(&self, known: &[Claim], lease: Duration) -> BrokerResult<Vec<Claim>> {
        let _ = (known, lease);
        Ok(Vec::new())
    }

    /// Notes whether this run is the only one in flight in its process. Returns whether the claim is still ours.
    /// Deleted when the claim ends. No other task may be started before a `false` is written.
    async fn run_alone(&self, claim: &Claim, alone: bool) -> BrokerResult<bool>;

    /// Reports that the process of these claims is alive although they were lost: the crash that was counted for each
    /// is subtracted, and the task is as suspected as before. One answer for each, in order.
    async fn absolve(&self, claims: &[Claim]) -> BrokerResult<Vec<Absolved>>;
}
