//! Live servers, the tasks they work on, and what is ordered to them and to their hosts.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use runner_queue::{OrderTarget, ServerStatus, ServerView, WorkerOrder, Working};
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
/// Hosts listed.
const HOSTS: usize = 200;
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
    /// Where orders to it go; `None` for one in Go, which takes none.
    orders_url: Option<String>,
    /// What is ordered to it, and to its host.
    orders: Vec<OrderRow>,
    /// Whether it is to claim no tasks, by its own order or else by that of its host.
    paused: bool,
}

/// What is ordered to a worker or a host.
#[derive(Debug, Serialize)]
struct OrderRow {
    for_host: bool,
    /// `pause`, `resume`, or nothing.
    pause: Option<&'static str>,
    concurrency: Option<u32>,
    by: String,
    at: InstantText,
    /// The concurrency of the worker is another one: it has not obeyed yet, or it obeys its own order.
    pending: bool,
}

/// A host of workers of this program, or with an order.
#[derive(Debug, Serialize)]
struct HostRow {
    name: String,
    url: String,
    workers: usize,
    order: Option<OrderRow>,
    paused: bool,
    concurrency: Option<u32>,
}

/// The page.
#[derive(Debug, Serialize)]
struct ServersPage {
    servers: Vec<ServerRow>,
    hosts: Vec<HostRow>,
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
    let orders = WorkerOrder::all(&*app.broker).await?;
    let own = &app.settings.instance;
    let page = ServersPage {
        servers: servers.iter().map(|s| server(&cx.locale, s, own, &orders)).collect(),
        hosts: hosts(&cx.locale, &servers, &orders),
        lost: lost.iter().map(|sign| LostRow::new(&cx.locale, sign)).collect(),
    };
    layout::show(&app, &cx, NavSection::Servers, &page)
}

type Orders = [(OrderTarget, WorkerOrder)];

fn order_for<'a>(orders: &'a Orders, target: &OrderTarget) -> Option<&'a WorkerOrder> {
    orders.iter().find(|(whom, _)| whom == target).map(|(_, order)| order)
}

fn order_row(locale: &Locale, order: &WorkerOrder, for_host: bool, pending: bool) -> OrderRow {
    OrderRow {
        for_host,
        pause: order.paused.map(|paused| if paused { "pause" } else { "resume" }),
        concurrency: order.concurrency,
        by: format::cut(&order.by, IN_A_LIST),
        at: locale.moment(order.at),
        pending,
    }
}

/// Hosts of workers that take orders, and further ones that have an order, by name.
fn hosts(locale: &Locale, servers: &[ServerView], orders: &Orders) -> Vec<HostRow> {
    let mut names: Vec<&str> = servers
        .iter()
        .filter(|s| takes_orders(s))
        .map(|s| s.info.host.as_str())
        .collect();
    names.extend(orders.iter().filter_map(|(target, _)| match target {
        OrderTarget::Host(host) => Some(host.as_str()),
        OrderTarget::Worker(_) => None,
    }));
    names.sort_unstable();
    names.dedup();
    let row = |host: &str| {
        let order = order_for(orders, &OrderTarget::Host(host.to_owned()));
        HostRow {
            name: format::cut(host, IN_A_LIST),
            url: urls::host(host),
            workers: servers.iter().filter(|server| server.info.host == *host).count(),
            order: order.map(|order| order_row(locale, order, true, false)),
            paused: order.is_some_and(|order| order.paused == Some(true)),
            concurrency: order.and_then(|order| order.concurrency),
        }
    };
    names.into_iter().take(HOSTS).map(row).collect()
}

/// Workers of this program announce what they run; those in Go do not, and read no orders.
fn takes_orders(view: &ServerView) -> bool {
    !view.info.handlers.is_empty()
}

fn server(locale: &Locale, view: &ServerView, own: &str, orders: &Orders) -> ServerRow {
    let info = &view.info;
    let [to_it, to_host] = OrderTarget::of(info);
    let both = [(order_for(orders, &to_it), false), (order_for(orders, &to_host), true)];
    let rows = both.iter().filter_map(|(order, for_host)| {
        let order = (*order)?;
        let slow = order.paused == Some(true) && info.status == ServerStatus::Active
            || order.concurrency.is_some_and(|n| n != info.concurrency);
        Some(order_row(locale, order, *for_host, slow))
    });
    let paused = both.iter().find_map(|(order, _)| order.and_then(|order| order.paused));
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
        orders_url: takes_orders(view).then(|| urls::server(&info.id)),
        orders: rows.collect(),
        paused: paused == Some(true),
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
