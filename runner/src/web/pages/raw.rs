//! An unreadable task: the readable fields, its first bytes, and a way to delete it.

use axum::response::Response;
use runner_core::task::QueueName;
use runner_queue::RawTask;
use serde::Serialize;

use crate::web::app_state::AppState;
use crate::web::format::{self, IN_A_LIST};
use crate::web::layout::{self, NavSection};
use crate::web::page_error::PageError;
use crate::web::payload::PayloadText;
use crate::web::render::PageTemplate;
use crate::web::request_context::RequestContext;
use crate::web::urls;

/// A row of a list.
#[derive(Debug, Serialize)]
pub struct RawRow {
    id: String,
    url: String,
    /// Empty if it was not read because it is large.
    why: String,
    bytes: u64,
}

impl RawRow {
    /// A line of the list of `queue`.
    #[must_use]
    pub fn new(queue: &QueueName, task: &RawTask) -> Self {
        Self {
            id: format::cut(&String::from_utf8_lossy(&task.id), IN_A_LIST),
            url: urls::task_of(queue.as_str(), &task.id),
            why: task
                .why
                .as_deref()
                .map_or_else(String::new, |why| format::cut(why, IN_A_LIST)),
            bytes: task.bytes,
        }
    }
}

/// The page.
#[derive(Debug, Serialize)]
struct RawPage {
    id: String,
    url: String,
    queue: String,
    back_url: String,
    state: Option<&'static str>,
    why: String,
    view: PayloadText,
}

impl PageTemplate for RawPage {
    const TEMPLATE: &'static str = "raw.html";
}

/// The page of the task with this id.
///
/// # Errors
///
/// [`PageError::Gone`] if there is none.
pub async fn show(app: &AppState, cx: &RequestContext, queue: &QueueName, id: &[u8]) -> Result<Response, PageError> {
    let shown = format::cut(&String::from_utf8_lossy(id), IN_A_LIST);
    let found = app.broker.raw_task(queue, id).await?;
    let found = found.ok_or_else(|| PageError::Gone("task", shown.clone()))?;
    let state = found.state.map(runner_core::task::TaskState::as_str);
    let page = RawPage {
        id: shown,
        url: urls::task_of(queue.as_str(), id),
        queue: queue.to_string(),
        back_url: state.map_or_else(
            || urls::queue(queue.as_str()),
            |state| urls::tasks(queue.as_str(), state),
        ),
        state,
        why: found
            .why
            .as_deref()
            .map_or_else(String::new, |why| format::cut(why, IN_A_LIST * 4)),
        view: PayloadText::part(&found.head, found.bytes),
    };
    layout::show(app, cx, NavSection::Queues, &page)
}
