//! Live servers and the tasks they work on.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use runner_queue::{ServerStatus, ServerView, Working};
use serde::Serialize;

use crate::web::app_state::AppState;
use crate::web::format::{self, IN_A_LIST, InstantText, Locale};
use crate::web::layout::{self, NavSection};
use crate::web::page_error::PageError;
use crate::web::render::PageTemplate;
use crate::web::request_context::SharedContext;
use crate::web::urls;
use crate::worker::{LastSign, lost_workers};

/// Running tasks listed for each server.
const WORKING: usize = 200;
/// Task types listed for each server.
const HANDLERS: usize = 100;

#[derive(Debug, Serialize)]
struct WorkRow {
    id: String,
    url: String,
    kind: String,
    queue: String,
    queue_url: String,
    started: InstantText,
    runs_for: String,
    deadline: InstantText,
}

#[derive(Debug, Serialize)]
struct QueueShare {
    name: String,
    url: String,
    priority: u32,
}

#[derive(Debug, Serialize)]
struct ServerRow {
    host: String,
    pid: u32,
    id: String,
    status: &'static str,
    started: InstantText,
    active: u32,
    concurrency: u32,
    strict: bool,
    queues: Vec<QueueShare>,
    handlers: Vec<String>,
    working: Vec<WorkRow>,
    own: bool,
}

/// The page.
#[derive(Debug, Serialize)]
struct ServersPage {
    servers: Vec<ServerRow>,
    lost: Vec<LostRow>,
}

/// A worker that fell silent.
#[derive(Debug, Serialize)]
struct LostRow {
    name: String,
    at: InstantText,
    active: u32,
}

impl LostRow {
    fn new(locale: &Locale, sign: &LastSign) -> Self {
        Self {
            name: format::cut(&format!("{}:{}", sign.host, sign.pid), IN_A_LIST),
            at: locale.moment(sign.at),
            active: sign.active,
        }
    }
}

impl PageTemplate for ServersPage {
    const TEMPLATE: &'static str = "servers.html";
}

/// `GET /queue/servers`
pub async fn show(State(app): State<AppState>, Extension(cx): Extension<SharedContext>) -> Result<Response, PageError> {
    let servers = app.broker.servers().await?;
    let lost = lost_workers(&*app.broker, &servers).await?;
    let own = &app.settings.instance;
    let page = ServersPage {
        servers: servers.iter().map(|s| server(&cx.locale, s, own)).collect(),
        lost: lost.iter().map(|sign| LostRow::new(&cx.locale, sign)).collect(),
    };
    layout::show(&app, &cx, NavSection::Servers, &page)
}

fn server(locale: &Locale, view: &ServerView, own: &str) -> ServerRow {
    let info = &view.info;
    ServerRow {
        host: format::cut(&info.host, IN_A_LIST),
        pid: info.pid,
        id: info.id.clone(),
        status: match info.status {
            ServerStatus::Active => "active",
            ServerStatus::Stopped => "stopped",
            ServerStatus::Closed => "closed",
        },
        started: locale.moment(info.started_at),
        active: info.active,
        concurrency: info.concurrency,
        strict: info.strict_priority,
        queues: info
            .queues
            .iter()
            .map(|(name, priority)| QueueShare {
                name: name.clone(),
                url: urls::queue(name),
                priority: *priority,
            })
            .collect(),
        handlers: info.handlers.iter().take(HANDLERS).cloned().collect(),
        working: view.working.iter().take(WORKING).map(|w| work(locale, w)).collect(),
        own: format!("{}:{}", info.host, info.pid) == own,
    }
}

fn work(locale: &Locale, working: &Working) -> WorkRow {
    let runs_for = locale.now.duration_since(working.started_at);
    WorkRow {
        id: working.id.to_string(),
        url: urls::task(working.queue.as_str(), working.id.as_str()),
        kind: format::cut(&working.kind, IN_A_LIST),
        queue: working.queue.to_string(),
        queue_url: urls::queue(working.queue.as_str()),
        started: locale.moment(working.started_at),
        runs_for: locale.span(runs_for.unsigned_abs()),
        deadline: locale.moment(working.deadline),
    }
}
