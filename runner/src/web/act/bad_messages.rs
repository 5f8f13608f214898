//! Actions on a message that could not become a task: run its function with it after all, delete it.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use runner_core::task::{QueueName, TaskId};
use runner_core::trigger::TriggerDefinition;
use runner_queue::Refusal;

use super::{Audit, done, not_done, redirect_with, settled};
use crate::access::UserRole;
use crate::trigger::SavedMessage;
use crate::web::app_state::AppState;
use crate::web::page_error::PageError;
use crate::web::pages::bad_messages::message_of;
use crate::web::request_context::{Form, RequestContext, SharedContext};
use crate::web::urls;

/// `POST /queue/bad-messages/{name}/{stamp}/{verb}`
pub async fn one(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Path((name, stamp, verb)): Path<(String, String, String)>,
    Extension(form): Extension<Arc<Form>>,
) -> Result<Response, PageError> {
    let message = match verb.as_str() {
        "run" => message_of(&app, &name, &stamp).await?,
        "delete" => {
            cx.may(UserRole::Admin)?;
            message_of(&app, &name, &stamp).await?
        }
        _ => return Err(PageError::NoPage),
    };
    if verb == "run" {
        return run(&app, &cx, &message, &form).await;
    }
    forget(&app, &cx, &message).await?;
    let list = urls::bad_messages(Some(message.trigger()));
    Ok(redirect_with(
        &app,
        &list,
        &done("notice.message.delete", message.trigger()),
    ))
}

async fn run(app: &AppState, cx: &RequestContext, message: &SavedMessage, form: &Form) -> Result<Response, PageError> {
    Ok(match run_function(app, cx, message).await? {
        RunMessage::Refused(why) => redirect_with(app, &form.back(), &not_done(why)),
        RunMessage::Done { queue, id, .. } => {
            let page = urls::task(queue.as_str(), id.as_str());
            redirect_with(app, &page, &done("notice.message.run", message.trigger()))
        }
    })
}

/// What a run of a message has led to.
pub(crate) enum RunMessage {
    /// Its task is on its queue.
    Done {
        /// The queue.
        queue: QueueName,
        /// The task.
        id: TaskId,
        /// Whether this call enqueued it; else an earlier one did.
        new: bool,
    },
    /// Nothing was enqueued; why.
    Refused(String),
}

/// Deletes a message, with its audit lines.
pub(crate) async fn forget(app: &AppState, cx: &RequestContext, message: &SavedMessage) -> Result<(), PageError> {
    let audit = Audit::intent(cx, "message.delete", &message.name);
    settled(audit, message.forget(&*app.broker).await)
}

/// Enqueues the task, then forgets the message: if that fails, it is listed until it is deleted, and a second run is refused.
pub(crate) async fn run_function(
    app: &AppState,
    cx: &RequestContext,
    message: &SavedMessage,
) -> Result<RunMessage, PageError> {
    let triggers = app.catalog.triggers();
    let trigger = triggers.iter().find(|trigger| trigger.id.as_str() == message.trigger());
    let trigger: &TriggerDefinition =
        trigger.ok_or_else(|| PageError::Gone("trigger", message.trigger().to_owned()))?;
    let audit = Audit::intent(cx, "message.run", &message.name);
    let delivery = match message.delivery(trigger) {
        Ok(delivery) => delivery,
        Err(why) => {
            audit.outcome("refused");
            return Ok(RunMessage::Refused(why));
        }
    };
    let (queue, given) = (delivery.task.queue.clone(), delivery.task.id.clone());
    let answer = app.broker.enqueue_once(&[delivery]).await;
    let answer = answer.map(|all| all.into_iter().next());
    audit.outcome(match &answer {
        Ok(Some(Ok(_))) => "done",
        Ok(_) => "refused",
        Err(_) => "unknown",
    });
    let (id, new) = match (answer?, given) {
        (Some(Ok(enqueued)), _) => (enqueued.id, true),
        // The first click of two was answered while this one was on its way.
        (Some(Err(Refusal::Received | Refusal::IdTaken)), Some(id)) => (id, false),
        (refused, _) => {
            let why = refused.and_then(Result::err);
            return Ok(RunMessage::Refused(why.map_or_else(String::new, |why| why.to_string())));
        }
    };
    message.forget(&*app.broker).await?;
    Ok(RunMessage::Done { queue, id, new })
}
