//! Operations on many tasks: what one would do before it begins, how far one is, and those of the last weeks.
//!
//! Not here: what begins and cancels one (`act::operations`).

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use serde::Serialize;

use super::all_tasks::{self, ListQuery};
use crate::objects::operation_status;
use crate::operation::{self, Operation, OperationVerb};
use crate::web::app_state::AppState;
use crate::web::format::{self, IN_A_LIST, InstantText, Locale};
use crate::web::layout::{self, NavSection};
use crate::web::page_error::PageError;
use crate::web::render::PageTemplate;
use crate::web::request_context::{RequestContext, SharedContext};
use crate::web::urls;

/// Tasks shown as a sample.
const SAMPLE: usize = 5;

/// Above this many tasks their number has to be typed.
pub const TYPED_ABOVE: u64 = 1_000;

/// A task in the sample.
#[derive(Debug, Serialize)]
struct SampleRow {
    id: String,
    url: String,
    queue: String,
    kind: String,
}

/// What an operation would do.
#[derive(Debug, Serialize)]
struct OperationPreviewPage {
    verb: &'static str,
    state: &'static str,
    counted: u64,
    exact: bool,
    /// Whether the number has to be typed.
    typed: bool,
    /// Those that were found among the tasks that were searched.
    found: usize,
    searched: u64,
    /// Whether the state says since when a task is in it.
    bounded: bool,
    sample: Vec<SampleRow>,
    query: ListQuery,
    before: String,
    back: String,
}

impl PageTemplate for OperationPreviewPage {
    const TEMPLATE: &'static str = "operation_preview.html";
}

/// How many tasks an operation is about, and whether exactly as many: if not all were searched, at most.
pub fn counted(found: &crate::task_search::TasksFound, whole: bool) -> (u64, bool) {
    match (whole, found.more) {
        (true, _) => (found.all, true),
        (false, false) => (found.tasks.len() as u64, true),
        (false, true) => (found.all, false),
    }
}

/// The page before an operation.
///
/// # Errors
///
/// Those of the broker, and of queries that make no sense.
pub async fn preview(
    app: &AppState,
    cx: &RequestContext,
    (verb, query): (OperationVerb, ListQuery),
    back: &str,
) -> Result<Response, PageError> {
    let state = query.task_state()?;
    let filter = query.filter(&cx.locale)?;
    // Before the search: what comes later is left alone.
    let before = app.broker.now().await?;
    let found = all_tasks::find(app, &cx.locale, &query).await?;
    let (counted, exact) = counted(&found, filter.is_empty());
    let sample = found.tasks.iter().take(SAMPLE).map(|task| {
        let record = &task.record;
        SampleRow {
            id: format::cut(record.id.as_str(), IN_A_LIST),
            url: urls::task(record.queue.as_str(), record.id.as_str()),
            queue: record.queue.to_string(),
            kind: format::cut(&record.kind, IN_A_LIST),
        }
    });
    use runner_core::task::TaskState::{Archived, Completed, Pending, Retry};
    let page = OperationPreviewPage {
        verb: verb.as_str(),
        state: state.as_str(),
        counted,
        exact,
        typed: counted > TYPED_ABOVE,
        found: found.tasks.len(),
        searched: found.searched,
        bounded: matches!(state, Pending | Retry | Archived | Completed),
        sample: sample.collect(),
        query,
        before: before.to_string(),
        back: urls::inside(back),
    };
    layout::show(app, cx, NavSection::Tasks, &page)
}

/// One operation.
#[derive(Debug, Serialize)]
struct OperationRow {
    id: String,
    url: String,
    verb: &'static str,
    status: &'static str,
    target: String,
    by: String,
    note: Option<String>,
    at: InstantText,
    ended: Option<InstantText>,
    seen: Option<InstantText>,
    counted: u64,
    exact: bool,
    /// Of `counted`, for a bar.
    looked: u64,
    done: u64,
    skipped: u64,
    failed: u64,
    error: Option<String>,
    rate: u64,
    /// How long it will take at this rate, in words.
    left: Option<String>,
    instance: Option<String>,
    cancelled_by: Option<String>,
}

impl OperationRow {
    fn of(locale: &Locale, operation: Operation, now: jiff::Timestamp) -> Self {
        let rate = operation.rate(now);
        let status = operation_status(&operation, now);
        #[allow(clippy::cast_precision_loss)] // an estimate
        let left = operation.counted.saturating_sub(operation.looked) as f64 / rate.max(1.0);
        let left = (status == "running" && rate >= 1.0)
            .then(|| std::time::Duration::try_from_secs_f64(left.ceil()).ok())
            .flatten();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // never negative; saturates
        let rate = rate.round() as u64;
        Self {
            url: urls::operation(&operation.id),
            verb: operation.verb.as_str(),
            status,
            target: operation.target(),
            at: locale.moment(operation.at),
            ended: operation.ended.map(|(at, _)| locale.moment(at)),
            seen: operation.seen.map(|at| locale.moment(at)),
            counted: operation.counted,
            exact: operation.exact,
            looked: operation.looked.min(operation.counted),
            done: operation.done,
            skipped: operation.skipped,
            failed: operation.failed,
            error: operation.error,
            rate,
            left: left.map(|left| format::span(locale.lang, left)),
            instance: operation.instance,
            cancelled_by: operation.cancelled_by,
            by: operation.by,
            note: operation.note,
            id: operation.id,
        }
    }
}

/// The page of one.
#[derive(Debug, Serialize)]
struct OperationPage {
    operation: OperationRow,
}

impl PageTemplate for OperationPage {
    const TEMPLATE: &'static str = "operation.html";
}

/// `GET /queue/operations/{id}`
pub async fn show(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let found = operation::find(&*app.broker, &id).await?;
    let operation = found.ok_or_else(|| PageError::Gone("operation", format::cut(&id, IN_A_LIST)))?;
    let page = OperationPage {
        operation: OperationRow::of(&cx.locale, operation, app.broker.now().await?),
    };
    layout::show(&app, &cx, NavSection::Tasks, &page)
}

/// The list.
#[derive(Debug, Serialize)]
struct OperationsPage {
    rows: Vec<OperationRow>,
}

impl PageTemplate for OperationsPage {
    const TEMPLATE: &'static str = "operations.html";
}

/// `GET /queue/operations`
pub async fn list(State(app): State<AppState>, Extension(cx): Extension<SharedContext>) -> Result<Response, PageError> {
    let now = app.broker.now().await?;
    let all = operation::list(&*app.broker).await?;
    let page = OperationsPage {
        rows: all
            .into_iter()
            .map(|operation| OperationRow::of(&cx.locale, operation, now))
            .collect(),
    };
    layout::show(&app, &cx, NavSection::Tasks, &page)
}
