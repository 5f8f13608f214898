//! Actions on one task: run, archive, delete, cancel, stop for good.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use runner_core::task::{QueueName, TaskId, TaskState};
use runner_queue::{Action, ActionError, RunBy, stopped_by};

use super::{Audit, done, not_done, redirect_with, settled};
use crate::access::UserRole;
use crate::web::app_state::AppState;
use crate::web::page_error::{self, PageError};
use crate::web::pages::tasks::{id_bytes, queue_name, text_id};
use crate::web::request_context::{Form, Notice, RequestContext, SharedContext};
use crate::web::urls;

/// `POST /queue/tasks/{queue}/{id}/{verb}`
pub async fn one(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Path((queue, id, verb)): Path<(String, String, String)>,
    Extension(form): Extension<Arc<Form>>,
) -> Result<Response, PageError> {
    let name = queue_name(&queue)?;
    let bytes = id_bytes(&id)?;
    let Some(task) = text_id(&bytes) else {
        return delete_raw(&app, &cx, &name, &bytes, &verb).await;
    };
    let (queue, id) = (name.as_str(), task.as_str());
    let (action, audited, key) = match verb.as_str() {
        "run" => (Action::Run, "task.run", "notice.task.run"),
        "archive" => (Action::Archive, "task.archive", "notice.task.archive"),
        "delete" => (Action::Delete, "task.delete", "notice.task.delete"),
        "cancel" => {
            let notice = cancel(&app, &cx, &name, &task).await?;
            return Ok(redirect_with(&app, &form.back(), &notice));
        }
        "stop" => {
            let notice = stop(&app, &cx, &name, &task).await?;
            return Ok(redirect_with(&app, &form.back(), &notice));
        }
        _ => return Err(PageError::NoPage),
    };
    if action == Action::Delete {
        cx.may(UserRole::Admin)?;
    }
    let audit = Audit::intent(&cx, audited, format!("{queue}/{id}"));
    let result = app.broker.act(&name, &task, action).await;
    audit.outcome(match &result {
        Ok(()) => "done",
        Err(ActionError::Broker(_)) => "unknown",
        Err(_) => "refused",
    });
    // The page of a deleted task cannot be returned to.
    let gone = result.is_ok() && action == Action::Delete;
    let back = if gone && form.back() == urls::task(queue, id) {
        urls::queue(queue)
    } else {
        form.back()
    };
    let notice = match result {
        Ok(()) => done(key, id),
        Err(error) => not_done(page_error::refused(error)?),
    };
    Ok(redirect_with(&app, &back, &notice))
}

/// Deletes a task whose id is not text, the only action possible on it.
async fn delete_raw(
    app: &AppState,
    cx: &RequestContext,
    queue: &QueueName,
    id: &[u8],
    verb: &str,
) -> Result<Response, PageError> {
    if verb != "delete" {
        return Err(PageError::NoPage);
    }
    cx.may(UserRole::Admin)?;
    let shown = String::from_utf8_lossy(id).into_owned();
    let audit = Audit::intent(cx, "task.delete", format!("{queue}/{shown}"));
    let result = app.broker.delete_raw(queue, id).await;
    audit.outcome(match &result {
        Ok(()) => "done",
        Err(ActionError::Broker(_)) => "unknown",
        Err(_) => "refused",
    });
    let notice = match result {
        Ok(()) => done("notice.task.delete", shown),
        Err(error) => not_done(page_error::refused(error)?),
    };
    Ok(redirect_with(app, &urls::queue(queue.as_str()), &notice))
}

/// Asks the worker of a running task to end its attempt.
async fn cancel(app: &AppState, cx: &RequestContext, queue: &QueueName, id: &TaskId) -> Result<Notice, PageError> {
    let audit = Audit::intent(cx, "task.cancel", format!("{queue}/{id}"));
    let Some(audit) = running(app, audit, queue, id).await? else {
        return Ok(idle(id));
    };
    settled(audit, app.broker.cancel(id).await)?;
    Ok(done("notice.task.cancel", id.as_str()))
}

/// The same without a retry; workers in Go do not understand this request.
async fn stop(app: &AppState, cx: &RequestContext, queue: &QueueName, id: &TaskId) -> Result<Notice, PageError> {
    let audit = Audit::intent(cx, "task.stop", format!("{queue}/{id}"));
    let Some(audit) = running(app, audit, queue, id).await? else {
        return Ok(idle(id));
    };
    let servers = match app.broker.servers().await {
        Ok(servers) => servers,
        Err(error) => {
            audit.outcome("unknown");
            return Err(error.into());
        }
    };
    let not_understood = match RunBy::of(&servers, queue, id) {
        RunBy::Own => None,
        RunBy::Go(_) => Some("notice.task.go"),
        RunBy::Unknown(_) => Some("notice.task.unlisted"),
    };
    if let Some(key) = not_understood {
        audit.outcome("refused");
        return Ok(Notice {
            bad: true,
            ..done(key, id.as_str())
        });
    }
    let words = stopped_by(cx.name(), None);
    settled(audit, app.broker.stop(queue, id, &words).await)?;
    Ok(done("notice.task.stop", id.as_str()))
}

/// Requires the task to be running; if it is not, writes that as the outcome and returns `None`.
async fn running<'a>(
    app: &AppState,
    audit: Audit<'a>,
    queue: &QueueName,
    id: &TaskId,
) -> Result<Option<Audit<'a>>, PageError> {
    let found = match app.broker.glance(queue, id).await {
        Ok(found) => found,
        Err(error) => {
            audit.outcome("unknown");
            return Err(error.into());
        }
    };
    if found.is_none_or(|task| task.state != TaskState::Active) {
        audit.outcome("refused");
        return Ok(None);
    }
    Ok(Some(audit))
}

fn idle(id: &TaskId) -> Notice {
    Notice {
        bad: true,
        ..done("notice.task.idle", id.as_str())
    }
}
