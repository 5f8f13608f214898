//! The scheduler's side of the seam: cursors, commits and the record of decisions.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::schedule::{MissedRange, Overlap, ScheduleId};
use runner_core::task::{Task, TaskId};
use serde::{Deserialize, Serialize};

use super::{BrokerResult, EntryView};

/// A cursor that is further ahead of the broker's clock was written while that clock was wrong: decisions are made up to
/// the present, and never so much early. Registering its schedule sets it to the present.
pub const CURSOR_AHEAD: Duration = Duration::from_secs(24 * 3600);

/// A schedule that an instance knows, under the fingerprint of its timing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Identity.
    pub id: ScheduleId,
    /// `Definition::revision`.
    pub revision: String,
}

/// Where a schedule stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Every occurrence up to here is decided.
    pub cursor: Timestamp,
    /// When and by whom it was paused, if it is.
    pub paused: Option<String>,
    /// Nominal instant and task of the last fire.
    pub last: Option<(Timestamp, TaskId)>,
}

/// Says that a cursor was set to the present.
#[cfg(any(feature = "redis", feature = "embedded"))]
pub(crate) fn cursor_was_ahead(schedule: &str) {
    tracing::warn!(
        code = "schedule_cursor_ahead",
        schedule,
        "the cursor was more than a day ahead of the broker's clock, which must have been wrong; it is set to the present"
    );
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
    /// The cursor that the decision was made from; the commit takes effect only if it still stands there.
    pub from: Timestamp,
    /// The new cursor.
    pub to: Timestamp,
    /// Occurrences to enqueue, in the order in which they are tried.
    pub fires: Vec<CommitFire>,
    /// Occurrences to record as missed.
    pub missed: Option<MissedRange>,
    /// Whether a fire is skipped while the previous task can still run: it is pending or scheduled in the queue of the
    /// fire, or active with a lease. A task that waits in another queue was left behind by an edit and counts no more.
    pub overlap: Overlap,
    /// No live server is known to serve the queue of the fires; a skip says so.
    pub unserved: bool,
    /// `host:pid` of the deciding instance, for the record.
    pub instance: String,
}

/// What became of one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// The cursor is at `to`; these decisions were recorded: the one about what was missed, if anything was, then one
    /// for each fire, in order.
    Done(Vec<Decision>),
    /// Another instance had left a commit of this schedule unfinished. It was completed, with these decisions; the
    /// cursor is here. Decide again from it.
    Completed(Timestamp, Vec<Decision>),
    /// Somebody decided already; the cursor is here. Decide again from it.
    Moved(Timestamp),
    /// By the broker's clock it is too early; try again after this long.
    Early(Duration),
    /// No cursor: register first.
    Unknown,
    /// An operator paused the schedule; nothing was written.
    Paused,
}

/// What was decided about an occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecisionKind {
    /// Enqueued.
    Fired,
    /// Not enqueued, by the overlap policy.
    Skipped,
    /// Too late for the catch-up policy.
    Missed,
}

impl DecisionKind {
    /// The word used in metrics, listings and on pages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fired => "fired",
            Self::Skipped => "skipped",
            Self::Missed => "missed",
        }
    }
}

/// One decision on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Which schedule.
    pub schedule: ScheduleId,
    /// Which occurrence; the newest one when it speaks for several.
    pub nominal: Timestamp,
    /// What.
    pub kind: DecisionKind,
    /// Why, in a word or a sentence: `on_time`, `catch_up`, `overlap: previous task … is active`, `too late`.
    pub reason: String,
    /// The task that was enqueued, or that stood in the way.
    pub task: Option<TaskId>,
    /// How many occurrences it speaks for.
    pub count: u32,
    /// When it was decided, by the broker's clock.
    pub decided_at: Timestamp,
    /// By whom.
    pub instance: String,
}

/// What a scheduler asks of a broker.
#[async_trait]
pub trait Schedules {
    /// Makes schedules known, each on its own; where each stands then, in order.
    ///
    /// At first sight the cursor is now. If the revision differs from the one on record, the cursor moves to
    /// now (never back), so that an edit, an enable or a disable never fires the past.
    async fn register(&self, registrations: &[Registration]) -> BrokerResult<Vec<Standing>>;

    /// Where schedules stand, in order; `None` for those never registered. Changes nothing.
    async fn standings(&self, ids: &[ScheduleId]) -> BrokerResult<Vec<Option<Standing>>>;

    /// Enqueues, records and moves the cursor: for each commit one atomic step, all or nothing.
    ///
    /// May be repeated after an unknown outcome: `Moved` to its own `to` means that it was ours.
    async fn commit(&self, commits: &[Commit]) -> BrokerResult<Vec<Committed>>;

    /// Tries to be or stay the leader for `ttl`. Only for efficiency: nothing depends on there being one.
    async fn lead(&self, instance: &str, ttl: Duration) -> BrokerResult<bool>;

    /// Gives leadership up, if `instance` has it, and takes its schedules off the list that other tools are shown.
    async fn resign(&self, instance: &str) -> BrokerResult<()>;

    /// Stops a schedule until it is resumed; `by` is kept for people.
    async fn pause_schedule(&self, id: &ScheduleId, by: &str) -> BrokerResult<()>;

    /// Lets it go on from now: what fell into the pause does not fire.
    async fn resume_schedule(&self, id: &ScheduleId) -> BrokerResult<()>;

    /// Decisions on record, newest first, of one schedule or of all.
    async fn decisions(&self, id: Option<&ScheduleId>, limit: usize) -> BrokerResult<Vec<Decision>>;

    /// Shows all schedules to other tools for `ttl`; a broker without such tools does nothing.
    async fn publish_entries(&self, instance: &str, entries: &[EntryView], ttl: Duration) -> BrokerResult<()>;
}
