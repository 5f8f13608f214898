//! Operations: one action on all tasks that match, in the background.

use axum::http::StatusCode;
use jiff::Timestamp;
use runner_core::task::{QueueName, TaskState};
use serde::Deserialize;
use utoipa::ToSchema;

use super::endpoint::{ApiCall, Created, Endpoint, ListPart, Nothing};
use super::enqueue::written;
use super::problem::ApiProblem;
use super::tasks::Done;
use crate::objects::OperationObject;
use crate::operation::{self, OperationVerb, TaskChoice};
use crate::task_search::{self, TaskFilter};
use crate::web::act;
use crate::web::pages::operations::counted;

/// Bytes of each text of a choice.
const LONGEST_TEXT: usize = 200;

/// What these calls are.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::list(
            "/operations",
            "Lists the operations that changed last, at most 64, the newest first.",
            list,
        ),
        Endpoint::get("/operations/{id}", "Shows an operation and how far it is.", show),
        Endpoint::create(
            "/operations",
            "Begins to run, archive or cancel all tasks that match, in the background.",
            begin,
        ),
        Endpoint::create(
            "/operations/delete",
            "Begins to delete all tasks that match, in the background.",
            begin_delete,
        ),
        Endpoint::act(
            "/operations/{id}/cancel",
            "Cancels an operation; it ends within a second.",
            cancel,
        ),
    ]
}

async fn list(call: ApiCall, _: Nothing) -> Result<ListPart<OperationObject>, ApiProblem> {
    let now = call.app.broker.now().await?;
    let zone = &call.app.settings.zone;
    let all = operation::list(&*call.app.broker).await?.into_iter();
    Ok(ListPart {
        items: all.map(|one| OperationObject::of(one, now, zone)).collect(),
        next: None,
    })
}

async fn show(call: ApiCall, _: Nothing) -> Result<OperationObject, ApiProblem> {
    let id = call.name("id");
    let found = operation::find(&*call.app.broker, &id).await?;
    let operation = found.ok_or_else(|| ApiProblem::gone("operation", &id))?;
    let now = call.app.broker.now().await?;
    Ok(OperationObject::of(operation, now, &call.app.settings.zone))
}

/// Which tasks, in one state.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChosenTasks {
    /// Their state.
    state: String,
    /// Only this queue.
    queue: Option<String>,
    /// A part of the type.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// A part of id, type, payload or error.
    text: Option<String>,
    /// An error without its numbers, as the dashboard lists them.
    error: Option<String>,
    /// Only those that ended, failed or are due from this instant on, RFC 3339.
    #[schema(format = DateTime)]
    from: Option<String>,
    /// The same, before this one.
    #[schema(format = DateTime)]
    to: Option<String>,
    /// Why, on one line.
    note: Option<String>,
}

/// What to do, and with which tasks.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOperation {
    /// `run`, `archive`, or `cancel` for active tasks.
    verb: String,
    /// Which tasks.
    tasks: ChosenTasks,
}

async fn begin(call: ApiCall, body: NewOperation) -> Result<Created<OperationObject>, ApiProblem> {
    let verb = OperationVerb::of(&body.verb).filter(|verb| *verb != OperationVerb::Delete);
    let verb = verb.ok_or_else(|| ApiProblem::bad_value("verb", "it must be run, archive or cancel"))?;
    start(&call, verb, body.tasks).await
}

async fn begin_delete(call: ApiCall, body: ChosenTasks) -> Result<Created<OperationObject>, ApiProblem> {
    start(&call, OperationVerb::Delete, body).await
}

async fn start(
    call: &ApiCall,
    verb: OperationVerb,
    tasks: ChosenTasks,
) -> Result<Created<OperationObject>, ApiProblem> {
    let broker = &*call.app.broker;
    let state: TaskState = tasks.state.parse().map_err(|_| {
        ApiProblem::bad_value(
            "state",
            format!("it must be one of {}", TaskState::ALL.map(TaskState::as_str).join(", ")),
        )
    })?;
    if !verb.suits(state) {
        let detail = format!("tasks that are {state} cannot be chosen for {}", verb.as_str());
        return Err(ApiProblem::new(StatusCode::CONFLICT, "api_conflict", detail.as_str()));
    }
    let instant = |name: &str, text: Option<&str>| -> Result<Option<Timestamp>, ApiProblem> {
        text.map(|text| written(name, text)).transpose()
    };
    let text = |name: &str, text: Option<String>| match text.unwrap_or_default() {
        long if long.len() > LONGEST_TEXT => Err(ApiProblem::bad_value(
            name,
            format!("it must have at most {LONGEST_TEXT} bytes"),
        )),
        text => Ok(text),
    };
    let queue = tasks.queue.map(QueueName::new).transpose();
    let filter = TaskFilter {
        queue: queue.map_err(|why| ApiProblem::bad_value("queue", why))?,
        kind: text("type", tasks.kind)?,
        text: text("text", tasks.text)?,
        error: text("error", tasks.error)?,
        from: instant("from", tasks.from.as_deref())?,
        to: instant("to", tasks.to.as_deref())?,
    };
    let before = broker.now().await?;
    let names = match &filter.queue {
        Some(queue) => vec![queue.clone()],
        None => broker.queue_names().await?,
    };
    let queues = broker.queues_of(&names[..names.len().min(QUEUES)]).await?;
    let found = task_search::search(broker, &queues, state, &filter, 1).await?;
    let counted = counted(&found, filter.is_empty());
    let choice = TaskChoice::new(state, &filter, before);
    let note = tasks.note.as_deref();
    let operation = act::operations::start(&call.app, &call.cx, verb, (choice, note), counted).await?;
    Ok(Created {
        at: format!("/operations/{}", operation.id),
        body: OperationObject::of(operation, before, &call.app.settings.zone),
        new: true,
    })
}

/// Queues whose tasks are counted before it begins.
const QUEUES: usize = 500;

async fn cancel(call: ApiCall, _: Nothing) -> Result<Done, ApiProblem> {
    let asked = act::operations::ask_to_end(&call.app, &call.cx, &call.name("id")).await?;
    let mut done = Done::new("cancelled");
    done.changed = asked;
    Ok(done)
}
