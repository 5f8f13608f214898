//! A run whose task is not in the store any more: what is on record of it. Also the rows that other pages have of runs.

use axum::response::Response;
use runner_core::schedule::{SCHEDULE_HEADER, ScheduleId, headers_in_id};
use runner_core::task::{QueueName, RunOutcome, TaskId};
use runner_queue::{Decision, DecisionKind, FiredTask, RunEnd, RunRecord};
use serde::Serialize;

use super::rows::IN_A_LIST;
use crate::web::desk::Desk;
use crate::web::fault::Fault;
use crate::web::frame::{self, Section};
use crate::web::paint::Page;
use crate::web::payload::Shown;
use crate::web::text::{self, Lens, Moment};
use crate::web::urls;
use crate::web::visitor::Visitor;

/// Characters of an error, at most.
const LONGEST_ERROR: usize = 8000;

/// Decisions that are searched for the one of a task: as many as are kept of a schedule.
const SEARCHED: usize = 200;

/// How a run ended, in a list.
#[derive(Debug, Serialize)]
pub struct Ending {
    outcome: &'static str,
    /// `good`, `bad`, `warn` or `plain`.
    tone: &'static str,
    icon: &'static str,
    took: String,
    ended: Moment,
}

impl Ending {
    /// As a page shows it.
    #[must_use]
    pub fn new(lens: &Lens, end: &RunEnd) -> Self {
        let (tone, icon) = tone_of(end.outcome);
        Self {
            outcome: end.outcome.as_str(),
            tone,
            icon,
            took: lens.span(end.took()),
            ended: lens.moment(end.ended_at),
        }
    }
}

/// The colour and the sign of an outcome.
#[must_use]
pub fn tone_of(outcome: RunOutcome) -> (&'static str, &'static str) {
    match outcome {
        RunOutcome::Success => ("good", "check"),
        RunOutcome::Archived | RunOutcome::Lost => ("bad", "cross"),
        RunOutcome::Retry => ("warn", "warn"),
        RunOutcome::Cancelled => ("warn", "cross"),
        _ => ("plain", "skip"),
    }
}

/// One of the last runs of a function.
#[derive(Debug, Serialize)]
pub struct RunRow {
    url: String,
    task: String,
    started: Moment,
    trigger: &'static str,
    attempt: u32,
    end: Ending,
    worker: String,
    error: Option<String>,
}

impl RunRow {
    /// A line of a list.
    #[must_use]
    pub fn new(lens: &Lens, record: &RunRecord) -> Self {
        Self {
            url: urls::task(record.queue.as_str(), record.task.as_str()),
            task: record.task.to_string(),
            started: lens.moment(record.started_at),
            trigger: record.trigger.as_str(),
            attempt: record.attempt,
            end: Ending::new(lens, &end_of(record)),
            worker: record.worker.clone(),
            error: record.error.as_deref().map(|error| text::cut(error, IN_A_LIST)),
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
    queue: String,
    queue_url: String,
    schedule: Option<(String, String)>,
    trigger: Option<&'static str>,
    planned: Option<Moment>,
    decided: Option<Moment>,
    started: Option<Moment>,
    attempt: Option<u32>,
    worker: String,
    end: Option<Ending>,
    error: Option<String>,
    /// Only functions of manifests have one.
    recorded: bool,
    output: Option<Shown>,
}

impl Page for RunPage {
    const TEMPLATE: &'static str = "run.html";
}

/// What is known of a task that is not there (any more).
///
/// # Errors
///
/// [`Fault::Gone`] if nothing is.
pub async fn show(desk: &Desk, visitor: &Visitor, queue: &QueueName, task: &TaskId) -> Result<Response, Fault> {
    let record = desk.broker.run(queue, task).await?;
    let schedule = headers_in_id(task).remove(SCHEDULE_HEADER).map(ScheduleId::from_text);
    let decision = match &schedule {
        Some(id) => decision_of(desk, id, task).await?,
        None => None,
    };
    let end = match (&record, &decision, &schedule) {
        (Some(record), ..) => Some(end_of(record)),
        (None, Some(decision), _) => decision.end,
        (None, None, Some(schedule)) => end_alone(desk, schedule, queue, task).await?,
        (None, None, None) => None,
    };
    if record.is_none() && decision.is_none() && end.is_none() {
        return Err(Fault::Gone("task", text::cut(task.as_str(), IN_A_LIST)));
    }
    let page = page(&visitor.lens, queue, task, schedule, record, decision, end);
    frame::show(desk, visitor, Section::Queues, &page)
}

async fn decision_of(desk: &Desk, id: &ScheduleId, task: &TaskId) -> Result<Option<Decision>, Fault> {
    let decisions = desk.broker.decisions(Some(id), SEARCHED).await?;
    let fired = |d: &Decision| matches!(d.kind, DecisionKind::Fired | DecisionKind::Manual);
    Ok(decisions
        .into_iter()
        .find(|d| fired(d) && d.task.as_ref() == Some(task)))
}

async fn end_alone(
    desk: &Desk,
    schedule: &ScheduleId,
    queue: &QueueName,
    task: &TaskId,
) -> Result<Option<RunEnd>, Fault> {
    let asked = FiredTask {
        schedule: schedule.clone(),
        queue: queue.clone(),
        task: task.clone(),
    };
    Ok(desk.broker.ends(&[asked]).await?.into_iter().next().flatten())
}

fn page(
    lens: &Lens,
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
            .map(|r| r.function.clone())
            .or_else(|| schedule.as_ref().map(ToString::to_string))
            .unwrap_or_else(|| task.to_string()),
        queue: queue.to_string(),
        queue_url: urls::queue(queue.as_str()),
        schedule: schedule
            .or_else(|| known.and_then(|r| r.schedule.clone()))
            .map(|id| (id.to_string(), urls::schedule(id.as_str()))),
        trigger,
        planned: known
            .and_then(|r| r.planned)
            .or(occurrence.map(|d| d.nominal))
            .map(|at| lens.moment(at)),
        decided: decision.as_ref().map(|d| lens.moment(d.decided_at)),
        started: end.map(|end| lens.moment(end.started_at)),
        attempt: known.map(|r| r.attempt),
        worker: known.map_or_else(String::new, |r| r.worker.clone()),
        end: end.map(|end| Ending::new(lens, &end)),
        error: known
            .and_then(|r| r.error.as_deref())
            .map(|error| text::cut(error, LONGEST_ERROR)),
        recorded: record.is_some(),
        output: record.as_ref().and_then(|r| r.output.as_deref()).map(Shown::log),
    }
}
