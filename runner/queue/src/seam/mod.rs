//! The seam, one trait for each subject, in a file of its own. `Broker` is all of them, for wiring.
//!
//! It is batch-first: many tasks a round trip. A verdict is data, never a closure, so that a settle that
//! failed can be kept and tried again until the lease ends.

mod act;
mod audit_list;
mod callback;
mod caveat;
#[cfg(feature = "ceiling")]
mod ceiling;
mod claim;
mod decision;
mod document;
#[cfg(any(feature = "redis", feature = "embedded"))]
mod ends;
mod entry;
mod error;
mod follow;
mod group;
mod holders;
mod inspect_queues;
mod inspect_tasks;
mod lost;
mod pause;
mod presence;
mod produce;
mod record;
mod recorded_types;
mod run_files;
mod runs;
mod schedule;
mod seen_runs;
mod signals;
mod statistics;
mod stop;
mod types;
mod unclaimed;
mod upkeep;
mod usage;
mod worker_order;
mod workflow;
mod workflow_advance;
mod workflow_observer;
mod workflow_steps;

pub use act::{Acted, Action, ActionError, Actions, MAX_ACTED, REMOVE_GRACE, RemoveError};
pub use audit_list::{
    AuditEntry, AuditList, AuditPage, MAX_AUDIT_ADDED, MAX_AUDIT_ENTRIES, MAX_AUDIT_PAGE, MAX_AUDIT_TEXT,
};
pub use callback::{
    AwaitedTask, ReportedOutcome, WorkReport, await_report, awaited_task, close_report, report, reported,
};
pub use caveat::Caveat;
#[cfg(feature = "ceiling")]
pub use ceiling::Ceiling;
pub use claim::{Claim, Claims, Exchanged, LONGEST_LEASE, Settled, Settlement, Suspicion, Verdict};
pub use decision::{Decision, DecisionKind};
pub use document::{DocumentName, Documents, MAX_DOCUMENT, MAX_DOCUMENT_NAMES, MAX_DOCUMENTS};
#[cfg(any(feature = "redis", feature = "embedded"))]
pub(crate) use ends::{Ends, Given};
pub use entry::{EnqueueEvent, EnqueueEventPage, Entries, EntryView, ForeignEntry, MAX_FOREIGN_ENTRIES};
pub use error::{BoxError, BrokerError, BrokerResult, Cause};
pub use follow::{AllFollowUps, EndedTask, FollowUps, TaskEnd};
pub use group::{GroupInfo, GroupNames, GroupPage, GroupRule, Groups, MAX_SET, Reclaimed, SET_DEADLINE, StagedSet};
pub use holders::{HOLD_AFTER_END, HOLD_AT_MOST, Held, Holders};
pub use inspect_queues::{
    DayCount, InspectQueues, LimitInUse, MAX_HISTORY_DAYS, MAX_LIMITS_SHOWN, MAX_PENDING_LOOK, MAX_PENDING_TYPES,
    PendingType, QueueInfo,
};
pub use inspect_tasks::{GLANCE_BYTES, HEAD_BYTES, InspectTasks, Page, RawTask, TaskInfo, TaskPage};
pub use lost::{Absolved, LEASE_EXPIRED, POISON_PREFIX, Recovered};
#[cfg(any(feature = "redis", feature = "embedded"))]
pub(crate) use lost::{after_crash, longest_run, poison};
pub use pause::{MAX_PAUSE_NOTE, Pause, Resume, Resumed};
pub use presence::{Presence, RunBy, ServerInfo, ServerStatus, ServerView, Working};
pub use produce::{Delivery, Enqueued, Producer, Refusal};
#[cfg_attr(not(any(feature = "redis", feature = "embedded")), allow(unused_imports))]
pub(crate) use record::stored_error;
pub use record::{Attempt, MAX_ATTEMPTS_KEPT, MAX_ERROR_BYTES, MAX_LOG_BYTES, MAX_RESULT_BYTES, TaskRecord};
pub use recorded_types::{
    CountedRuns, MOST_RECORDED_RUNS, RecordedTypes, TYPE_RUNS_KIND, TypeRuns, runs_of_type, type_runs,
};
pub use run_files::{ARTIFACTS_KEPT_FOR, ArtifactEntry, ArtifactList, LIVE_KEPT_FOR, LiveRun, MAX_LIVE_BYTES};
#[cfg(any(feature = "redis", feature = "embedded"))]
pub(crate) use runs::Trace;
pub use runs::{
    FiredTask, MAX_OUTPUT_BYTES, MAX_RUN_ERROR_BYTES, MAX_RUNS_KEPT, OUTPUTS_KEPT_FOR, RUNS_KEPT_FOR, RunEnd,
    RunRecord, Runs, Trigger, ends_of_output, whole_output,
};
pub use schedule::{
    CURSOR_AHEAD, Commit, CommitFire, Committed, Corrections, ManualRun, ManuallyRun, Registration, Schedules, Standing,
};
pub use seen_runs::add_seen_runs;
pub use signals::Signals;
#[cfg(any(feature = "redis", feature = "embedded"))]
pub(crate) use statistics::packed;
pub use statistics::{
    CountedBy, CountedPeriods, HOURS_KEPT_FOR, MAX_RUN_SERIES, MAX_RUN_SERIES_NAME, MINUTES_KEPT_FOR, Statistics,
};
pub use stop::{CANCELED, MAX_STOP_BYTES, StopRequest, stopped_by};
pub use types::KnownTypes;
pub use unclaimed::{UNCLAIMED_AFTER, Unclaimed, UnclaimedTypes, unclaimed};
pub use upkeep::{ArchiveBounds, Forwarded, Lists, Repaired, Swept, Upkeep};
pub use usage::StoreUsage;
pub use worker_order::{ORDERS_KEPT_FOR, OrderTarget, WorkerOrder};
pub(crate) use workflow::keeps_what_is_revoked;
pub use workflow::{
    GivenResults, MAX_RESULTS_GIVEN, MAX_RESULTS_KEPT, MAX_STEP_RESULT, MAX_WORKFLOW_BYTES, MAX_WORKFLOW_CHANNELS,
    MAX_WORKFLOW_NAME, MAX_WORKFLOW_STEPS, NewWorkflow, STEP_RETENTION, StepEnd, StepOfTask, TakenResults,
    WORKFLOW_HEADER, WORKFLOWS_KEPT_FOR, WorkflowCallback, WorkflowHead, WorkflowNotify, WorkflowPlace, WorkflowPlan,
    WorkflowState, WorkflowStep, WorkflowStepView, Workflows, is_workflow_id, kept_result, step_of_task, step_task_id,
};
pub use workflow_advance::{
    advance_workflow, cancel_workflow, continue_workflow, end_workflow_steps, look_at_workflow, retry_workflow,
    write_step_ends,
};
pub use workflow_observer::WorkflowObserver;

/// A store of tasks: everything the program asks of it.
///
/// Held as `Arc<dyn Broker>`; one allocation a call is negligible compared with a round trip.
#[async_trait::async_trait]
pub trait Broker:
    Producer
    + Claims
    + Upkeep
    + Presence
    + Signals
    + Groups
    + Schedules
    + Holders
    + Entries
    + Runs
    + Documents
    + Workflows
    + Statistics
    + InspectQueues
    + InspectTasks
    + Actions
    + AuditList
    + 'static
{
    /// A short name for logs and pages: `redis 127.0.0.1:6379/0`, `embedded data/runner.db`. Never a secret.
    fn describe(&self) -> String;

    /// Whether the store answers, and its clock.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Unreachable`] or [`BrokerError::Refused`].
    async fn now(&self) -> BrokerResult<jiff::Timestamp>;

    /// Whether a task for one of these queues would be accepted now: from the results of recent calls, and a small
    /// write if there were none. Cheap enough to be called every few seconds.
    ///
    /// # Errors
    ///
    /// Why not: any but [`BrokerError::Unconfirmed`].
    async fn probe(&self, queues: &[runner_core::task::QueueName]) -> BrokerResult<()>;

    /// Risks to tasks in this store although every call to it succeeds; asked at the start and from time to time.
    ///
    /// # Errors
    ///
    /// As any call.
    async fn caveats(&self) -> BrokerResult<Vec<Caveat>> {
        Ok(Vec::new())
    }

    /// What the processes of the store have used since their start; `None` when it has no process of its own.
    ///
    /// # Errors
    ///
    /// As any call.
    async fn usage(&self) -> BrokerResult<Option<StoreUsage>> {
        Ok(None)
    }

    /// How many records (decisions, locks, counters of days) this process deleted since the last call because there is
    /// a bound on their number or age. Tasks are counted by [`Upkeep::sweep`](super::Upkeep::sweep).
    fn trimmed_records(&self) -> u64 {
        0
    }

    /// Puts the store in order for a copy or a move, at the end of a program. Calls after it fail.
    async fn close(&self) {}
}
