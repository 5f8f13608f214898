//! One search box for everything: the task of an id, or what else has that text in its name: schedules, functions, queues,
//! and tasks, as far as they can be searched in a moment.

use std::time::Duration;

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use runner_core::schedule::Definition;
use runner_core::task::{QueueName, TaskId, TaskState};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::all_tasks::ListQuery;
use crate::task_search::{TaskFilter, search};
use crate::web::app_state::AppState;
use crate::web::format::{self, IN_A_LIST};
use crate::web::layout::{self, NavSection};
use crate::web::page_error::PageError;
use crate::web::render::PageTemplate;
use crate::web::request_context::SharedContext;
use crate::web::urls;

/// Hits of each kind that are listed.
const LISTED: usize = 10;
/// Queues whose tasks are searched.
const QUEUES: usize = 200;
/// How long tasks are searched; the states that are left are named.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Characters of the text, at most.
const LONGEST: usize = 200;

/// The states in the order in which people look for tasks.
const STATES: [TaskState; 6] = [
    TaskState::Active,
    TaskState::Retry,
    TaskState::Archived,
    TaskState::Pending,
    TaskState::Scheduled,
    TaskState::Completed,
];

/// Something that was found.
#[derive(Debug, Serialize)]
struct Hit {
    name: String,
    url: String,
    /// What it is about, in a few words.
    about: String,
}

/// Tasks that were found in one state.
#[derive(Debug, Serialize)]
struct TaskHits {
    state: &'static str,
    tasks: Vec<Hit>,
    n: usize,
    /// The list of these tasks, which continues where this search ended.
    url: String,
    searched: u64,
    all: u64,
    /// `false`: there was no time left.
    looked: bool,
}

/// The page.
#[derive(Debug, Serialize)]
struct FindPage {
    text: String,
    schedules: Vec<Hit>,
    functions: Vec<Hit>,
    queues: Vec<Hit>,
    tasks: Vec<TaskHits>,
    any: bool,
}

impl PageTemplate for FindPage {
    const TEMPLATE: &'static str = "find.html";
}

/// The query of the search box.
#[derive(Debug, Deserialize)]
pub struct Search {
    id: Option<String>,
}

/// `GET /queue/find?id=`: to the task of this id, in the first queue that has one; or to what was found otherwise.
pub async fn show(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Query(search): Query<Search>,
) -> Result<Response, PageError> {
    let text = search.id.unwrap_or_default();
    let text = text.trim();
    if let Ok(id) = TaskId::new(text)
        && let Some(queue) = app.broker.find(&id).await?.first()
    {
        return Ok(Redirect::to(&urls::task(queue.as_str(), id.as_str())).into_response());
    }
    let text = format::cut(text, LONGEST);
    let plan = app.catalog.plan();
    if plan.schedules.keys().any(|id| id.as_str() == text) {
        return Ok(Redirect::to(&urls::schedule(&text)).into_response());
    }
    let needle = text.to_lowercase();
    let has = |name: &str| name.to_lowercase().contains(&needle);
    let of_schedule = |d: &&Definition| [d.id.as_str(), &d.name, &d.task.kind].into_iter().any(has);
    let schedules = plan.schedules.values().filter(of_schedule).take(LISTED);
    let names = app.broker.queue_names().await?;
    let page = FindPage {
        schedules: schedules
            .map(|d| Hit {
                name: format::cut(&d.name, IN_A_LIST),
                url: urls::schedule(d.id.as_str()),
                about: format::cut(&d.timing.text, IN_A_LIST),
            })
            .collect(),
        functions: functions(&app, has),
        queues: names
            .iter()
            .filter(|name| has(name.as_str()))
            .take(LISTED)
            .map(|name| Hit {
                name: name.to_string(),
                url: urls::queue(name.as_str()),
                about: String::new(),
            })
            .collect(),
        tasks: tasks(&app, names, &text).await?,
        any: false,
        text,
    };
    let any = [&page.schedules, &page.functions, &page.queues]
        .iter()
        .any(|hits| !hits.is_empty())
        || page.tasks.iter().any(|hits| hits.n > 0);
    layout::show(&app, &cx, NavSection::None, &FindPage { any, ..page })
}

fn functions(app: &AppState, has: impl Fn(&str) -> bool) -> Vec<Hit> {
    let all = app.catalog.functions();
    let found = all
        .iter()
        .filter(|(function, _)| has(&function.name) || has(&function.description));
    found
        .take(LISTED)
        .map(|(function, _)| Hit {
            name: function.name.clone(),
            url: urls::function(&function.name),
            about: format::cut(&function.description, IN_A_LIST),
        })
        .collect()
}

/// The first part of the tasks in each state, as long as there is time.
async fn tasks(app: &AppState, names: Vec<QueueName>, text: &str) -> Result<Vec<TaskHits>, PageError> {
    let names: Vec<QueueName> = names.into_iter().take(QUEUES).collect();
    let queues = app.broker.queues_of(&names).await?;
    let filter = TaskFilter {
        text: text.to_owned(),
        ..TaskFilter::default()
    };
    let until = Instant::now() + PATIENCE;
    let mut all = Vec::new();
    for state in STATES {
        let query = ListQuery {
            state: state.as_str().to_owned(),
            q: text.to_owned(),
            ..ListQuery::default()
        };
        let stored: u64 = queues.iter().filter_map(|queue| queue.counts.get(&state)).sum();
        let looked = Instant::now() < until && !text.is_empty();
        let found = match looked && stored > 0 {
            true => search(&*app.broker, &queues, state, &filter, 1).await?,
            false => Default::default(),
        };
        let tasks = found.tasks.iter().take(LISTED).map(|task| Hit {
            name: format::cut(task.record.id.as_str(), IN_A_LIST),
            url: urls::task(task.record.queue.as_str(), task.record.id.as_str()),
            about: format::cut(&task.record.kind, IN_A_LIST),
        });
        all.push(TaskHits {
            state: state.as_str(),
            tasks: tasks.collect(),
            n: found.tasks.len(),
            url: query.url(),
            searched: found.searched,
            all: stored,
            looked,
        });
    }
    all.retain(|hits| hits.all > 0);
    Ok(all)
}
