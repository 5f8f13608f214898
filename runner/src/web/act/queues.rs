//! Actions on one queue: pause, resume.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use runner_core::task::QueueName;
use runner_queue::Pause;

use super::schedules::asked_pause;
use super::{Audit, done, redirect_with, settled};
use crate::queue_pause;
use crate::web::app_state::AppState;
use crate::web::page_error::PageError;
use crate::web::pages::tasks::queue_name;
use crate::web::request_context::{Form, RequestContext, SharedContext};

/// `POST /queue/queues/{queue}/{verb}`
pub async fn one(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Path((queue, verb)): Path<(String, String)>,
    Extension(form): Extension<Arc<Form>>,
) -> Result<Response, PageError> {
    let name = queue_name(&queue)?;
    let key = match verb.as_str() {
        "pause" => {
            hold(&app, &cx, &name, asked_pause(&app, &cx, &form)?).await?;
            "notice.queue.pause"
        }
        "resume" => {
            release(&app, &cx, &name).await?;
            "notice.queue.resume"
        }
        _ => return Err(PageError::NoPage),
    };
    Ok(redirect_with(&app, &form.back(), &done(key, name.to_string())))
}

/// Whether a queue is paused. Pausing stores a mark under the name; an unknown name must not get one.
async fn is_paused(app: &AppState, name: &QueueName) -> Result<bool, PageError> {
    let known = app.broker.queues_of(std::slice::from_ref(name)).await?;
    let info = known
        .first()
        .ok_or_else(|| PageError::Gone("queue", name.to_string()))?;
    Ok(info.paused)
}

fn word(paused: bool) -> &'static str {
    if paused { "paused" } else { "running" }
}

/// Pauses a queue, with its audit lines. Returns whether it was running.
pub(crate) async fn hold(
    app: &AppState,
    cx: &RequestContext,
    name: &QueueName,
    pause: Pause,
) -> Result<bool, PageError> {
    let before = is_paused(app, name).await?;
    let audit = Audit::intent(cx, "queue.pause", name)
        .because(pause.note.as_deref())
        .was(word(before));
    let audit = match pause.until {
        Some(until) => audit.becomes(format!("paused until {until:.0}")),
        None => audit.becomes("paused"),
    };
    settled(audit, queue_pause::hold(&*app.broker, name, pause).await)
}

/// Resumes a queue, with its audit lines. Returns whether it was paused.
pub(crate) async fn release(app: &AppState, cx: &RequestContext, name: &QueueName) -> Result<bool, PageError> {
    let before = is_paused(app, name).await?;
    let audit = Audit::intent(cx, "queue.resume", name)
        .was(word(before))
        .becomes("running");
    settled(audit, queue_pause::release(&*app.broker, name).await)
}
