//! The tasks of one queue in one state, page by page. Not here: those of all queues (`all_tasks`).

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::{Redirect, Response};
use runner_core::task::{QueueName, TaskId, TaskState};
use runner_queue::{BrokerError, Page as Span, Pause, TaskInfo, TaskPage};
use serde::{Deserialize, Serialize};

use super::all_tasks::ListQuery;
use super::raw::RawRow;
use super::rows::{self, Pager, StateCount};
use crate::diagnose::is_served;
use crate::queue_pause;
use crate::web::app_state::AppState;
use crate::web::format::{self, IN_A_LIST, InstantText, Locale};
use crate::web::layout::{self, NavSection};
use crate::web::page_error::PageError;
use crate::web::payload;
use crate::web::render::PageTemplate;
use crate::web::request_context::SharedContext;
use crate::web::urls;

/// Default number of rows per page.
const ROWS: usize = 25;
/// The longest name or id that is searched, in bytes; its address fits into a request head.
const LONGEST_NAME: usize = 20_000;

/// Tasks of a list that are searched for a type, and how many per call: together a few megabytes.
const LOOKED_AT: usize = 2_000;
const PORTION: usize = 500;
/// Maximum characters of a searched type.
const LONGEST_FILTER: usize = 200;

/// One task in the list.
#[derive(Debug, Serialize)]
struct TaskRow {
    id: String,
    url: String,
    kind: String,
    payload: String,
    /// The instant that matters in this state, if any.
    when: Option<InstantText>,
    retried: u32,
    max_retry: u32,
    error: String,
    waiting_for: Option<String>,
}

/// The page.
#[derive(Debug, Serialize)]
struct TasksPage {
    queue: String,
    queue_url: String,
    /// The list of all queues, narrowed down to this one.
    search_url: String,
    state: &'static str,
    paused: bool,
    /// What is known of the pause.
    pause: Option<PauseText>,
    unserved: bool,
    latency: Option<String>,
    processed_today: u64,
    failed_today: u64,
    counts: Vec<StateCount>,
    /// The text that the types of the tasks contain; empty: any.
    kind: String,
    /// How many tasks were searched, if the list has more.
    looked_at: Option<usize>,
    tasks: Vec<TaskRow>,
    unreadable: Vec<RawRow>,
    pager: Pager,
}

/// What is known of the pause of a queue.
#[derive(Debug, Serialize)]
struct PauseText {
    by: String,
    at: Option<InstantText>,
    note: Option<String>,
    until: Option<InstantText>,
}

impl PauseText {
    fn new(locale: &Locale, pause: Pause) -> Self {
        Self {
            by: format::cut(&pause.by, IN_A_LIST),
            at: pause.at.map(|at| locale.moment(at)),
            note: pause.note,
            until: pause.until.map(|until| locale.moment(until)),
        }
    }
}

impl PageTemplate for TasksPage {
    const TEMPLATE: &'static str = "tasks.html";
}

/// The query of a list.
#[derive(Debug, Deserialize)]
pub struct TasksQuery {
    page: Option<String>,
    size: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// `GET /queue/queues/{queue}`: redirects to its pending tasks.
pub async fn enter(Path(queue): Path<String>) -> Redirect {
    let name = urls::text_in(&queue).unwrap_or(queue);
    Redirect::to(&urls::tasks(&name, TaskState::Pending.as_str()))
}

/// `GET /queue/queues/{queue}/{state}`
pub async fn show(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Path((queue, state)): Path<(String, String)>,
    Query(query): Query<TasksQuery>,
) -> Result<Response, PageError> {
    let state: TaskState = state.parse().map_err(|_| PageError::NoPage)?;
    let name = queue_name(&queue)?;
    let number = rows::page_number(query.page.as_deref())?;
    let size = rows::page_size(query.size.as_deref(), ROWS)?;
    let span = Span { number, size };
    let kind = format::cut(query.kind.as_deref().unwrap_or_default().trim(), LONGEST_FILTER);
    let (queues, servers, found) = tokio::try_join!(
        app.broker.queues_of(std::slice::from_ref(&name)),
        app.broker.servers(),
        listed(&app, &name, state, span, &kind),
    )?;
    let (found, looked_at) = found;
    let info = queues
        .first()
        .ok_or_else(|| PageError::Gone("queue", format::cut(&queue, IN_A_LIST)))?;
    let locale = &cx.locale;
    let pause = match info.paused {
        true => queue_pause::of(&*app.broker, &name).await?,
        false => None,
    };
    let page = TasksPage {
        queue_url: urls::queue(name.as_str()),
        search_url: ListQuery {
            state: state.as_str().to_owned(),
            queue: name.to_string(),
            kind: kind.clone(),
            ..ListQuery::default()
        }
        .url(),
        state: state.as_str(),
        paused: info.paused,
        pause: pause.map(|pause| PauseText::new(locale, pause)),
        unserved: info.size() > 0 && !is_served(&servers, name.as_str()),
        latency: (!info.latency.is_zero()).then(|| locale.span(info.latency)),
        processed_today: info.processed_today,
        failed_today: info.failed_today,
        counts: rows::counts(info),
        tasks: found.tasks.iter().map(|t| row(locale, t)).collect(),
        unreadable: found.unreadable.iter().map(|t| RawRow::new(&name, t)).collect(),
        pager: Pager::new(number, size, found.total, |n| {
            list_url(name.as_str(), state, n, size, &kind)
        }),
        queue: name.to_string(),
        looked_at,
        kind,
    };
    layout::show(&app, &cx, NavSection::Queues, &page)
}

fn list_url(queue: &str, state: TaskState, number: usize, size: usize, kind: &str) -> String {
    let mut url = format!("{}?page={number}", urls::tasks(queue, state.as_str()));
    if size != ROWS {
        url += &format!("&size={size}");
    }
    if !kind.is_empty() {
        url += &format!("&type={}", urls::encoded(kind));
    }
    url
}

/// The tasks of the page: of the whole list, or those whose types contain a text. For these the first [`LOOKED_AT`] are
/// searched; that number is returned if the list has more.
async fn listed(
    app: &AppState,
    queue: &QueueName,
    state: TaskState,
    span: Span,
    kind: &str,
) -> Result<(TaskPage, Option<usize>), BrokerError> {
    if kind.is_empty() {
        return Ok((app.broker.tasks(queue, state, span).await?, None));
    }
    let needle = kind.to_lowercase();
    let (mut matching, mut looked, mut total) = (Vec::new(), 0, 1);
    while looked < LOOKED_AT && (looked as u64) < total {
        let next = Span {
            number: looked / PORTION + 1,
            size: PORTION,
        };
        let page = app.broker.tasks(queue, state, next).await?;
        total = page.total;
        looked += PORTION;
        let of_type = |task: &TaskInfo| task.record.kind.to_lowercase().contains(&needle);
        matching.extend(page.tasks.into_iter().filter(of_type));
    }
    let more = total > looked as u64;
    let found = matching.len() as u64;
    let skip = (span.number - 1).saturating_mul(span.size);
    let page = TaskPage {
        tasks: matching.into_iter().skip(skip).take(span.size).collect(),
        unreadable: Vec::new(),
        total: found,
    };
    Ok((page, more.then_some(looked)))
}

/// A queue name from an address.
pub(crate) fn queue_name(text: &str) -> Result<QueueName, PageError> {
    let gone = || PageError::Gone("queue", format::cut(text, IN_A_LIST));
    let name = urls::text_in(text).filter(|name| name.len() <= LONGEST_NAME);
    name.and_then(|name| QueueName::new(name).ok()).ok_or_else(gone)
}

/// A task id from an address.
pub(crate) fn task_id(text: &str) -> Result<TaskId, PageError> {
    text_id(&id_bytes(text)?).ok_or_else(|| PageError::Gone("task", format::cut(text, IN_A_LIST)))
}

/// The same for an id that may not be text.
pub(crate) fn id_bytes(text: &str) -> Result<Vec<u8>, PageError> {
    let bytes = urls::name_in(text);
    match bytes.len() {
        1..=LONGEST_NAME => Ok(bytes),
        _ => Err(PageError::Gone("task", format::cut(text, IN_A_LIST))),
    }
}

/// These bytes as an id, if our own program could have written it.
pub(crate) fn text_id(bytes: &[u8]) -> Option<TaskId> {
    TaskId::new(std::str::from_utf8(bytes).ok()?).ok()
}

fn row(locale: &Locale, task: &TaskInfo) -> TaskRow {
    let record = &task.record;
    let when = match task.state {
        TaskState::Scheduled | TaskState::Retry => task.next_run,
        TaskState::Pending => task.pending_since,
        TaskState::Active => task.lease_until,
        TaskState::Archived => task.filed_at.or(record.last_failed_at),
        TaskState::Completed => record.completed_at,
        TaskState::Aggregating => None,
    };
    TaskRow {
        id: record.id.to_string(),
        url: urls::task(record.queue.as_str(), record.id.as_str()),
        kind: format::cut(&record.kind, IN_A_LIST),
        payload: payload::preview(&record.payload, task.payload_bytes),
        when: when.map(|at| locale.moment(at)),
        retried: record.retried,
        max_retry: record.max_retry,
        error: format::cut(&record.last_error, IN_A_LIST),
        waiting_for: task.waiting_for.as_deref().map(|w| format::cut(w, IN_A_LIST)),
    }
}
