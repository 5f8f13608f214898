//! What one event says: a type, when and where it happened, and the ids of what it happened to.

use jiff::Timestamp;
use runner_queue::{Decision, Recovered, TaskRecord, Verdict};
use serde::Serialize;

/// All types.
pub const EVENT_TYPES: [&str; 8] = [
    "task.succeeded",
    "task.failed",
    "task.archived",
    "task.revoked",
    "task.lost",
    "schedule.missed",
    "schedule.skipped",
    "manifest.rejected",
];

/// The version of the form. Members may be added without a new one.
const VERSION: u32 = 1;

/// The longest text from outside: a name, a place.
const MAX_TEXT: usize = 300;

/// The header of a task that names its schedule.
const SCHEDULE_HEADER: &str = "runner-schedule-id";

/// An event as it is sent, without what the outbox adds.
#[derive(Debug, Default, Serialize)]
pub(super) struct LifecycleEvent {
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<TaskIds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<ScheduleIds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<RejectedIds>,
}

/// A task.
#[derive(Debug, Serialize)]
pub(super) struct TaskIds {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    queue: String,
    /// The number of the attempt; not known of a process that died.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_retry: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trigger: Option<String>,
}

/// Occurrences of a schedule.
#[derive(Debug, Serialize)]
struct ScheduleIds {
    id: String,
    /// The newest of them.
    occurrence: Timestamp,
    count: u32,
}

/// A function or a row.
#[derive(Debug, Serialize)]
struct RejectedIds {
    name: String,
    place: String,
    codes: Vec<String>,
}

/// What is sent.
#[derive(Serialize)]
struct Sent<'a> {
    version: u32,
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    at: Timestamp,
    instance: &'a str,
    #[serde(flatten)]
    event: LifecycleEvent,
}

/// The type of the event of a verdict; none of a task that waits or goes back as it was.
pub(super) fn type_of(verdict: &Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::Done => Some("task.succeeded"),
        Verdict::Retry { .. } => Some("task.failed"),
        Verdict::Archive { .. } => Some("task.archived"),
        Verdict::Revoke => Some("task.revoked"),
        Verdict::HandBack | Verdict::Snooze { .. } => None,
    }
}

impl TaskIds {
    pub(super) fn of(task: &TaskRecord) -> Self {
        let header = |name| task.headers.get(name).map(|text| bounded(text));
        Self {
            id: task.id.to_string(),
            kind: task.kind.clone(),
            queue: task.queue.to_string(),
            attempt: Some(task.retried + 1),
            max_retry: Some(task.max_retry),
            schedule: header(SCHEDULE_HEADER),
            trigger: header(runner_core::trigger::TRIGGER_HEADER),
        }
    }

    pub(super) fn of_lost(task: &Recovered) -> Self {
        Self {
            id: task.id.to_string(),
            kind: task.kind.clone(),
            queue: task.queue.to_string(),
            attempt: None,
            max_retry: None,
            schedule: None,
            trigger: None,
        }
    }
}

impl LifecycleEvent {
    pub(super) fn of_task(task: TaskIds) -> Self {
        Self {
            task: Some(task),
            ..Self::default()
        }
    }

    pub(super) fn of_decision(decision: &Decision) -> Self {
        Self {
            schedule: Some(ScheduleIds {
                id: decision.schedule.to_string(),
                occurrence: decision.nominal,
                count: decision.count.max(1),
            }),
            ..Self::default()
        }
    }

    pub(super) fn of_rejected(name: &str, place: &str, codes: Vec<String>) -> Self {
        Self {
            manifest: Some(RejectedIds {
                name: bounded(name),
                place: bounded(place),
                codes,
            }),
            ..Self::default()
        }
    }

    /// As JSON.
    pub(super) fn body(self, kind: &str, id: &str, at: Timestamp, instance: &str) -> Vec<u8> {
        let sent = Sent {
            version: VERSION,
            id,
            kind,
            at,
            instance,
            event: self,
        };
        // Texts and numbers only: nothing in it can fail.
        serde_json::to_vec(&sent).unwrap_or_default()
    }
}

fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}

/// Whether these types, exact or `prefix*`, name this one; an empty list names all.
pub(super) fn names(types: &[String], kind: &str) -> bool {
    let fits = |one: &String| match one.strip_suffix('*') {
        Some(prefix) => kind.starts_with(prefix),
        None => one == kind,
    };
    types.is_empty() || types.iter().any(fits)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_event_has_ids_and_no_more() {
        let event = LifecycleEvent::of_rejected("orders", "manifests/orders.yaml:3", vec!["E130".to_owned()]);
        let body = event.body("manifest.rejected", "x", Timestamp::UNIX_EPOCH, "host:1");
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let expected = serde_json::json!({
            "version": 1, "id": "x", "type": "manifest.rejected", "at": "1970-01-01T00:00:00Z", "instance": "host:1",
            "manifest": {"name": "orders", "place": "manifests/orders.yaml:3", "codes": ["E130"]},
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn types_are_named_exactly_or_by_a_prefix() {
        let list = |types: &[&str]| types.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(names(&[], "task.failed"));
        assert!(names(&list(&["schedule.*", "task.failed"]), "task.failed"));
        assert!(!names(&list(&["schedule.*", "task.fail"]), "task.failed"));
    }
}
