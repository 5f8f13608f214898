//! The actions on a workflow: cancel it as a whole, or run its failed steps again.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use runner_queue::{WorkflowState, cancel_workflow, retry_workflow};

use super::{Audit, done, otherwise, redirect_with, settled};
use crate::web::app_state::AppState;
use crate::web::page_error::PageError;
use crate::web::request_context::{Form, RequestContext, SharedContext};

/// `POST /queue/workflows/{id}/{verb}`
pub async fn one(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Path((id, verb)): Path<(String, String)>,
    Extension(form): Extension<Arc<Form>>,
) -> Result<Response, PageError> {
    let notice = match verb.as_str() {
        "cancel" => match cancel(&app, &cx, &id).await? {
            Some(WorkflowState::Cancelled) => done("notice.workflow.cancelled", id),
            Some(WorkflowState::Cancelling) => done("notice.workflow.cancelling", id),
            Some(_) => otherwise("notice.workflow.over", id),
            None => return Err(PageError::Gone("workflow", id)),
        },
        "retry" => match retry(&app, &cx, &id).await? {
            Some(0) => otherwise("notice.workflow.nothing", id),
            Some(_) => done("notice.workflow.retried", id),
            None => return Err(PageError::Gone("workflow", id)),
        },
        _ => return Err(PageError::NoPage),
    };
    Ok(redirect_with(&app, &form.back(), &notice))
}

/// Cancels a workflow, with its audit lines. Returns its state then; `None` if there is none.
pub(crate) async fn cancel(app: &AppState, cx: &RequestContext, id: &str) -> Result<Option<WorkflowState>, PageError> {
    let audit = Audit::intent(cx, "workflow.cancel", id);
    let head = settled(audit, cancel_workflow(&*app.broker, id, Some(&app.workflow_ends)).await)?;
    Ok(head.map(|head| head.place.state))
}

/// Runs the failed steps of a workflow again, with its audit lines. Returns how many; `None` if there is no such workflow.
pub(crate) async fn retry(app: &AppState, cx: &RequestContext, id: &str) -> Result<Option<u32>, PageError> {
    let audit = Audit::intent(cx, "workflow.retry", id);
    let steps = settled(audit, retry_workflow(&*app.broker, id, Some(&app.workflow_ends)).await)?;
    Ok(steps)
}
