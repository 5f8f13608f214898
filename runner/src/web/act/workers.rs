//! Orders to one worker or to all of a host: pause, resume, and how many tasks run at once. Workers obey within seconds.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use runner_queue::{OrderTarget, WorkerOrder};

use super::{Audit, done, not_done, redirect_with, settled};
use crate::web::app_state::AppState;
use crate::web::page_error::PageError;
use crate::web::request_context::{Form, RequestContext, SharedContext};
use crate::web::urls;

/// Most tasks at once, as in the settings.
pub(crate) const MAX_CONCURRENCY: u32 = 10_000;

/// What is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OrderChange {
    /// Take no new tasks.
    Pause,
    /// Take them again.
    Resume,
    /// Run this many at once; `None`: as the settings of the worker say.
    Concurrency(Option<u32>),
}

impl OrderChange {
    /// From the verb of an address and its form; the error is a notice.
    fn of_form(verb: &str, form: &Form) -> Result<Result<Self, String>, PageError> {
        Ok(match verb {
            "pause" => Ok(Self::Pause),
            "resume" => Ok(Self::Resume),
            "set" => match concurrency(form) {
                Ok(wanted) => Ok(Self::Concurrency(wanted)),
                Err(written) => Err(format!("{written:?} is no number from 1 to {MAX_CONCURRENCY}")),
            },
            _ => return Err(PageError::NoPage),
        })
    }

    fn notice(self) -> &'static str {
        match self {
            Self::Pause => "notice.worker.pause",
            Self::Resume => "notice.worker.resume",
            Self::Concurrency(_) => "notice.worker.set",
        }
    }
}

/// `POST /queue/servers/{id}/{verb}`
pub async fn one(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Path((id, verb)): Path<(String, String)>,
    Extension(form): Extension<Arc<Form>>,
) -> Result<Response, PageError> {
    let id = urls::text_in(&id).unwrap_or(id);
    let notice = match OrderChange::of_form(&verb, &form)? {
        Ok(change) => done(change.notice(), order_worker(&app, &cx, id, change).await?),
        Err(why) => not_done(why),
    };
    Ok(redirect_with(&app, &form.back(), &notice))
}

/// `POST /queue/hosts/{host}/{verb}`
pub async fn host(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Path((host, verb)): Path<(String, String)>,
    Extension(form): Extension<Arc<Form>>,
) -> Result<Response, PageError> {
    let host = urls::text_in(&host).unwrap_or(host);
    let notice = match OrderChange::of_form(&verb, &form)? {
        Ok(change) => done(change.notice(), order_host(&app, &cx, host, change).await?),
        Err(why) => not_done(why),
    };
    Ok(redirect_with(&app, &form.back(), &notice))
}

/// Gives an order to one worker. Returns its name, `host:pid`.
pub(crate) async fn order_worker(
    app: &AppState,
    cx: &RequestContext,
    id: String,
    change: OrderChange,
) -> Result<String, PageError> {
    let servers = app.broker.servers().await?;
    let Some(worker) = servers.iter().find(|server| server.info.id == id) else {
        return Err(PageError::Gone("server", id));
    };
    let name = worker.info.name();
    let of_host = WorkerOrder::read(&*app.broker, &OrderTarget::Host(worker.info.host.clone())).await?;
    give(app, cx, (OrderTarget::Worker(id), &name, of_host), change).await?;
    Ok(name)
}

/// Gives an order to all workers of a host. Returns its name.
pub(crate) async fn order_host(
    app: &AppState,
    cx: &RequestContext,
    host: String,
    change: OrderChange,
) -> Result<String, PageError> {
    let target = OrderTarget::Host(host.clone());
    let servers = app.broker.servers().await?;
    let known = servers.iter().any(|server| server.info.host == host);
    // One without a worker now may have an order that is to be taken back; any other name is a slip.
    if !known && WorkerOrder::read(&*app.broker, &target).await?.is_empty() {
        return Err(PageError::Gone("host", host));
    }
    give(app, cx, (target, &host, WorkerOrder::default()), change).await?;
    Ok(host)
}

async fn give(
    app: &AppState,
    cx: &RequestContext,
    (target, name, of_host): (OrderTarget, &str, WorkerOrder),
    change: OrderChange,
) -> Result<(), PageError> {
    let mut order = WorkerOrder::read(&*app.broker, &target).await?;
    let words = |order: &WorkerOrder| {
        let at_once = match order.concurrency {
            Some(n) => format!("{n} at once"),
            None => "as many at once as its settings say".to_owned(),
        };
        match order.paused {
            Some(true) => format!("paused, {at_once}"),
            Some(false) => format!("not paused, {at_once}"),
            None => at_once,
        }
    };
    let before = words(&order);
    let action = match change {
        OrderChange::Pause => {
            order.pause();
            "worker.pause"
        }
        OrderChange::Resume => {
            order.resume(&of_host);
            "worker.resume"
        }
        OrderChange::Concurrency(wanted) => {
            order.concurrency = wanted;
            "worker.set"
        }
    };
    order.by = cx.name().to_owned();
    order.at = cx.locale.now;
    let audit = Audit::intent(cx, action, name).was(before).becomes(words(&order));
    settled(audit, order.write(&*app.broker, &target).await)
}

/// `None`: as the settings of the worker say, which an empty field means.
fn concurrency(form: &Form) -> Result<Option<u32>, &str> {
    let written = form.get("concurrency").unwrap_or_default().trim();
    if written.is_empty() {
        return Ok(None);
    }
    let number = written.parse().ok().filter(|n| (1..=MAX_CONCURRENCY).contains(n));
    number.map(Some).ok_or(written)
}
