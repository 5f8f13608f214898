//! A run of a function or task type as an object: what is remembered of it when its task is gone.

use jiff::tz::TimeZone;
use runner_queue::RunRecord;
use serde::Serialize;

use super::WrittenInstant;
use super::reason::word;

/// A run: its task, and how the last attempt at it went.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = Run))]
pub struct RunObject {
    /// The task.
    pub task: String,
    /// Its queue.
    pub queue: String,
    /// The function; `null` for a task type that no manifest defines.
    pub function: Option<String>,
    /// That task type.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The schedule that it belongs to.
    pub schedule: Option<String>,
    /// What started it: `schedule`, `catch_up`, `manual`, `enqueue`, or a kind of trigger.
    pub trigger: String,
    /// Which event that was, if it was one.
    pub event: Option<String>,
    /// The occurrence that it is.
    pub planned: Option<WrittenInstant>,
    /// The attempt that the rest speaks of, counted from 1.
    pub attempt: u32,
    /// When that attempt began; `null` if it is not known, as of a worker in Go.
    pub started_at: Option<WrittenInstant>,
    /// When it ended.
    pub ended_at: WrittenInstant,
    /// How long it took, if that is known.
    pub took_seconds: Option<f64>,
    /// How it ended, in a word.
    pub outcome: String,
    /// `host:pid` of the worker; empty if it is not known.
    pub worker: String,
    /// The trace that it belongs to: 32 hexadecimal digits.
    pub trace_id: Option<String>,
    /// Its error, if it failed.
    pub error: Option<String>,
}

impl RunObject {
    /// From its record.
    #[must_use]
    pub fn of(run: &RunRecord, zone: &TimeZone) -> Self {
        let length = run.known_length();
        Self {
            task: run.task.to_string(),
            queue: run.queue.to_string(),
            function: run.task_type().is_none().then(|| run.function.clone()),
            kind: run.task_type().map(str::to_owned),
            schedule: run.schedule.as_ref().map(ToString::to_string),
            trigger: run.trigger.as_str().to_owned(),
            event: run.event.clone(),
            planned: WrittenInstant::maybe(run.planned, zone),
            attempt: run.attempt,
            started_at: length.map(|_| WrittenInstant::of(run.started_at, zone)),
            ended_at: WrittenInstant::of(run.ended_at, zone),
            took_seconds: length.map(|took| took.as_secs_f64()),
            outcome: word(&run.outcome),
            worker: run.worker.clone(),
            trace_id: run.trace.clone(),
            error: run.error.clone(),
        }
    }
}
