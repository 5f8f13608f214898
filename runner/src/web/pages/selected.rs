//! What an action on ticked tasks would do, before it is done: how many, which, and what follows.
//!
//! Not here: the action (`act::selected`), and actions on all that match (`operations`).

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use runner_core::task::{QueueName, TaskId};
use runner_queue::Action;
use serde::Serialize;

use super::all_tasks::{self, picked};
use super::operations;
use crate::access::UserRole;
use crate::web::act::operations::read as asked;
use crate::web::app_state::AppState;
use crate::web::format::{self, IN_A_LIST};
use crate::web::layout::{self, NavSection};
use crate::web::page_error::PageError;
use crate::web::render::PageTemplate;
use crate::web::request_context::{RequestContext, SharedContext};
use crate::web::urls;

/// Tasks shown as a sample.
const SAMPLE: usize = 10;

/// What is to be done with which tasks.
pub struct Selection {
    pub verb: &'static str,
    pub action: Action,
    pub tasks: Vec<(QueueName, TaskId)>,
}

impl Selection {
    /// Reads a form: a verb, and ticked tasks.
    ///
    /// # Errors
    ///
    /// If it makes no sense, and if the user may not do it.
    pub fn read(cx: &RequestContext, fields: &[(String, String)]) -> Result<Self, PageError> {
        let get = |name: &str| {
            fields
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.as_str())
        };
        let (verb, action) = match get("verb") {
            Some("run") => ("run", Action::Run),
            Some("archive") => ("archive", Action::Archive),
            Some("delete") => ("delete", Action::Delete),
            _ => return Err(PageError::BadQuery("verb", "run, archive, delete".to_owned())),
        };
        cx.may(if action == Action::Delete {
            UserRole::Admin
        } else {
            UserRole::Operator
        })?;
        let picks = fields.iter().filter(|(key, _)| key == "pick");
        let tasks = picks.filter_map(|(_, pick)| picked(pick)).collect();
        Ok(Self { verb, action, tasks })
    }
}

/// A task in the sample.
#[derive(Debug, Serialize)]
struct SampleRow {
    id: String,
    url: String,
    queue: String,
}

/// The page.
#[derive(Debug, Serialize)]
struct SelectedPage {
    verb: &'static str,
    n: usize,
    sample: Vec<SampleRow>,
    picks: Vec<String>,
    back: String,
}

impl PageTemplate for SelectedPage {
    const TEMPLATE: &'static str = "selected.html";
}

/// `GET /queue/tasks/selected`
pub async fn show(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Query(fields): Query<Vec<(String, String)>>,
) -> Result<Response, PageError> {
    let back = fields.iter().find(|(key, _)| key == "back");
    let back = back.map_or("", |(_, back)| back.as_str());
    if fields.iter().any(|(key, _)| key == "all") {
        return operations::preview(&app, &cx, asked(&cx, &fields)?, back).await;
    }
    let selection = Selection::read(&cx, &fields)?;
    let sample = selection.tasks.iter().take(SAMPLE).map(|(queue, id)| SampleRow {
        id: format::cut(id.as_str(), IN_A_LIST),
        url: urls::task(queue.as_str(), id.as_str()),
        queue: queue.to_string(),
    });
    let picks = selection
        .tasks
        .iter()
        .map(|(queue, id)| all_tasks::pick_of(queue, id.as_str()));
    let page = SelectedPage {
        verb: selection.verb,
        n: selection.tasks.len(),
        sample: sample.collect(),
        picks: picks.collect(),
        back: urls::inside(back),
    };
    layout::show(&app, &cx, NavSection::Tasks, &page)
}
