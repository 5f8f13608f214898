//! Actions on one task: run, archive, delete, cancel, stop for good.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use runner_core::task::{QueueName, TaskId, TaskState};
use runner_queue::{Action, ActionError, RunBy, stopped_by};

use super::{Audit, done, not_done, otherwise, redirect_with, settled};
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
    let (action, key) = match verb.as_str() {
        "run" => (Action::Run, "notice.task.run"),
        "archive" => (Action::Archive, "notice.task.archive"),
        "delete" => (Action::Delete, "notice.task.delete"),
        "cancel" => {
            let notice = match cancel(&app, &cx, &name, &task).await? {
                StopAnswer::Asked => done("notice.task.cancel", id),
                other => other.notice(id),
            };
            return Ok(redirect_with(&app, &form.back(), &notice));
        }
        "stop" => {
            let notice = stop(&app, &cx, (&name, &task), None).await?.notice(id);
            return Ok(redirect_with(&app, &form.back(), &notice));
        }
        _ => return Err(PageError::NoPage),
    };
    if action == Action::Delete {
        cx.may(UserRole::Admin)?;
    }
    let result = perform(&app, &cx, (&name, &task), action).await;
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

/// Runs, archives or deletes a task, with its audit lines.
pub(crate) async fn perform(
    app: &AppState,
    cx: &RequestContext,
    (queue, id): (&QueueName, &TaskId),
    action: Action,
) -> Result<(), ActionError> {
    let audited = match action {
        Action::Run => "task.run",
        Action::Archive => "task.archive",
        Action::Delete => "task.delete",
    };
    let audit = Audit::intent(cx, audited, format!("{queue}/{id}"));
    let result = app.broker.act(queue, id, action).await;
    audit.outcome(match &result {
        Ok(()) => "done",
        Err(ActionError::Broker(_)) => "unknown",
        Err(_) => "refused",
    });
    result
}

/// The result of asking a worker to end a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopAnswer {
    /// It was asked.
    Asked,
    /// The task is not running.
    Idle,
    /// A worker in Go runs it, which only understands that an attempt is cancelled.
    Go,
    /// No server lists it yet, and a worker in Go may have it.
    Unlisted,
}

impl StopAnswer {
    /// The notice of a page.
    fn notice(self, id: &str) -> Notice {
        match self {
            Self::Asked => done("notice.task.stop", id),
            Self::Idle => otherwise("notice.task.idle", id),
            Self::Go => otherwise("notice.task.go", id),
            Self::Unlisted => otherwise("notice.task.unlisted", id),
        }
    }
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
pub(crate) async fn cancel(
    app: &AppState,
    cx: &RequestContext,
    queue: &QueueName,
    id: &TaskId,
) -> Result<StopAnswer, PageError> {
    let audit = Audit::intent(cx, "task.cancel", format!("{queue}/{id}"));
    let Some(audit) = running(app, audit, queue, id).await? else {
        return Ok(StopAnswer::Idle);
    };
    settled(audit, app.broker.cancel(id).await)?;
    Ok(StopAnswer::Asked)
}

/// The same without a retry; workers in Go do not understand this request.
pub(crate) async fn stop(
    app: &AppState,
    cx: &RequestContext,
    (queue, id): (&QueueName, &TaskId),
    why: Option<&str>,
) -> Result<StopAnswer, PageError> {
    let audit = Audit::intent(cx, "task.stop", format!("{queue}/{id}"));
    let Some(audit) = running(app, audit, queue, id).await? else {
        return Ok(StopAnswer::Idle);
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
        RunBy::Go(_) => Some(StopAnswer::Go),
        RunBy::Unknown(_) => Some(StopAnswer::Unlisted),
    };
    if let Some(answer) = not_understood {
        audit.outcome("refused");
        return Ok(answer);
    }
    let words = stopped_by(cx.name(), why);
    settled(audit, app.broker.stop(queue, id, &words).await)?;
    Ok(StopAnswer::Asked)
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
