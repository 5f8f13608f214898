//! Workflows: a list, one with its steps that have failed or not ended; cancel, and run failed steps again.

use runner_queue::WorkflowState;
use serde::Deserialize;
use utoipa::IntoParams;

use super::endpoint::{ApiCall, Endpoint, ListPart, Nothing};
use super::paging;
use super::problem::ApiProblem;
use super::tasks::Done;
use crate::facts::unfinished_steps;
use crate::objects::{StepObject, WorkflowDetailsObject, WorkflowObject};
use crate::web::act;

/// The kind of the cursors.
const WORKFLOWS: &str = "workflows";

/// What these calls are.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::list("/workflows", "Lists workflows, newest first.", list),
        Endpoint::get(
            "/workflows/{id}",
            "Shows one workflow with its failed and open steps.",
            one,
        ),
        Endpoint::act(
            "/workflows/{id}/cancel",
            "Cancels it: tasks that wait are deleted, those that run are stopped.",
            cancel,
        ),
        Endpoint::act("/workflows/{id}/retry", "Runs its failed steps again.", retry),
    ]
}

/// The query of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct WorkflowListQuery {
    /// Only those that are neither done nor cancelled.
    #[serde(default)]
    open: bool,
    /// Items of a part, 1 to 500; 50 if left out.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// `next` of the part before.
    #[param(min_length = 1)]
    cursor: Option<String>,
}

async fn list(call: ApiCall, query: WorkflowListQuery) -> Result<ListPart<WorkflowObject>, ApiProblem> {
    let limit = paging::limit(query.limit)?;
    let skip = paging::skipped(WORKFLOWS, query.cursor.as_deref())?;
    let broker = &*call.app.broker;
    let mut ids = broker.workflow_ids(query.open, skip, limit + 1).await?;
    let more = ids.len() > limit;
    ids.truncate(limit);
    let zone = &call.app.settings.zone;
    let mut items = Vec::new();
    for id in &ids {
        let head = broker.workflow(id).await?;
        items.extend(head.map(|head| WorkflowObject::of(&head, zone)));
    }
    let end = skip.saturating_add(ids.len());
    Ok(ListPart {
        items,
        next: more.then(|| paging::cursor(WORKFLOWS, &end.to_string())),
    })
}

async fn one(call: ApiCall, _: Nothing) -> Result<WorkflowDetailsObject, ApiProblem> {
    let id = call.name("id");
    let broker = &*call.app.broker;
    let Some(head) = broker.workflow(&id).await? else {
        return Err(ApiProblem::gone("workflow", &id));
    };
    let steps = unfinished_steps(broker, &head).await?;
    Ok(WorkflowDetailsObject {
        workflow: WorkflowObject::of(&head, &call.app.settings.zone),
        unfinished: steps.into_iter().filter_map(|step| StepObject::of(&id, step)).collect(),
    })
}

async fn cancel(call: ApiCall, _: Nothing) -> Result<Done, ApiProblem> {
    let id = call.name("id");
    match act::workflows::cancel(&call.app, &call.cx, &id).await? {
        None => Err(ApiProblem::gone("workflow", &id)),
        Some(WorkflowState::Cancelled) => Ok(Done::new("cancelled")),
        Some(WorkflowState::Cancelling) => Ok(Done::new("cancelling")),
        Some(over) => Err(ApiProblem::conflict(format!("workflow {id} is {}", over.as_str()))),
    }
}

async fn retry(call: ApiCall, _: Nothing) -> Result<Done, ApiProblem> {
    let id = call.name("id");
    match act::workflows::retry(&call.app, &call.cx, &id).await? {
        None => Err(ApiProblem::gone("workflow", &id)),
        Some(steps) => Ok(Done {
            changed: steps > 0,
            ..Done::new("retried")
        }),
    }
}
