//! Who hears of what: turns what happens to functions and schedules into notifications, which are tasks of a queue of their own.
//!
//! Sends nothing itself: the handler of these tasks does. Each task has an id that follows from what happened, so several
//! instances that notice the same enqueue it once.

mod expected;
mod failures;
mod identity;
mod link;
mod look;
mod problems;
mod put_off;
mod settings;
mod successes;
mod transitions;
mod watch;
mod watch_runs;
mod watched;
mod workflows;

pub use failures::FailureNotifications;
pub use problems::SourceProblem;
pub use put_off::PutOffNotifications;
pub use settings::NotificationSettings;
pub use watch::{NotificationWatchParts, watch};
pub use workflows::WorkflowNotifications;
