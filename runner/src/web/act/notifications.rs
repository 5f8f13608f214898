//! The action on a channel of notifications: a test.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use runner_core::notification::Notification;
use runner_queue::Refusal;

use super::{Audit, done, not_done, redirect_with};
use crate::web::app_state::AppState;
use crate::web::page_error::PageError;
use crate::web::request_context::{Form, SharedContext};
use crate::web::urls;

/// `POST /queue/notifications/{channel}/{verb}`: the page of the task then shows what the receiver answered.
pub async fn one(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Path((channel, verb)): Path<(String, String)>,
    Extension(form): Extension<Arc<Form>>,
) -> Result<Response, PageError> {
    if verb != "test" {
        return Err(PageError::NoPage);
    }
    let channel = urls::text_in(&channel).unwrap_or(channel);
    if !app.settings.channels.contains(&channel) {
        return Err(PageError::Gone("channel", channel));
    }
    let audit = Audit::intent(&cx, "notification.test", &channel);
    let task = Notification::test(&channel, app.clock.now());
    let answer = app.broker.enqueue(&[task]).await;
    let answer = answer.map(|all| all.into_iter().next());
    audit.outcome(match &answer {
        Ok(Some(Ok(_))) => "done",
        Ok(_) => "refused",
        Err(_) => "unknown",
    });
    Ok(match answer? {
        Some(Ok(enqueued)) => {
            let page = urls::task(enqueued.queue.as_str(), enqueued.id.as_str());
            redirect_with(&app, &page, &done("notice.notification.test", channel))
        }
        refused => {
            let why = refused
                .and_then(Result::err)
                .map_or_else(String::new, |why: Refusal| why.to_string());
            redirect_with(&app, &form.back(), &not_done(why))
        }
    })
}
