//! The action on a channel of notifications: a test.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use runner_core::notification::Notification;
use runner_queue::Enqueued;

use super::{Audit, done, not_done, redirect_with};
use crate::web::app_state::AppState;
use crate::web::page_error::PageError;
use crate::web::request_context::{Form, RequestContext, SharedContext};
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
    Ok(match send_test(&app, &cx, &channel).await? {
        Ok(enqueued) => {
            let page = urls::task(enqueued.queue.as_str(), enqueued.id.as_str());
            redirect_with(&app, &page, &done("notice.notification.test", channel))
        }
        Err(why) => redirect_with(&app, &form.back(), &not_done(why)),
    })
}

/// Enqueues a test of a channel, with its audit lines; the inner error says why it was refused.
pub(crate) async fn send_test(
    app: &AppState,
    cx: &RequestContext,
    channel: &str,
) -> Result<Result<Enqueued, String>, PageError> {
    if !app.settings.channels.iter().any(|known| known == channel) {
        return Err(PageError::Gone("channel", channel.to_owned()));
    }
    let audit = Audit::intent(cx, "notification.test", channel);
    let task = Notification::test(channel, app.clock.now());
    let answer = app.broker.enqueue(&[task]).await;
    let answer = answer.map(|all| all.into_iter().next());
    audit.outcome(match &answer {
        Ok(Some(Ok(_))) => "done",
        Ok(_) => "refused",
        Err(_) => "unknown",
    });
    Ok(match answer? {
        Some(Ok(enqueued)) => Ok(enqueued),
        refused => {
            let why = refused.and_then(Result::err);
            Err(why.map_or_else(String::new, |why| why.to_string()))
        }
    })
}
