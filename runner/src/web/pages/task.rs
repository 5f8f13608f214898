//! One task: its fields, why it does not run, its attempts, its output.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use runner_core::task::{Event, FUNCTION_PREFIX, TaskState, TraceContext};
use runner_core::trigger::AFTER_HEADER;
use runner_queue::{Attempt, BrokerError, RunBy, TaskInfo, WORKFLOW_HEADER, is_workflow_id};
use serde::Serialize;

use super::raw;
use super::run::{self, tone_of};
use super::tasks::{id_bytes, queue_name, task_id, text_id};
use crate::diagnose::{BrokerFacts, TaskFacts, why_task};
use crate::facts;
use crate::web::app_state::AppState;
use crate::web::format::{self, IN_A_LIST, InstantText, Locale};
use crate::web::layout::{self, NavSection};
use crate::web::page_error::PageError;
use crate::web::payload::PayloadText;
use crate::web::reasons::ReasonRow;
use crate::web::render::PageTemplate;
use crate::web::request_context::SharedContext;
use crate::web::run_views::{self, FileRow, LiveView};
use crate::web::urls;

/// Characters of an error, at most.
const LONGEST_ERROR: usize = 8000;
/// Headers shown, at most.
const HEADERS: usize = 100;

/// A finished attempt.
#[derive(Debug, Serialize)]
struct AttemptRow {
    number: u32,
    started: InstantText,
    took: String,
    outcome: &'static str,
    tone: &'static str,
    icon: &'static str,
    error: Option<String>,
    server: String,
    log: Option<PayloadText>,
}

/// The page.
#[derive(Debug, Serialize)]
struct TaskPage {
    id: String,
    url: String,
    back_url: String,
    queue: String,
    kind: String,
    state: &'static str,
    /// Why it is where it is.
    reasons: Vec<ReasonRow>,
    retried: u32,
    max_retry: u32,
    timeout: Option<String>,
    deadline: Option<InstantText>,
    retention: Option<String>,
    unique: bool,
    group: Option<String>,
    next_run: Option<InstantText>,
    pending_since: Option<InstantText>,
    lease_until: Option<InstantText>,
    filed_at: Option<InstantText>,
    completed_at: Option<InstantText>,
    last_failed_at: Option<InstantText>,
    error: String,
    payload: PayloadText,
    result: Option<PayloadText>,
    headers: Vec<(String, String)>,
    schedule: Option<(String, String)>,
    /// Its function, and the page of that.
    function: Option<(String, String)>,
    /// What started it, and which event that was.
    trigger: &'static str,
    event: Option<String>,
    /// The trace that it belongs to.
    trace: Option<String>,
    /// The task after which it was started, and its address.
    after: Option<(String, String)>,
    /// The workflow that it belongs to, and its address.
    workflow: Option<(String, String)>,
    attempts: Vec<AttemptRow>,
    /// Whether it runs, so that there may be a live view now or later.
    active: bool,
    live: Option<LiveView>,
    files: Vec<FileRow>,
    can_run: bool,
    /// Running it now would run it a second time.
    ended: bool,
    can_archive: bool,
    can_delete: bool,
    can_cancel: bool,
    /// Its worker understands a stop without retry.
    can_stop: bool,
}

impl PageTemplate for TaskPage {
    const TEMPLATE: &'static str = "task.html";
}

/// `GET /queue/tasks/{queue}/{id}`
pub async fn show(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Path((queue, id)): Path<(String, String)>,
) -> Result<Response, PageError> {
    let (name, bytes) = (queue_name(&queue)?, id_bytes(&id)?);
    let Some(task) = text_id(&bytes) else {
        return raw::show(&app, &cx, &name, &bytes).await;
    };
    let asked = tokio::try_join!(
        app.broker.glance(&name, &task),
        app.broker.attempts(&name, &task),
        facts::of_queue(&*app.broker, &name),
        run_views::files(&app, &name, &task),
    );
    let (found, attempts, facts, files) = match asked {
        Err(BrokerError::Corrupt { .. }) => return raw::show(&app, &cx, &name, &bytes).await,
        asked => asked?,
    };
    let Some(found) = found else {
        return run::show(&app, &cx, &name, &task).await;
    };
    let facts = BrokerFacts {
        fault: app.health.fault(),
        ..facts
    };
    let reasons = why_task(&TaskFacts::stored(&found, &attempts), &facts);
    let reasons = ReasonRow::all(&app, &cx.locale, &reasons);
    let page = TaskPage {
        live: LiveView::of(&app, &cx.locale, &found).await?,
        files,
        ..page(&cx.locale, &found, &attempts, reasons, &facts)
    };
    layout::show(&app, &cx, NavSection::Queues, &page)
}

fn page(
    locale: &Locale,
    task: &TaskInfo,
    attempts: &[Attempt],
    reasons: Vec<ReasonRow>,
    facts: &BrokerFacts,
) -> TaskPage {
    let servers = facts.servers.as_deref().unwrap_or_default();
    let record = &task.record;
    let moment = |at: Option<jiff::Timestamp>| at.map(|at| locale.moment(at));
    let span = |length: std::time::Duration| (!length.is_zero()).then(|| locale.span(length));
    let can = |event| task.state.after(event).is_ok();
    let schedule = record.headers.get("runner-schedule-id");
    let (trigger, event) = record.started_by();
    TaskPage {
        id: record.id.to_string(),
        url: urls::task(record.queue.as_str(), record.id.as_str()),
        back_url: urls::tasks(record.queue.as_str(), task.state.as_str()),
        queue: record.queue.to_string(),
        kind: format::cut(&record.kind, LONGEST_ERROR),
        state: task.state.as_str(),
        reasons,
        retried: record.retried,
        max_retry: record.max_retry,
        timeout: span(record.timeout),
        deadline: moment(record.deadline),
        retention: span(record.retention),
        unique: record.unique_key.is_some(),
        group: record.group.clone(),
        next_run: moment(task.next_run),
        pending_since: moment(task.pending_since),
        lease_until: moment(task.lease_until),
        filed_at: moment(task.filed_at),
        completed_at: moment(record.completed_at),
        last_failed_at: moment(record.last_failed_at),
        error: format::cut(&record.last_error, LONGEST_ERROR),
        payload: PayloadText::part(&record.payload, task.payload_bytes),
        result: task
            .result
            .as_ref()
            .filter(|r| !r.is_empty())
            .map(|r| PayloadText::part(r, task.result_bytes)),
        headers: record
            .headers
            .iter()
            .take(HEADERS)
            .map(|(name, value)| (format::cut(name, IN_A_LIST), format::cut(value, LONGEST_ERROR)))
            .collect(),
        schedule: schedule.map(|id| (id.clone(), urls::schedule(id))),
        function: record
            .kind
            .strip_prefix(FUNCTION_PREFIX)
            .map(|name| (format::cut(name, IN_A_LIST), urls::function(name))),
        trigger: trigger.as_str(),
        event,
        trace: TraceContext::of(&record.headers).map(|trace| trace.trace_id().to_string()),
        after: record.headers.get(AFTER_HEADER).and_then(|before| {
            let (queue, id) = before.split_once('/')?;
            Some((id.to_owned(), urls::task(queue, id)))
        }),
        workflow: record.headers.get(WORKFLOW_HEADER).and_then(|header| {
            let (id, _) = header.split_once('/').filter(|(id, _)| is_workflow_id(id))?;
            Some((id.to_owned(), urls::workflow(id)))
        }),
        attempts: attempts.iter().rev().map(|a| attempt(locale, a)).collect(),
        active: task.state == TaskState::Active,
        live: None,
        files: Vec::new(),
        can_run: can(Event::RunNow),
        ended: matches!(task.state, TaskState::Archived | TaskState::Completed),
        can_archive: can(Event::Archive),
        can_delete: can(Event::Delete),
        can_cancel: task.state == TaskState::Active,
        can_stop: !matches!(RunBy::of(servers, &record.queue, &record.id), RunBy::Go(_)),
    }
}

fn attempt(locale: &Locale, attempt: &Attempt) -> AttemptRow {
    let took = attempt.ended_at.duration_since(attempt.started_at);
    let (tone, icon) = tone_of(attempt.outcome);
    AttemptRow {
        number: attempt.number,
        started: locale.moment(attempt.started_at),
        took: locale.span(took.unsigned_abs()),
        outcome: attempt.outcome.as_str(),
        tone,
        icon,
        error: attempt.error.as_deref().map(|e| format::cut(e, LONGEST_ERROR)),
        server: attempt.server.clone(),
        log: attempt.log.as_deref().map(PayloadText::log),
    }
}

/// `GET /queue/tasks/{queue}/{id}/payload`: all of it, as a file that no browser takes for a page.
pub async fn payload(
    State(app): State<AppState>,
    Path((queue, id)): Path<(String, String)>,
) -> Result<Response, PageError> {
    let (name, task) = (queue_name(&queue)?, task_id(&id)?);
    let found = app.broker.task(&name, &task).await?;
    let found = found.ok_or_else(|| PageError::Gone("task", format::cut(&id, IN_A_LIST)))?;
    let headers: [(HeaderName, &str); 2] = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"payload.txt\""),
    ];
    Ok((headers, found.record.payload).into_response())
}
