//! The scheduler's side of the seam: cursors and commits. What they leave on record is in `decision`.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::schedule::{Ahead, LONGEST_GRACE, MissedRange, Overlap, ScheduleId, Timing};
use runner_core::task::{Task, TaskId};
use serde::Serialize;

use super::{BrokerResult, Decision, Pause, Refusal, Resume, Resumed};

/// A cursor that is further ahead of the broker's clock was written while that clock was wrong. Decisions are made up
/// to the present, 50 ms early at most; what remains is the distance between the clocks of a server and of the replica
/// that takes its place, or a small step of one clock, which is waited for. Registering such a schedule sets it to the
/// present.
pub const CURSOR_AHEAD: Duration = LONGEST_GRACE;

/// A schedule that an instance knows, with the fingerprint of its timing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Identity.
    pub id: ScheduleId,
    /// `Definition::revision`.
    pub revision: String,
}

/// The state of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Every occurrence up to here is decided.
    pub cursor: Timestamp,
    /// The pause, if it is paused.
    pub paused: Option<Pause>,
    /// Nominal instant and task of the last fire.
    pub last: Option<(Timestamp, TaskId)>,
    /// Future occurrences that were decided while the broker's clock was ahead; they do not fire again.
    #[serde(skip_serializing_if = "Ahead::is_empty")]
    pub ahead: Ahead,
    /// Where the cursor was if this registration found it ahead of the clock.
    #[serde(skip)]
    pub was: Option<Timestamp>,
}

impl Standing {
    /// The instant after which the next occurrence is searched. A cursor from a wrong clock does not count: the next
    /// turn of a scheduler corrects it.
    #[must_use]
    pub fn counts_from(&self, now: Timestamp) -> Timestamp {
        let latest = now.checked_add(CURSOR_AHEAD).unwrap_or(now);
        if self.cursor > latest {
            now
        } else {
            self.cursor.max(now)
        }
    }

    /// The next occurrences that will be decided, up to `count`.
    #[must_use]
    pub fn upcoming(&self, timing: &Timing, now: Timestamp, count: usize) -> Vec<Timestamp> {
        std::iter::successors(self.next(timing, now), |at| self.ahead.next(timing, *at))
            .take(count)
            .collect()
    }

    /// The next occurrence that will be decided.
    #[must_use]
    pub fn next(&self, timing: &Timing, now: Timestamp) -> Option<Timestamp> {
        self.ahead.next(timing, self.counts_from(now))
    }
}

/// The last time that cursors were found ahead of the broker's clock and set to the present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Corrections {
    /// When.
    pub at: Timestamp,
    /// How far ahead the furthest one was.
    pub ahead: Duration,
    /// How many schedules, those corrected within a minute taken together.
    pub schedules: u64,
}

/// An occurrence to enqueue within a commit.
#[derive(Debug, Clone, PartialEq)]
pub struct CommitFire {
    /// Identity of the occurrence.
    pub nominal: Timestamp,
    /// Not before this instant.
    pub fire_at: Timestamp,
    /// The task; its id names the occurrence.
    pub task: Task,
    /// Whether it is a late one.
    pub catch_up: bool,
}

/// Everything decided about one schedule in `(from, to]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// Identity of the schedule.
    pub id: ScheduleId,
    /// The cursor that the decision was made from; the commit takes effect only if the cursor is still there.
    pub from: Timestamp,
    /// The new cursor.
    pub to: Timestamp,
    /// Occurrences to enqueue, in the order in which they are tried.
    pub fires: Vec<CommitFire>,
    /// Occurrences to record as missed.
    pub missed: Option<MissedRange>,
    /// Whether a fire is skipped while the previous task, or a manual run, can still run: it is pending, scheduled or
    /// (unless the policy says otherwise) waits for its retry in the queue of the fire, or is active with a lease. A
    /// task that waits in another queue was left behind by an edit and no longer counts.
    pub overlap: Overlap,
    /// No live server is known to serve the queue of the fires; a skip says so.
    pub unserved: bool,
    /// `host:pid` of the deciding instance, for the record.
    pub instance: String,
}

impl Commit {
    /// Since when nothing was missed, if this commit misses something; otherwise unchanged.
    #[must_use]
    pub fn unbroken_since(&self) -> Option<Timestamp> {
        self.missed?;
        let after = self.to.checked_add(Duration::from_secs(1)).unwrap_or(self.to);
        Some(self.fires.iter().map(|fire| fire.nominal).min().unwrap_or(after))
    }
}

/// A manual run of a schedule, beside its occurrences.
#[derive(Debug, Clone, PartialEq)]
pub struct ManualRun {
    /// The schedule.
    pub id: ScheduleId,
    /// Its task, see `runner_core::schedule::manual_task`.
    pub task: Task,
    /// What blocks it, as for an occurrence; [`Overlap::Allow`]: nothing.
    pub overlap: Overlap,
    /// Who requested it, for the record.
    pub by: String,
}

/// The result.
#[derive(Debug, Clone, PartialEq)]
pub enum ManuallyRun {
    /// Its task is on its queue, and this is on record.
    Done(Decision),
    /// Another run has not ended; nothing was written.
    Busy {
        /// Its task.
        task: TaskId,
        /// The state of that task: `is active`, `waits for its retry at 2026-11-28T02:00:00Z`.
        what: String,
    },
    /// The task was refused; nothing was written.
    Refused(Refusal),
}

/// The result of one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// The cursor is at `to`; these decisions were recorded: the one about what was missed, if anything was, then one
    /// for each fire, in order.
    Done(Vec<Decision>),
    /// Another instance had left a commit of this schedule unfinished. It was completed with these decisions; the
    /// cursor is here. Decide again from it.
    Completed(Timestamp, Vec<Decision>),
    /// Another instance has decided already; the cursor is here. Decide again from it.
    Moved(Timestamp),
    /// Too early by the broker's clock; try again after this long.
    Early(Duration),
    /// Some of its occurrences were decided while the broker's clock was ahead; nothing was written. Decide again
    /// without those in these spans.
    Ahead(Ahead),
    /// No cursor, or withdrawn: register first.
    Unknown,
    /// An operator paused the schedule; nothing was written.
    Paused,
}

/// Cursors, commits and decisions, for schedulers.
#[async_trait]
pub trait Schedules: Send + Sync {
    /// Registers schedules independently. Returns the state of each, in order.
    ///
    /// At first sight the cursor is now. If the revision differs from the one on record, the cursor moves to
    /// now (never back), so that an edit, an enable or a disable never fires the past; as it does if the schedule was
    /// withdrawn. A cursor that is ahead by more than [`CURSOR_AHEAD`] is set to now, with a decision of its own on
    /// record, and occurrences up to its old place are not decided again.
    async fn register(&self, registrations: &[Registration]) -> BrokerResult<Vec<Standing>>;

    /// The state of schedules, in order; `None` for those never registered. Changes nothing.
    async fn standings(&self, ids: &[ScheduleId]) -> BrokerResult<Vec<Option<Standing>>>;

    /// Enqueues, records and moves the cursor: for each commit one atomic step, all or nothing.
    ///
    /// May be repeated after an unknown outcome: `Moved` to its own `to` means that it was ours.
    async fn commit(&self, commits: &[Commit]) -> BrokerResult<Vec<Committed>>;

    /// Enqueues a task of a schedule on request of a person, and records that; the cursor stays. From then on
    /// it blocks occurrences like the previous task. On one server that is one atomic step; in a cluster
    /// the check of other runs, the enqueue and the record are three.
    async fn run_now(&self, run: &ManualRun) -> BrokerResult<ManuallyRun>;

    /// The last time that cursors were set back to the present.
    async fn corrections(&self) -> BrokerResult<Option<Corrections>>;

    /// Pauses a schedule until it is resumed. Only [`Schedules::resume_schedule`] ends a pause, even if its time is
    /// over.
    async fn pause_schedule(&self, id: &ScheduleId, pause: &Pause) -> BrokerResult<()>;

    /// Resumes it: occurrences that fell into the pause do not fire, and are recorded as one decision.
    async fn resume_schedule(&self, resume: &Resume) -> BrokerResult<Resumed>;

    /// Decisions on record, newest first, of one schedule or of all.
    async fn decisions(&self, id: Option<&ScheduleId>, limit: usize) -> BrokerResult<Vec<Decision>>;

    /// The newest decisions of each of these schedules, at most `limit` of each, in the order of the ids: for lists, in
    /// as many round trips as for one schedule.
    async fn decisions_each(&self, ids: &[ScheduleId], limit: usize) -> BrokerResult<Vec<Vec<Decision>>>;
}
