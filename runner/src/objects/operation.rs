//! An operation on many tasks, as an object.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::WrittenInstant;
use crate::operation::{Operation, OperationEnd};

/// One action on all tasks that match.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = Operation))]
pub struct OperationObject {
    /// Its id.
    pub id: String,
    /// `run`, `archive`, `delete` or `cancel`.
    pub verb: String,
    /// `waiting`, `running`, `silent` (its instance gives no sign of life), `done`, `cancelled` or `failed`.
    pub status: String,
    /// The state of its tasks.
    pub state: String,
    /// Their queue; `null`: all.
    pub queue: Option<String>,
    /// A part of their type.
    #[serde(rename = "type")]
    pub kind: String,
    /// A part of id, type, payload or error.
    pub text: String,
    /// An error without its numbers.
    pub error_group: String,
    /// Only those that ended, failed or are due from this instant on.
    pub from: Option<WrittenInstant>,
    /// The same, before this one.
    pub to: Option<WrittenInstant>,
    /// What came into the state later is left alone, where it is known since when a task is in it.
    pub before: WrittenInstant,
    /// How many tasks there were before it began.
    pub counted: u64,
    /// Whether that many match, or at most that many.
    pub exact: bool,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub note: Option<String>,
    /// When it was asked for.
    pub at: WrittenInstant,
    /// When it began.
    pub began: Option<WrittenInstant>,
    /// When it ended.
    pub ended: Option<WrittenInstant>,
    /// Tasks that were looked at.
    pub looked: u64,
    /// Tasks that were acted on.
    pub done: u64,
    /// Tasks that did not match any more when their turn came.
    pub skipped: u64,
    /// Calls of the broker that failed.
    pub failed: u64,
    /// The last of these failures.
    pub error: Option<String>,
    /// Tasks a second.
    pub rate: f64,
    /// The instance that carries it out.
    pub instance: Option<String>,
    /// Who cancelled it.
    pub cancelled_by: Option<String>,
}

/// The word for where an operation stands.
#[must_use]
pub fn operation_status(operation: &Operation, now: Timestamp) -> &'static str {
    match operation.ended {
        Some((_, OperationEnd::Done)) => "done",
        Some((_, OperationEnd::Cancelled)) => "cancelled",
        Some((_, OperationEnd::Failed)) => "failed",
        None if operation.began.is_none() => "waiting",
        None if operation.is_orphaned(now) => "silent",
        None => "running",
    }
}

impl OperationObject {
    /// From what is stored.
    #[must_use]
    pub fn of(operation: Operation, now: Timestamp, zone: &TimeZone) -> Self {
        let status = operation_status(&operation, now).to_owned();
        let rate = (operation.rate(now) * 10.0).round() / 10.0;
        let choice = operation.choice;
        Self {
            id: operation.id,
            verb: operation.verb.as_str().to_owned(),
            status,
            state: choice.state.to_string(),
            queue: choice.queue.map(|queue| queue.to_string()),
            kind: choice.kind,
            text: choice.text,
            error_group: choice.error,
            from: WrittenInstant::maybe(choice.from, zone),
            to: WrittenInstant::maybe(choice.to, zone),
            before: WrittenInstant::of(choice.before, zone),
            counted: operation.counted,
            exact: operation.exact,
            by: operation.by,
            note: operation.note,
            at: WrittenInstant::of(operation.at, zone),
            began: WrittenInstant::maybe(operation.began, zone),
            ended: WrittenInstant::maybe(operation.ended.map(|(at, _)| at), zone),
            looked: operation.looked,
            done: operation.done,
            skipped: operation.skipped,
            failed: operation.failed,
            error: operation.error,
            rate,
            instance: operation.instance,
            cancelled_by: operation.cancelled_by,
        }
    }
}
