//! Schedules, their policies, and the pure functions that decide and merge.
//!
//! No I/O. Not here: where definitions come from (`runner::source`), and how decisions take effect (`runner::scheduler` and
//! the broker).

mod ahead;
mod caution;
mod decide;
#[cfg(test)]
mod decide_tests;
mod defined;
mod definition;
mod merge;
mod occasion;
mod problem;
mod timing;

pub use ahead::{Ahead, MOST_SPANS, Span};
pub use caution::{Served, no_occurrence_left, not_served, queue_not_served};
pub use decide::{
    Decided, Fire, LONGEST_GRACE, MissedRange, SCAN_LIMIT, SHORTEST_GRACE, decide, fire_task, jitter_of, manual_task,
    paused_range,
};
pub use defined::defined_names;
pub use definition::{
    CatchUp, CatchUpPolicy, DEFAULT_CATCH_UP_MAX, DEFAULT_CATCH_UP_WINDOW, Definition, Origin, Overlap, ScheduleId,
    Source,
};
pub use merge::{Plan, Scope, merge};
pub use occasion::{SCHEDULE_HEADER, headers_in_id};
pub use problem::{Problem, Severity};
pub use timing::{Timing, TimingError, When, stable_hash};
