//! A task as an object: with its options, its state, its attempts, and why it waits.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use runner_core::task::{QueueName, TraceContext};
use runner_queue::{Attempt, LiveRun, RawTask, TaskInfo};
use serde::Serialize;
use serde_json::Value;

use super::reason::word;
use super::{JsonField, ReasonObject, WrittenInstant, payload};
use crate::text::hex;

/// A task. Lists have the beginning of its payload and result only, 2 KiB of each.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = Task))]
pub struct TaskObject {
    /// Unique within its queue.
    pub id: String,
    /// The task type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its queue.
    pub queue: String,
    /// `pending`, `active`, `scheduled`, `retry`, `archived`, `completed` or `aggregating`.
    pub state: String,
    /// How often it was retried.
    pub retried: u32,
    /// How often it may be.
    pub max_retry: u32,
    /// The time limit of an attempt; 0: none of this kind.
    pub timeout_seconds: u64,
    /// The instant after which no attempt may run.
    pub deadline: Option<WrittenInstant>,
    /// How long it is kept after its success; 0: not at all.
    pub retention_seconds: u64,
    /// The group that it waits in.
    pub group: Option<String>,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// The trace that it belongs to: 32 hexadecimal digits.
    pub trace_id: Option<String>,
    /// What started it: `schedule`, `catch_up`, `manual`, `enqueue`, or a kind of trigger.
    pub trigger: String,
    /// Which event that was, if it was one.
    pub event: Option<String>,
    /// Bytes of the whole payload.
    pub payload_bytes: u64,
    /// When it runs next: scheduled and retry.
    pub next_run: Option<WrittenInstant>,
    /// Since when it has been pending, if that is known.
    pub pending_since: Option<WrittenInstant>,
    /// When its lease ends: active.
    pub lease_until: Option<WrittenInstant>,
    /// When it was archived: archived. When it will be deleted: completed.
    pub filed_at: Option<WrittenInstant>,
    /// When it succeeded.
    pub completed_at: Option<WrittenInstant>,
    /// Its last error; empty if it never failed.
    pub last_error: String,
    /// When it last failed.
    pub last_failed_at: Option<WrittenInstant>,
    /// What it waits for, such as a handler of its type; `null` if it only waits for its turn.
    pub waiting_for: Option<String>,
    /// Its payload.
    pub payload: JsonField,
    /// What its handler returned.
    pub result: JsonField,
}

/// A task that cannot be read, because another program wrote it or because it is large.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = UnreadableTask))]
pub struct UnreadableTaskObject {
    /// Its id as text; it may not be text.
    pub id: String,
    /// The bytes of its id in hexadecimal digits.
    pub id_hex: String,
    /// Its queue.
    pub queue: String,
    /// Its state, if it has one.
    pub state: Option<String>,
    /// Why it cannot be read.
    pub unreadable: String,
    /// Bytes of all of it.
    pub bytes: u64,
}

/// An item of a list of tasks.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum TaskListItem {
    /// One that can be read.
    Task(Box<TaskObject>),
    /// One that cannot.
    Unreadable(UnreadableTaskObject),
}

impl TaskListItem {
    /// One that can be read.
    #[must_use]
    pub fn of(task: &TaskInfo, zone: &TimeZone) -> Self {
        Self::Task(Box::new(TaskObject::of(task, zone)))
    }

    /// One that cannot.
    #[must_use]
    pub fn unreadable(queue: &QueueName, raw: &RawTask) -> Self {
        Self::Unreadable(UnreadableTaskObject::of(queue, raw))
    }
}

/// One try at a task, ended.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = Attempt))]
pub struct AttemptObject {
    /// Counts from 1.
    pub number: u32,
    /// How it ended, in a word.
    pub outcome: String,
    /// Its error, if it failed.
    pub error: Option<String>,
    /// `host:pid` of its worker; empty if it is not known.
    pub server: String,
    /// What it printed.
    pub log: Option<String>,
    /// When it began.
    pub started_at: WrittenInstant,
    /// When it ended.
    pub ended_at: WrittenInstant,
}

/// The attempt that runs now, as its worker reports it every second.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = LiveAttempt))]
pub struct LiveObject {
    /// Counts from 1.
    pub attempt: u32,
    /// `host:pid` of its worker.
    pub server: String,
    /// When this was reported.
    pub at: WrittenInstant,
    /// How far it is, from 0 to 1, if it says so.
    pub done: Option<f64>,
    /// The same in words; may be empty.
    pub note: String,
    /// The end of what it has printed.
    pub output: String,
}

/// A task with its attempts and why it waits.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = TaskDetails))]
pub struct TaskDetailsObject {
    /// The task, whole.
    #[serde(flatten)]
    pub task: TaskObject,
    /// The attempt that runs now.
    pub live: Option<LiveObject>,
    /// Ended attempts, oldest first; the last thirty.
    pub attempts: Vec<AttemptObject>,
    /// Why it is where it is, most important first.
    pub reasons: Vec<ReasonObject>,
}

impl TaskObject {
    /// From what the broker says.
    #[must_use]
    pub fn of(task: &TaskInfo, zone: &TimeZone) -> Self {
        let record = &task.record;
        let (trigger, event) = record.started_by();
        let trace = TraceContext::of(&record.headers).map(|trace| trace.trace_id().to_string());
        let maybe = |at| WrittenInstant::maybe(at, zone);
        let result = task.result.as_ref();
        Self {
            id: record.id.to_string(),
            kind: record.kind.clone(),
            queue: record.queue.to_string(),
            state: task.state.to_string(),
            retried: record.retried,
            max_retry: record.max_retry,
            timeout_seconds: record.timeout.as_secs(),
            deadline: maybe(record.deadline),
            retention_seconds: record.retention.as_secs(),
            group: record.group.clone(),
            headers: record.headers.clone(),
            trace_id: trace,
            trigger: trigger.as_str().to_owned(),
            event,
            payload_bytes: task.payload_bytes,
            next_run: maybe(task.next_run),
            pending_since: maybe(task.pending_since),
            lease_until: maybe(task.lease_until),
            filed_at: maybe(task.filed_at),
            completed_at: maybe(record.completed_at),
            last_error: record.last_error.clone(),
            last_failed_at: maybe(record.last_failed_at),
            waiting_for: task.waiting_for.clone(),
            payload: payload(&record.payload),
            result: result.map_or(JsonField::Value(Value::Null), payload),
        }
    }
}

impl UnreadableTaskObject {
    /// From what the broker says.
    #[must_use]
    pub fn of(queue: &QueueName, raw: &RawTask) -> Self {
        let why = raw.why.as_deref();
        Self {
            id: String::from_utf8_lossy(&raw.id).into_owned(),
            id_hex: hex(&raw.id),
            queue: queue.to_string(),
            state: raw.state.map(|state| state.to_string()),
            unreadable: why.unwrap_or("too large to be read for a list").to_owned(),
            bytes: raw.bytes,
        }
    }
}

impl AttemptObject {
    /// From what the broker says.
    #[must_use]
    pub fn of(attempt: &Attempt, zone: &TimeZone) -> Self {
        Self {
            number: attempt.number,
            outcome: word(&attempt.outcome),
            error: attempt.error.clone(),
            server: attempt.server.clone(),
            log: attempt.log.clone(),
            started_at: WrittenInstant::of(attempt.started_at, zone),
            ended_at: WrittenInstant::of(attempt.ended_at, zone),
        }
    }
}

impl LiveObject {
    /// From what the worker reported.
    #[must_use]
    pub fn of(live: LiveRun, zone: &TimeZone) -> Self {
        Self {
            attempt: live.attempt,
            server: live.server,
            at: WrittenInstant::of(live.at, zone),
            done: live.done,
            note: live.note,
            output: live.output,
        }
    }
}
