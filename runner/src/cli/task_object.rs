//! The keys of a task in JSON, as lists and `task show` print them.

use runner_core::task::{QueueName, TraceContext};
use runner_queue::{RawTask, TaskInfo};
use serde_json::{Value, json};

use super::print::{self, JsonField, Object};
use crate::text::hex;

/// Everything known about a task but its attempts. Lists have the beginning of its payload and result.
pub(super) fn task_json(task: &TaskInfo, zone: &jiff::tz::TimeZone) -> Object {
    let record = &task.record;
    let result = task.result.as_ref();
    let (trigger, event) = record.started_by();
    let trace = TraceContext::of(&record.headers).map(|trace| trace.trace_id().to_string());
    let object = json!({
        "id": record.id,
        "type": record.kind,
        "queue": record.queue,
        "state": task.state,
        "retried": record.retried,
        "max_retry": record.max_retry,
        "timeout_seconds": record.timeout.as_secs(),
        "deadline": print::maybe(record.deadline, zone),
        "retention_seconds": record.retention.as_secs(),
        "group": record.group,
        "headers": record.headers,
        "trace_id": trace,
        "trigger": trigger,
        "event": event,
        "payload_bytes": task.payload_bytes,
        "next_run": print::maybe(task.next_run, zone),
        "pending_since": print::maybe(task.pending_since, zone),
        "lease_until": print::maybe(task.lease_until, zone),
        "filed_at": print::maybe(task.filed_at, zone),
        "completed_at": print::maybe(record.completed_at, zone),
        "last_error": record.last_error,
        "last_failed_at": print::maybe(record.last_failed_at, zone),
        "waiting_for": task.waiting_for,
    });
    Object::of(object)
        .with("payload", print::payload(&record.payload))
        .with("result", result.map_or(JsonField::Value(Value::Null), print::payload))
}

/// A task that cannot be read.
pub(super) fn raw_json(queue: &QueueName, raw: &RawTask) -> Object {
    Object::of(json!({
        "id": String::from_utf8_lossy(&raw.id), "id_hex": hex(&raw.id), "queue": queue, "state": raw.state,
        "unreadable": raw.why.as_deref().unwrap_or("too large to be read for a list"), "bytes": raw.bytes,
    }))
}
