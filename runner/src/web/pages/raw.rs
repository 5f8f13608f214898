//! A task that cannot be read, as it lies in the store: what is known of it, its first bytes, and a way to delete it.

use axum::response::Response;
use runner_core::task::QueueName;
use runner_queue::RawTask;
use serde::Serialize;

use super::rows::IN_A_LIST;
use crate::web::desk::Desk;
use crate::web::fault::Fault;
use crate::web::frame::{self, Section};
use crate::web::paint::Page;
use crate::web::payload::Shown;
use crate::web::text;
use crate::web::urls;
use crate::web::visitor::Visitor;

/// One in a list.
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
            id: text::cut(&String::from_utf8_lossy(&task.id), IN_A_LIST),
            url: urls::task_of(queue.as_str(), &task.id),
            why: task
                .why
                .as_deref()
                .map_or_else(String::new, |why| text::cut(why, IN_A_LIST)),
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
    view: Shown,
}

impl Page for RawPage {
    const TEMPLATE: &'static str = "raw.html";
}

/// The page of what lies under this id.
///
/// # Errors
///
/// [`Fault::Gone`] if there is nothing.
pub async fn show(desk: &Desk, visitor: &Visitor, queue: &QueueName, id: &[u8]) -> Result<Response, Fault> {
    let shown = text::cut(&String::from_utf8_lossy(id), IN_A_LIST);
    let found = desk.broker.raw_task(queue, id).await?;
    let found = found.ok_or_else(|| Fault::Gone("task", shown.clone()))?;
    let state = found.state.map(runner_core::task::State::as_str);
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
            .map_or_else(String::new, |why| text::cut(why, IN_A_LIST * 4)),
        view: Shown::part(&found.head, found.bytes),
    };
    frame::show(desk, visitor, Section::Queues, &page)
}
