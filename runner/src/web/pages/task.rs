//! One task: what it is, why it does not run, what happened to it, what it printed.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use runner_core::task::{Event, State as TaskState};
use runner_queue::{Attempt, BrokerError, QueueInfo, RunBy, ServerView, TaskInfo};
use serde::Serialize;

use super::overview::served;
use super::raw;
use super::rows::IN_A_LIST;
use super::run::{self, tone_of};
use super::tasks::{id_bytes, queue_name, task_id, text_id};
use crate::web::desk::Desk;
use crate::web::fault::Fault;
use crate::web::frame::{self, Section};
use crate::web::paint::Page;
use crate::web::payload::Shown;
use crate::web::text::{self, Lens, Moment};
use crate::web::urls;
use crate::web::visitor::Who;

/// Characters of an error, at most.
const LONGEST_ERROR: usize = 8000;
/// Headers shown, at most.
const HEADERS: usize = 100;

/// One ended try.
#[derive(Debug, Serialize)]
struct AttemptRow {
    number: u32,
    started: Moment,
    took: String,
    outcome: &'static str,
    tone: &'static str,
    icon: &'static str,
    error: Option<String>,
    server: String,
    log: Option<Shown>,
}

/// Why the task is where it is: a key of the word list and what it speaks of.
#[derive(Debug, Serialize)]
struct Reason {
    word: &'static str,
    what: String,
    bad: bool,
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
    reasons: Vec<Reason>,
    retried: u32,
    max_retry: u32,
    timeout: Option<String>,
    deadline: Option<Moment>,
    retention: Option<String>,
    unique: bool,
    group: Option<String>,
    next_run: Option<Moment>,
    pending_since: Option<Moment>,
    lease_until: Option<Moment>,
    filed_at: Option<Moment>,
    completed_at: Option<Moment>,
    last_failed_at: Option<Moment>,
    error: String,
    payload: Shown,
    result: Option<Shown>,
    headers: Vec<(String, String)>,
    schedule: Option<(String, String)>,
    attempts: Vec<AttemptRow>,
    can_run: bool,
    /// Running it now is a second time.
    ended: bool,
    can_archive: bool,
    can_delete: bool,
    can_cancel: bool,
    /// Its worker understands a stop for good.
    can_stop: bool,
}

impl Page for TaskPage {
    const TEMPLATE: &'static str = "task.html";
}

/// `GET /queue/tasks/{queue}/{id}`
pub async fn show(
    State(desk): State<Desk>,
    Extension(visitor): Extension<Who>,
    Path((queue, id)): Path<(String, String)>,
) -> Result<Response, Fault> {
    let (name, bytes) = (queue_name(&queue)?, id_bytes(&id)?);
    let Some(task) = text_id(&bytes) else {
        return raw::show(&desk, &visitor, &name, &bytes).await;
    };
    let asked = tokio::try_join!(
        desk.broker.glance(&name, &task),
        desk.broker.attempts(&name, &task),
        desk.broker.queues_of(std::slice::from_ref(&name)),
        desk.broker.servers(),
    );
    let (found, attempts, queues, servers) = match asked {
        Err(BrokerError::Corrupt { .. }) => return raw::show(&desk, &visitor, &name, &bytes).await,
        asked => asked?,
    };
    let Some(found) = found else {
        return run::show(&desk, &visitor, &name, &task).await;
    };
    let info = queues.first();
    let page = page(&visitor.lens, &found, &attempts, info, &servers);
    frame::show(&desk, &visitor, Section::Queues, &page)
}

fn page(
    lens: &Lens,
    task: &TaskInfo,
    attempts: &[Attempt],
    queue: Option<&QueueInfo>,
    servers: &[ServerView],
) -> TaskPage {
    let record = &task.record;
    let moment = |at: Option<jiff::Timestamp>| at.map(|at| lens.moment(at));
    let span = |length: std::time::Duration| (!length.is_zero()).then(|| lens.span(length));
    let can = |event| task.state.after(event).is_ok();
    let schedule = record.headers.get("runner-schedule-id");
    TaskPage {
        id: record.id.to_string(),
        url: urls::task(record.queue.as_str(), record.id.as_str()),
        back_url: urls::tasks(record.queue.as_str(), task.state.as_str()),
        queue: record.queue.to_string(),
        kind: text::cut(&record.kind, LONGEST_ERROR),
        state: task.state.as_str(),
        reasons: reasons(lens, task, queue, servers),
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
        error: text::cut(&record.last_error, LONGEST_ERROR),
        payload: Shown::part(&record.payload, task.payload_bytes),
        result: task
            .result
            .as_ref()
            .filter(|r| !r.is_empty())
            .map(|r| Shown::part(r, task.result_bytes)),
        headers: record
            .headers
            .iter()
            .take(HEADERS)
            .map(|(name, value)| (text::cut(name, IN_A_LIST), text::cut(value, LONGEST_ERROR)))
            .collect(),
        schedule: schedule.map(|id| (id.clone(), urls::schedule(id))),
        attempts: attempts.iter().rev().map(|a| attempt(lens, a)).collect(),
        can_run: can(Event::RunNow),
        ended: matches!(task.state, TaskState::Archived | TaskState::Completed),
        can_archive: can(Event::Archive),
        can_delete: can(Event::Delete),
        can_cancel: task.state == TaskState::Active,
        can_stop: !matches!(RunBy::of(servers, &record.queue, &record.id), RunBy::Go(_)),
    }
}

fn attempt(lens: &Lens, attempt: &Attempt) -> AttemptRow {
    let took = attempt.ended_at.duration_since(attempt.started_at);
    let (tone, icon) = tone_of(attempt.outcome);
    AttemptRow {
        number: attempt.number,
        started: lens.moment(attempt.started_at),
        took: lens.span(took.unsigned_abs()),
        outcome: attempt.outcome.as_str(),
        tone,
        icon,
        error: attempt.error.as_deref().map(|e| text::cut(e, LONGEST_ERROR)),
        server: attempt.server.clone(),
        log: attempt.log.as_deref().map(Shown::log),
    }
}

/// What keeps the task where it is, the most telling first.
fn reasons(lens: &Lens, task: &TaskInfo, queue: Option<&QueueInfo>, servers: &[ServerView]) -> Vec<Reason> {
    let mut found = Vec::new();
    let mut say = |word, what: String, bad| found.push(Reason { word, what, bad });
    let name = task.record.queue.as_str();
    if let Some(waited_for) = &task.waiting_for {
        say("waiting", text::cut(waited_for, IN_A_LIST), true);
    }
    let to_come = matches!(
        task.state,
        TaskState::Pending | TaskState::Scheduled | TaskState::Retry | TaskState::Aggregating
    );
    if to_come {
        if queue.is_some_and(|q| q.paused) {
            say("paused", name.to_owned(), true);
        }
        if !served(servers, name) {
            say("unserved", name.to_owned(), true);
        } else if task.waiting_for.is_none() && !handled(servers, &task.record.kind) {
            say("unhandled", task.record.kind.clone(), true);
        }
    }
    match (task.state, task.next_run) {
        // One that waits for a handler is only put off until somebody looks again: that instant says nothing.
        (TaskState::Scheduled, Some(at)) if at > lens.now && task.waiting_for.is_some() => (),
        (TaskState::Scheduled, Some(at)) if at > lens.now => say("due", lens.ago(at), false),
        (TaskState::Retry, Some(at)) if at > lens.now => say("again", lens.ago(at), false),
        (TaskState::Scheduled | TaskState::Retry, Some(at)) => say("overdue", lens.ago(at), true),
        _ => (),
    }
    if task.state == TaskState::Archived && task.record.retried >= task.record.max_retry {
        match task.record.max_retry {
            0 => say("no-retry", String::new(), true),
            most => say("exhausted", most.to_string(), true),
        }
    }
    if task.state == TaskState::Active && task.lease_until.is_some_and(|end| end < lens.now) {
        say("silent", String::new(), true);
    }
    found
}

/// Whether some live server may run this type; one that lists nothing may run anything.
fn handled(servers: &[ServerView], kind: &str) -> bool {
    servers.iter().any(|server| {
        let handlers = &server.info.handlers;
        handlers.is_empty()
            || handlers.iter().any(|h| match h.strip_suffix('*') {
                Some(prefix) => kind.starts_with(prefix),
                None => h == kind,
            })
    })
}

/// `GET /queue/tasks/{queue}/{id}/payload`: all of it, as a file that no browser takes for a page.
pub async fn payload(State(desk): State<Desk>, Path((queue, id)): Path<(String, String)>) -> Result<Response, Fault> {
    let (name, task) = (queue_name(&queue)?, task_id(&id)?);
    let found = desk.broker.task(&name, &task).await?;
    let found = found.ok_or_else(|| Fault::Gone("task", text::cut(&id, IN_A_LIST)))?;
    let headers: [(HeaderName, &str); 2] = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"payload.txt\""),
    ];
    Ok((headers, found.record.payload).into_response())
}
