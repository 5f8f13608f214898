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
const MAX_CONCURRENCY: u32 = 10_000;

/// `POST /queue/servers/{id}/{verb}`
pub async fn one(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Path((id, verb)): Path<(String, String)>,
    Extension(form): Extension<Arc<Form>>,
) -> Result<Response, PageError> {
    let id = urls::text_in(&id).unwrap_or(id);
    let servers = app.broker.servers().await?;
    let Some(worker) = servers.iter().find(|server| server.info.id == id) else {
        return Err(PageError::Gone("server", id));
    };
    let name = format!("{}:{}", worker.info.host, worker.info.pid);
    let of_host = WorkerOrder::read(&*app.broker, &OrderTarget::Host(worker.info.host.clone())).await?;
    give(&app, &cx, (OrderTarget::Worker(id), name, of_host), &verb, &form).await
}

/// `POST /queue/hosts/{host}/{verb}`
pub async fn host(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Path((host, verb)): Path<(String, String)>,
    Extension(form): Extension<Arc<Form>>,
) -> Result<Response, PageError> {
    let host = urls::text_in(&host).unwrap_or(host);
    let target = OrderTarget::Host(host.clone());
    let servers = app.broker.servers().await?;
    let known = servers.iter().any(|server| server.info.host == host);
    // One without a worker now may have an order that is to be taken back; any other name is a slip.
    if !known && WorkerOrder::read(&*app.broker, &target).await?.is_empty() {
        return Err(PageError::Gone("host", host));
    }
    give(&app, &cx, (target, host, WorkerOrder::default()), &verb, &form).await
}

async fn give(
    app: &AppState,
    cx: &RequestContext,
    (target, name, of_host): (OrderTarget, String, WorkerOrder),
    verb: &str,
    form: &Form,
) -> Result<Response, PageError> {
    let mut order = WorkerOrder::read(&*app.broker, &target).await?;
    let (action, notice) = match verb {
        "pause" => {
            order.pause();
            ("worker.pause", "notice.worker.pause")
        }
        "resume" => {
            order.resume(&of_host);
            ("worker.resume", "notice.worker.resume")
        }
        "set" => match concurrency(form) {
            Ok(wanted) => {
                order.concurrency = wanted;
                ("worker.set", "notice.worker.set")
            }
            Err(written) => {
                let why = format!("{written:?} is no number from 1 to {MAX_CONCURRENCY}");
                return Ok(redirect_with(app, &form.back(), &not_done(why)));
            }
        },
        _ => return Err(PageError::NoPage),
    };
    order.by = cx.name().to_owned();
    order.at = cx.locale.now;
    let audit = Audit::intent(cx, action, &name);
    settled(audit, order.write(&*app.broker, &target).await)?;
    Ok(redirect_with(app, &form.back(), &done(notice, name)))
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
