//! Actions on one queue: pause, resume.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use runner_core::task::QueueName;

use super::{Audit, done, redirect_with, settled};
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
    let (pause, key) = match verb.as_str() {
        "pause" => (true, "notice.queue.pause"),
        "resume" => (false, "notice.queue.resume"),
        _ => return Err(PageError::NoPage),
    };
    hold(&app, &cx, &name, pause).await?;
    Ok(redirect_with(&app, &form.back(), &done(key, name.to_string())))
}

/// Pauses or resumes a queue, with its audit lines. Returns whether that changed anything.
pub(crate) async fn hold(
    app: &AppState,
    cx: &RequestContext,
    name: &QueueName,
    pause: bool,
) -> Result<bool, PageError> {
    // Pausing stores a mark under the name; an unknown name must not get one.
    let known = app.broker.queues_of(std::slice::from_ref(name)).await?;
    let Some(info) = known.first() else {
        return Err(PageError::Gone("queue", name.to_string()));
    };
    let word = |paused| if paused { "paused" } else { "running" };
    let audited = |action| {
        Audit::intent(cx, action, name)
            .was(word(info.paused))
            .becomes(word(pause))
    };
    if pause {
        let audit = audited("queue.pause");
        settled(audit, app.broker.pause_queue(name).await)
    } else {
        let audit = audited("queue.resume");
        settled(audit, app.broker.resume_queue(name).await)
    }
}
