//! What an action on many tasks would do, before it is done: how many, which, and what follows.
//!
//! Not here: the action (`act::selected`).

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use runner_core::schedule::stable_hash;
use runner_core::task::{QueueName, TaskId};
use runner_queue::Action;
use serde::Serialize;

use super::all_tasks::{self, ListQuery, picked};
use crate::access::UserRole;
use crate::web::app_state::AppState;
use crate::web::format::{self, IN_A_LIST};
use crate::web::layout::{self, NavSection};
use crate::web::page_error::PageError;
use crate::web::render::PageTemplate;
use crate::web::request_context::{RequestContext, SharedContext};
use crate::web::urls;

/// Tasks of one action, at most: they are done within a few seconds. The rest is left for the next one.
pub const MOST: usize = 1_000;
/// Tasks shown as a sample.
const SAMPLE: usize = 10;

/// What is to be done with which tasks.
pub struct Selection {
    pub verb: &'static str,
    pub action: Action,
    pub tasks: Vec<(QueueName, TaskId)>,
    /// How many match, before [`MOST`] cuts them off.
    pub all: usize,
    /// All that match this query, or those that were ticked.
    pub query: Option<ListQuery>,
}

impl Selection {
    /// Says which tasks these are: what is acted on must be what was shown.
    #[must_use]
    pub fn mark(&self) -> String {
        let mut named: Vec<String> = self.tasks.iter().map(|(queue, id)| format!("{queue}/{id}")).collect();
        named.sort_unstable();
        let parts: Vec<&str> = named.iter().map(String::as_str).collect();
        format!("{}-{:016x}", parts.len(), stable_hash(&parts))
    }

    /// Reads a form: a verb, and ticked tasks or a query.
    ///
    /// # Errors
    ///
    /// If it makes no sense, if the user may not do it, and those of the broker.
    pub async fn read(app: &AppState, cx: &RequestContext, fields: &[(String, String)]) -> Result<Self, PageError> {
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
        if get("all").is_none() {
            let picks = fields.iter().filter(|(key, _)| key == "pick");
            let tasks: Vec<_> = picks.filter_map(|(_, pick)| picked(pick)).collect();
            let all = tasks.len();
            return Ok(Self {
                verb,
                action,
                tasks,
                all,
                query: None,
            });
        }
        let text = |name: &str| get(name).unwrap_or_default().to_owned();
        let query = ListQuery {
            state: text("state"),
            queue: text("queue"),
            kind: text("type"),
            q: text("q"),
            error: text("error"),
            from: text("from"),
            to: text("to"),
            part: text("part"),
            ..ListQuery::default()
        };
        let found = all_tasks::find(app, &cx.locale, &query).await?;
        let all = found.tasks.len();
        let tasks = found
            .tasks
            .into_iter()
            .take(MOST)
            .map(|task| (task.record.queue, task.record.id));
        Ok(Self {
            verb,
            action,
            tasks: tasks.collect(),
            all,
            query: Some(query),
        })
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
    /// More match than are done at once.
    all: usize,
    sample: Vec<SampleRow>,
    picks: Vec<String>,
    query: Option<ListQuery>,
    /// See [`Selection::mark`].
    mark: String,
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
    let selection = Selection::read(&app, &cx, &fields).await?;
    let back = fields.iter().find(|(key, _)| key == "back");
    let sample = selection.tasks.iter().take(SAMPLE).map(|(queue, id)| SampleRow {
        id: format::cut(id.as_str(), IN_A_LIST),
        url: urls::task(queue.as_str(), id.as_str()),
        queue: queue.to_string(),
    });
    let picks = match &selection.query {
        Some(_) => Vec::new(),
        None => selection
            .tasks
            .iter()
            .map(|(queue, id)| all_tasks::pick_of(queue, id.as_str()))
            .collect(),
    };
    let page = SelectedPage {
        verb: selection.verb,
        mark: selection.mark(),
        n: selection.tasks.len(),
        all: selection.all,
        sample: sample.collect(),
        picks,
        back: urls::inside(back.map_or("", |(_, back)| back.as_str())),
        query: selection.query,
    };
    layout::show(&app, &cx, NavSection::Tasks, &page)
}
