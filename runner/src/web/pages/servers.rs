//! Live servers and the tasks they work on.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use runner_queue::{ServerStatus, ServerView, Working};
use serde::Serialize;

use super::rows::IN_A_LIST;
use crate::web::desk::Desk;
use crate::web::fault::Fault;
use crate::web::frame::{self, Section};
use crate::web::paint::Page;
use crate::web::text::{self, Lens, Moment};
use crate::web::urls;
use crate::web::visitor::Who;

/// Tasks in work listed for each server.
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
    started: Moment,
    runs_for: String,
    deadline: Moment,
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
    started: Moment,
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
}

impl Page for ServersPage {
    const TEMPLATE: &'static str = "servers.html";
}

/// `GET /queue/servers`
pub async fn show(State(desk): State<Desk>, Extension(visitor): Extension<Who>) -> Result<Response, Fault> {
    let servers = desk.broker.servers().await?;
    let own = &desk.settings.instance;
    let page = ServersPage {
        servers: servers.iter().map(|s| server(&visitor.lens, s, own)).collect(),
    };
    frame::show(&desk, &visitor, Section::Servers, &page)
}

fn server(lens: &Lens, view: &ServerView, own: &str) -> ServerRow {
    let info = &view.info;
    ServerRow {
        host: text::cut(&info.host, IN_A_LIST),
        pid: info.pid,
        id: info.id.clone(),
        status: match info.status {
            ServerStatus::Active => "active",
            ServerStatus::Stopped => "stopped",
            ServerStatus::Closed => "closed",
        },
        started: lens.moment(info.started_at),
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
        working: view.working.iter().take(WORKING).map(|w| work(lens, w)).collect(),
        own: format!("{}:{}", info.host, info.pid) == own,
    }
}

fn work(lens: &Lens, working: &Working) -> WorkRow {
    let runs_for = lens.now.duration_since(working.started_at);
    WorkRow {
        id: working.id.to_string(),
        url: urls::task(working.queue.as_str(), working.id.as_str()),
        kind: text::cut(&working.kind, IN_A_LIST),
        queue: working.queue.to_string(),
        queue_url: urls::queue(working.queue.as_str()),
        started: lens.moment(working.started_at),
        runs_for: lens.span(runs_for.unsigned_abs()),
        deadline: lens.moment(working.deadline),
    }
}
