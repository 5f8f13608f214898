//! What is remembered of runs when their tasks are gone: a bounded record for each function of a manifest and for each run of a
//! type that is named for it (`recorded_types`), and for each decision of a schedule how its task ended.
//!
//! Written in the step that ends the claim. Nothing is remembered of other tasks, nor of runs on workers in Go, which
//! write no records.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::schedule::{SCHEDULE_HEADER, ScheduleId, headers_in_id};
use runner_core::task::{AttemptOutcome, FUNCTION_PREFIX, QueueName, STARTED_BY_HEADER, TaskId, TraceContext};
use serde::{Deserialize, Serialize};

use super::recorded_types::{OF_TYPE, ends_a_run, runs_of_type};
use super::{Attempt, BrokerResult, RecordedTypes, TaskRecord};

/// How many runs of one function are remembered; the oldest go first.
pub const MAX_RUNS_KEPT: usize = 100;

/// How long the record of a run is kept at most.
pub const RUNS_KEPT_FOR: Duration = Duration::from_secs(90 * 24 * 3600);

/// Bytes of output that the record of a run keeps: the first quarter and the last three quarters. Lists read a hundred
/// of them at once, so a longer output is kept whole beside its record ([`Runs::keep_output`]).
pub const MAX_OUTPUT_BYTES: usize = 4 * 1024;

/// How long the whole output of a run is kept at most.
pub const OUTPUTS_KEPT_FOR: Duration = Duration::from_secs(14 * 24 * 3600);

/// Bytes of an error's text in the record of a run.
pub const MAX_RUN_ERROR_BYTES: usize = 4 * 1024;

/// Room for the line that says how much of the output is missing.
const NOTE_BYTES: usize = 64;

/// What started a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// An occurrence of a schedule, on time.
    Schedule,
    /// An occurrence of a schedule that was late.
    CatchUp,
    /// The function or its schedule was run by hand.
    Manual,
    /// A message of a queue of RabbitMQ.
    #[serde(rename = "rabbitmq")]
    RabbitMq,
    /// An entry of a stream of Redis.
    RedisStream,
    /// A call over HTTP.
    Webhook,
    /// The end of a task of another function.
    After,
    /// A file of a directory.
    File,
    /// A start of the service.
    OnStart,
    /// The task was enqueued by itself.
    Enqueue,
    /// A word that another version of this program wrote.
    #[serde(other)]
    Unknown,
}

impl Trigger {
    /// All triggers.
    pub const ALL: [Self; 11] = [
        Self::Schedule,
        Self::CatchUp,
        Self::Manual,
        Self::RabbitMq,
        Self::RedisStream,
        Self::Webhook,
        Self::After,
        Self::File,
        Self::OnStart,
        Self::Enqueue,
        Self::Unknown,
    ];

    /// The one of the word that a task without a schedule has in its header.
    fn of_word(word: &str) -> Option<Self> {
        const NOTED: [Trigger; 7] = [
            Trigger::Manual,
            Trigger::RabbitMq,
            Trigger::RedisStream,
            Trigger::Webhook,
            Trigger::After,
            Trigger::File,
            Trigger::OnStart,
        ];
        NOTED.into_iter().find(|trigger| trigger.as_str() == word)
    }

    /// The word used in stores, listings and on pages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::CatchUp => "catch_up",
            Self::Manual => "manual",
            Self::RabbitMq => "rabbitmq",
            Self::RedisStream => "redis_stream",
            Self::Webhook => "webhook",
            Self::After => "after",
            Self::File => "file",
            Self::OnStart => "on_start",
            Self::Enqueue => "enqueue",
            Self::Unknown => "unknown",
        }
    }
}

/// One run of a function: its task, and how the last attempt at it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The task.
    pub task: TaskId,
    /// Its queue.
    pub queue: QueueName,
    /// The function's name, or [`runs_of_type`] of a type that no manifest defines.
    pub function: String,
    /// The schedule that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleId>,
    /// What started it.
    pub trigger: Trigger,
    /// Which event that was: the queue, the stream, the path of the file, the function that ended. As the producer of the task says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The occurrence that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned: Option<Timestamp>,
    /// The attempt that the rest speaks of, counted from 1.
    pub attempt: u32,
    /// When that attempt began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How.
    pub outcome: AttemptOutcome,
    /// `host:pid` of the worker.
    pub worker: String,
    /// The trace that its task belongs to: 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// What was wrong, at most [`MAX_RUN_ERROR_BYTES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the function printed, at most [`MAX_OUTPUT_BYTES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Whether that is only a part; [`Runs::output`] has the whole.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub output_cut: bool,
    /// Of an attempt that was lost: whether its task had a retry left. Other outcomes say that themselves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retry_left: bool,
}

impl RunRecord {
    /// How long the attempt took.
    #[must_use]
    pub fn took(&self) -> Duration {
        between(self.started_at, self.ended_at)
    }

    /// How long the attempt took, if it is known when it began: not of a task that a worker in Go had.
    #[must_use]
    pub fn known_length(&self) -> Option<Duration> {
        (!self.worker.is_empty()).then(|| self.took())
    }

    /// The task type, if no manifest defines it.
    #[must_use]
    pub fn task_type(&self) -> Option<&str> {
        self.function.strip_prefix(OF_TYPE)
    }

    /// The name of the function, or the task type: what people call it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.task_type().unwrap_or(&self.function)
    }
}

impl Trace {
    /// The same of a lost attempt: whether its task is tried again.
    pub(crate) fn tried_again(mut self, again: bool) -> Self {
        if let Some(record) = &mut self.record {
            record.retry_left = again && record.outcome == AttemptOutcome::Lost;
        }
        self
    }
}

fn between(start: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(start)).unwrap_or_default()
}

/// How the task of a decision ended, as far as it has: its last attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEnd {
    /// How.
    pub outcome: AttemptOutcome,
    /// When that attempt began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
}

impl RunEnd {
    /// How long the attempt took.
    #[must_use]
    pub fn took(&self) -> Duration {
        between(self.started_at, self.ended_at)
    }
}

/// A task of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FiredTask {
    /// The schedule.
    pub schedule: ScheduleId,
    /// The task's queue.
    pub queue: QueueName,
    /// The task.
    pub task: TaskId,
}

/// What pages and commands ask about runs.
#[async_trait]
pub trait Runs: Send + Sync {
    /// The last runs of a function, or of [`runs_of_type`], whose tasks were in one of these queues, newest first.
    async fn runs(&self, function: &str, queues: &[QueueName], limit: usize) -> BrokerResult<Vec<RunRecord>>;

    /// The record of the run of this task.
    async fn run(&self, queue: &QueueName, task: &TaskId) -> BrokerResult<Option<RunRecord>>;

    /// Keeps the whole output of a run for [`OUTPUTS_KEPT_FOR`], in place of that of an earlier attempt. Written before
    /// the claim ends, so that a record which says that there is more is right. It goes when that record goes. The form
    /// is that of its writer.
    async fn keep_output(&self, queue: &QueueName, task: &TaskId, packed: Vec<u8>) -> BrokerResult<()>;

    /// What was last kept of this task.
    async fn output(&self, queue: &QueueName, task: &TaskId) -> BrokerResult<Option<Vec<u8>>>;

    /// How tasks of schedules ended, in order; `None` for those that have not, or of which nothing is known.
    async fn ends(&self, tasks: &[FiredTask]) -> BrokerResult<Vec<Option<RunEnd>>>;
}

impl TaskRecord {
    /// Whether an attempt at it is remembered when it is gone: it is a function of a manifest, or the task of a
    /// schedule.
    #[must_use]
    pub fn leaves_trace(&self) -> bool {
        self.kind.starts_with(FUNCTION_PREFIX) || self.headers.contains_key(SCHEDULE_HEADER)
    }

    /// Whether a run of it is recorded: it is a function of a manifest.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.leaves_trace() && function_of(self, self.schedule().as_ref()).is_some()
    }

    /// What started it, and which event that was: the queue, the stream, the path of the file, the function that ended.
    #[must_use]
    pub fn started_by(&self) -> (Trigger, Option<String>) {
        started_by(self, self.schedule().as_ref())
    }

    /// The schedule that it belongs to. Any client can write headers, so the id must agree.
    fn schedule(&self) -> Option<ScheduleId> {
        let named = self.headers.get(SCHEDULE_HEADER)?;
        let rest = self.id.as_str().strip_prefix(named.as_str())?;
        rest.starts_with('@').then(|| ScheduleId::from_text(named.as_str()))
    }
}

/// What the end of a claim leaves behind besides the task.
pub(crate) struct Trace {
    pub(crate) schedule: Option<ScheduleId>,
    pub(crate) end: RunEnd,
    /// Of a function of a manifest.
    pub(crate) record: Option<RunRecord>,
}

/// What an ended attempt leaves behind. One that only put the task back has not ended a run. `recorded`: types whose runs are
/// recorded beside those of functions.
pub(crate) fn trace_of(
    task: &TaskRecord,
    attempt: Option<&Attempt>,
    result: Option<&[u8]>,
    recorded: Option<&RecordedTypes>,
) -> Option<Trace> {
    let of_type = || {
        recorded
            .filter(|types| types.records(&task.kind))
            .map(|_| runs_of_type(&task.kind))
    };
    let attempt = attempt.filter(|attempt| ends_a_run(attempt.outcome))?;
    if !task.leaves_trace() && recorded.is_none() {
        return None;
    }
    let schedule = task.schedule();
    let function = function_of(task, schedule.as_ref()).or_else(of_type);
    let (trigger, event) = started_by(task, schedule.as_ref());
    if schedule.is_none() && function.is_none() {
        return None;
    }
    let record = function.map(|function| RunRecord {
        task: task.id.clone(),
        queue: task.queue.clone(),
        function,
        trigger,
        event,
        planned: planned(task).filter(|_| schedule.is_some()),
        schedule: schedule.clone(),
        attempt: attempt.number,
        started_at: attempt.started_at,
        ended_at: attempt.ended_at,
        outcome: attempt.outcome,
        worker: attempt.server.clone(),
        trace: TraceContext::of(&task.headers).map(|trace| trace.trace_id().to_string()),
        error: attempt.error.as_deref().map(|error| {
            let end = error.floor_char_boundary(MAX_RUN_ERROR_BYTES);
            error[..end].to_owned()
        }),
        output_cut: whole_output(attempt.log.as_deref(), result).is_some_and(|whole| whole.len() > MAX_OUTPUT_BYTES),
        output: output_of(attempt, result),
        retry_left: false,
    });
    Some(Trace {
        schedule,
        end: RunEnd {
            outcome: attempt.outcome,
            started_at: attempt.started_at,
            ended_at: attempt.ended_at,
        },
        record,
    })
}

/// The function's name: a manifest that names a handler runs under the type of the handler.
fn function_of(task: &TaskRecord, schedule: Option<&ScheduleId>) -> Option<String> {
    if let Some(name) = task.kind.strip_prefix(FUNCTION_PREFIX) {
        return Some(name.to_owned());
    }
    let (name, _) = schedule?.as_str().strip_prefix("m:")?.split_once(':')?;
    Some(name.to_owned())
}

/// What started a task, and which event that was. Its id vouches for a schedule, nothing for the rest.
fn started_by(task: &TaskRecord, schedule: Option<&ScheduleId>) -> (Trigger, Option<String>) {
    let says = |name: &str, value: &str| task.headers.get(name).is_some_and(|known| known == value);
    if schedule.is_some() {
        let by_hand = says("runner-fire-kind", "manual").then_some(Trigger::Manual);
        let late = says("runner-catch-up", "true").then_some(Trigger::CatchUp);
        return (by_hand.or(late).unwrap_or(Trigger::Schedule), None);
    }
    let Some(header) = task.headers.get(STARTED_BY_HEADER) else {
        return (Trigger::Enqueue, None);
    };
    let (word, event) = runner_core::task::started_by(header);
    match Trigger::of_word(word) {
        Some(trigger) => (trigger, event),
        None => (Trigger::Unknown, None),
    }
}

fn planned(task: &TaskRecord) -> Option<Timestamp> {
    let at = task.headers.get("runner-scheduled-at").cloned();
    let at = at.or_else(|| headers_in_id(&task.id).remove("runner-scheduled-at"));
    at?.parse().ok()
}

/// What a run printed; of one that printed nothing what it returned, as an HTTP call does.
#[must_use]
pub fn whole_output<'a>(log: Option<&'a str>, result: Option<&'a [u8]>) -> Option<&'a [u8]> {
    let output = log.map(str::as_bytes).or(result)?;
    (!output.is_empty()).then_some(output)
}

/// What the record has of it.
fn output_of(attempt: &Attempt, result: Option<&[u8]>) -> Option<String> {
    let output = whole_output(attempt.log.as_deref(), result)?;
    Some(ends_of_output(&String::from_utf8_lossy(output), MAX_OUTPUT_BYTES))
}

/// The beginning and the end of an output, in whole characters, at most `most` bytes with a line between them that says
/// how much is missing. `most` is at least a kilobyte.
#[must_use]
pub fn ends_of_output(output: &str, most: usize) -> String {
    if output.len() <= most {
        return output.to_owned();
    }
    let head = output.floor_char_boundary(most / 4);
    let tail = output.ceil_char_boundary(output.len() - (most - most / 4 - NOTE_BYTES));
    // Whole lines, where there are some.
    let head = output[..head].rfind('\n').map_or(head, |end| end + 1);
    let tail = output[tail..].find('\n').map_or(tail, |end| tail + end + 1);
    format!(
        "{}[{} bytes left out]\n{}",
        &output[..head],
        tail - head,
        &output[tail..]
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_long_output_keeps_its_ends() {
        let long: String = (0..5000).map(|n| format!("line {n} é\n")).collect();
        let kept = ends_of_output(&long, MAX_OUTPUT_BYTES);
        assert!(kept.len() <= MAX_OUTPUT_BYTES, "{}", kept.len());
        assert!(kept.starts_with("line 0 é\n") && kept.ends_with("line 4999 é\n"));
        assert!(kept.contains(" bytes left out]\nline "), "{kept}");
        assert_eq!(ends_of_output("short", MAX_OUTPUT_BYTES), "short");
        let one_line = "x".repeat(50_000);
        let kept = ends_of_output(&one_line, MAX_OUTPUT_BYTES);
        assert!(kept.len() <= MAX_OUTPUT_BYTES && kept.contains("bytes left out"));
    }

    #[test]
    fn triggers_are_read_as_they_are_written() {
        for trigger in Trigger::ALL {
            let json = serde_json::to_string(&trigger).unwrap();
            assert_eq!(json, format!("\"{}\"", trigger.as_str()));
            assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), trigger);
        }
    }
}
