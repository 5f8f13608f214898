//! The record of a run whose task has left the broker. Also the rows of runs on other pages.

use axum::response::Response;
use runner_core::schedule::{SCHEDULE_HEADER, ScheduleId, headers_in_id};
use runner_core::task::{AttemptOutcome, QueueName, TaskId};
use runner_queue::{Decision, DecisionKind, FiredTask, RunEnd, RunRecord};
use serde::Serialize;

use crate::run_output;
use crate::web::app_state::AppState;
use crate::web::format::{self, IN_A_LIST, InstantText, Locale};
use crate::web::layout::{self, NavSection};
use crate::web::page_error::PageError;
use crate::web::payload::PayloadText;
use crate::web::render::PageTemplate;
use crate::web::request_context::RequestContext;
use crate::web::run_views::{self, FileRow};
use crate::web::urls;

/// Characters of an error, at most.
const LONGEST_ERROR: usize = 8000;

/// Decisions searched for the one of a task: as many as are stored per schedule.
const SEARCHED: usize = 200;

/// How a run ended, in a list.
#[derive(Debug, Serialize)]
pub struct Ending {
    outcome: &'static str,
    /// `good`, `bad`, `warn` or `plain`.
    tone: &'static str,
    icon: &'static str,
    /// `None`: not known.
    took: Option<String>,
    ended: InstantText,
}

impl Ending {
    /// As a page shows it.
    #[must_use]
    pub fn new(locale: &Locale, end: &RunEnd) -> Self {
        let (tone, icon) = tone_of(end.outcome);
        Self {
            outcome: end.outcome.as_str(),
            tone,
            icon,
            took: Some(locale.span(end.took())),
            ended: locale.moment(end.ended_at),
        }
    }
}

/// The colour and the icon of an outcome.
#[must_use]
pub fn tone_of(outcome: AttemptOutcome) -> (&'static str, &'static str) {
    match outcome {
        AttemptOutcome::Success => ("good", "check"),
        AttemptOutcome::Archived | AttemptOutcome::Lost => ("bad", "cross"),
        AttemptOutcome::Retry => ("warn", "warn"),
        AttemptOutcome::Cancelled => ("warn", "cross"),
        _ => ("plain", "skip"),
    }
}

/// One of the last runs of a function.
#[derive(Debug, Serialize)]
pub struct RunRow {
    url: String,
    task: String,
    started: InstantText,
    trigger: &'static str,
    /// Which event that was.
    event: Option<String>,
    attempt: u32,
    end: Ending,
    worker: String,
    error: Option<String>,
}

impl RunRow {
    /// A line of a list.
    #[must_use]
    pub fn new(locale: &Locale, record: &RunRecord) -> Self {
        Self {
            url: urls::task(record.queue.as_str(), record.task.as_str()),
            task: record.task.to_string(),
            started: locale.moment(record.started_at),
            trigger: record.trigger.as_str(),
            event: record.event.as_deref().map(|event| format::cut(event, IN_A_LIST)),
            attempt: record.attempt,
            end: Ending {
                took: record.known_length().map(|took| locale.span(took)),
                ..Ending::new(locale, &end_of(record))
            },
            worker: record.worker.clone(),
            error: record.error.as_deref().map(|error| format::cut(error, IN_A_LIST)),
        }
    }
}

fn end_of(record: &RunRecord) -> RunEnd {
    RunEnd {
        outcome: record.outcome,
        started_at: record.started_at,
        ended_at: record.ended_at,
    }
}

/// The page.
#[derive(Debug, Serialize)]
struct RunPage {
    id: String,
    title: String,
    /// The page of its function.
    function_url: Option<String>,
    queue: String,
    queue_url: String,
    schedule: Option<(String, String)>,
    trigger: Option<&'static str>,
    /// Which event that was.
    event: Option<String>,
    planned: Option<InstantText>,
    decided: Option<InstantText>,
    started: Option<InstantText>,
    attempt: Option<u32>,
    worker: String,
    /// The trace that its task belonged to.
    trace: Option<String>,
    end: Option<Ending>,
    error: Option<String>,
    /// Only functions of manifests have one.
    recorded: bool,
    output: Option<PayloadText>,
    output_url: String,
    files: Vec<FileRow>,
}

impl PageTemplate for RunPage {
    const TEMPLATE: &'static str = "run.html";
}

/// The record of a task that no longer exists.
///
/// # Errors
///
/// [`PageError::Gone`] if there is none.
pub async fn show(
    app: &AppState,
    cx: &RequestContext,
    queue: &QueueName,
    task: &TaskId,
) -> Result<Response, PageError> {
    let record = app.broker.run(queue, task).await?;
    let schedule = headers_in_id(task).remove(SCHEDULE_HEADER).map(ScheduleId::from_text);
    let decision = match &schedule {
        Some(id) => decision_of(app, id, task).await?,
        None => None,
    };
    let end = match (&record, &decision, &schedule) {
        (Some(record), ..) => Some(end_of(record)),
        (None, Some(decision), _) => decision.end,
        (None, None, Some(schedule)) => end_without_record(app, schedule, queue, task).await?,
        (None, None, None) => None,
    };
    if record.is_none() && decision.is_none() && end.is_none() {
        return Err(PageError::Gone("task", format::cut(task.as_str(), IN_A_LIST)));
    }
    let output = match &record {
        Some(record) => run_output::of(&*app.broker, record).await?,
        None => None,
    };
    let page = RunPage {
        output: output.as_deref().map(PayloadText::log),
        files: run_views::files(app, queue, task).await?,
        ..page(&cx.locale, queue, task, schedule, record, decision, end)
    };
    layout::show(app, cx, NavSection::Queues, &page)
}

async fn decision_of(app: &AppState, id: &ScheduleId, task: &TaskId) -> Result<Option<Decision>, PageError> {
    let decisions = app.broker.decisions(Some(id), SEARCHED).await?;
    let fired = |d: &Decision| matches!(d.kind, DecisionKind::Fired | DecisionKind::Manual);
    Ok(decisions
        .into_iter()
        .find(|d| fired(d) && d.task.as_ref() == Some(task)))
}

async fn end_without_record(
    app: &AppState,
    schedule: &ScheduleId,
    queue: &QueueName,
    task: &TaskId,
) -> Result<Option<RunEnd>, PageError> {
    let fired = FiredTask {
        schedule: schedule.clone(),
        queue: queue.clone(),
        task: task.clone(),
    };
    Ok(app.broker.ends(&[fired]).await?.into_iter().next().flatten())
}

fn page(
    locale: &Locale,
    queue: &QueueName,
    task: &TaskId,
    schedule: Option<ScheduleId>,
    record: Option<RunRecord>,
    decision: Option<Decision>,
    end: Option<RunEnd>,
) -> RunPage {
    let trigger = match (&record, &decision) {
        (Some(record), _) => Some(record.trigger.as_str()),
        (None, Some(decision)) => Some(match decision.kind {
            DecisionKind::Manual => "manual",
            _ if decision.reason == "catch_up" => "catch_up",
            _ => "schedule",
        }),
        (None, None) => None,
    };
    let occurrence = decision.as_ref().filter(|d| d.kind == DecisionKind::Fired);
    let known = record.as_ref();
    RunPage {
        id: task.to_string(),
        title: known
            .map(|r| r.name().to_owned())
            .or_else(|| schedule.as_ref().map(ToString::to_string))
            .unwrap_or_else(|| task.to_string()),
        function_url: known.map(|r| urls::function(&r.function)),
        queue: queue.to_string(),
        queue_url: urls::queue(queue.as_str()),
        schedule: schedule
            .or_else(|| known.and_then(|r| r.schedule.clone()))
            .map(|id| (id.to_string(), urls::schedule(id.as_str()))),
        trigger,
        event: known.and_then(|r| r.event.clone()),
        planned: known
            .and_then(|r| r.planned)
            .or(occurrence.map(|d| d.nominal))
            .map(|at| locale.moment(at)),
        decided: decision.as_ref().map(|d| locale.moment(d.decided_at)),
        started: end.map(|end| locale.moment(end.started_at)),
        attempt: known.map(|r| r.attempt),
        worker: known.map_or_else(String::new, |r| r.worker.clone()),
        trace: known.and_then(|r| r.trace.clone()),
        end: end.map(|end| Ending::new(locale, &end)),
        error: known
            .and_then(|r| r.error.as_deref())
            .map(|error| format::cut(error, LONGEST_ERROR)),
        recorded: record.is_some(),
        files: Vec::new(),
        output: None,
        output_url: format!("{}/output", urls::task(queue.as_str(), task.as_str())),
    }
}
