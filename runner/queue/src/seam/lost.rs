//! Runs whose worker died: what is counted, and when a task is poison.

use std::time::Duration;

use jiff::Timestamp;
use runner_core::task::{QueueName, TaskId, TaskState};

/// The error of a task whose worker fell silent: asynq's words, which tools look for.
pub const LEASE_EXPIRED: &str = "asynq: task lease expired";

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
    /// Whether the bound was reached: archived as poison, although retries may be left.
    pub poison: bool,
}

/// The result of reporting that the process of a lost run is alive; see [`Claims::absolve`](super::Claims::absolve).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absolved {
    /// The run was counted as a crash; that was subtracted.
    Corrected,
    /// The run has not been taken back yet: report it again later.
    Held,
    /// The task is gone, or the run was not counted as its last crash.
    Gone,
}

/// How the error of a task begins that is archived because its worker died too often while it ran.
pub const POISON_PREFIX: &str = "poison: ";

/// That error.
#[cfg_attr(not(any(feature = "redis", feature = "embedded")), allow(dead_code))]
pub(crate) fn poison(runs: u32) -> String {
    format!("{POISON_PREFIX}{runs} runs ended with the death of their worker; {LEASE_EXPIRED}")
}

/// The effect of a lost run on the `before` crashes of its task: how many there are now, and whether the task is
/// poison.
///
/// Only a run that was alone in its process proves anything. Any other one may have run beside the cause, so
/// the count of these stops one short of the bound: then the task has to run alone.
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
/// times in each `lease`. It is the lease of the process that asks, as all workers of a store should have the same;
/// zero if it is not known, and then the time up to `now` is the bound.
#[cfg_attr(not(any(feature = "redis", feature = "embedded")), allow(dead_code))]
pub(crate) fn longest_run(claimed: Timestamp, until: Timestamp, lease: Duration, now: Timestamp) -> Duration {
    let between = |end: Timestamp| Duration::try_from(end.duration_since(claimed)).unwrap_or_default();
    if lease.is_zero() {
        return between(now);
    }
    let last_sign = between(until).saturating_sub(lease);
    last_sign.saturating_add(lease / 6).min(between(now))
}
