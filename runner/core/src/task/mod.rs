//! Tasks: their names, options, states, the moves between states, and retries.
//!
//! Knows no store and no wire format; each broker has its own.

mod name;
mod options;
mod outcome;
mod pattern;
mod payload;
mod retry;
mod run_counts;
mod started_by;
mod state;
mod trace;
mod type_pattern;
mod typed;
mod unique;

pub use name::{BlankName, FUNCTION_PREFIX, QueueName, TaskId};
pub use options::{DEFAULT_MAX_RETRY, DEFAULT_TIMEOUT, InvalidTask, Run, Task, check_payload};
pub use outcome::AttemptOutcome;
pub use pattern::{QueuePattern, covers, priority_of};
pub use payload::{MAX_PAYLOAD, NotJson, check_json, from_json, payload_value};
pub use retry::{Backoff, DelayFunction, RETRY_JITTER_SECONDS, recovery_delay, retry_delay, stated_delay};
pub use run_counts::{RUN_TIME_BUCKETS, RunCounts, RunSeries, run_time_bound, run_time_bucket};
pub use started_by::{BY_HAND, STARTED_BY_HEADER, started_by};
pub use state::{Event, IllegalMove, TaskState, UnknownState};
pub use trace::{MAX_TRACESTATE, TRACEPARENT, TRACESTATE, TraceContext, TraceId};
pub use type_pattern::TypePattern;
pub use typed::{Enqueue, TaskType};
pub use unique::{MAX_UNIQUE_KEY, OnConflict, Unique, UniqueKey, UniqueScope};
