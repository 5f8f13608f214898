//! Enqueues another task for a task, into the broker that this one came from.
//!
//! The other task's id is made of this task's id, so that a second attempt does not enqueue a second one while the first
//! is known to the broker.

use jiff::Timestamp;
use runner_core::clock::{Clock, SystemClock};
use runner_core::function::{EnqueuePayload, EnqueueSpec, FunctionTemplateFault, TemplateScope};
use runner_core::task::{Run, Task};
use runner_sdk::{Ctx, NotEnqueued, Outcome, TaskError};

use crate::scope;

/// Enqueues the task.
pub(crate) async fn run(spec: &EnqueueSpec, function: &str, cx: &Ctx) -> Result<Outcome, TaskError> {
    let scope = scope::of(cx, function);
    let task = task(spec, &scope, cx).map_err(|fault| TaskError::skip(format!("enqueue: {fault}")))?;
    let (kind, queue) = (task.kind.clone(), task.queue.clone());
    let id = match cx.enqueue(task).await {
        Ok(id) => id.to_string(),
        Err(NotEnqueued::Duplicate) => {
            cx.log().push(
                "log",
                "the task exists already: an earlier attempt, or its uniqueness lock",
            );
            let result = serde_json::json!({"type": kind, "queue": queue.as_str(), "duplicate": true});
            return Ok(Outcome::success(result.to_string()));
        }
        Err(NotEnqueued::Invalid(why)) => return Err(TaskError::skip(format!("enqueue: {why}"))),
        Err(error) => return Err(TaskError::retry(format!("enqueue: {error}"))),
    };
    cx.log().push("log", &format!("enqueued {kind} {id} in {queue}"));
    let result = serde_json::json!({"id": id, "type": kind, "queue": queue.as_str()});
    Ok(Outcome::success(result.to_string()))
}

fn task(spec: &EnqueueSpec, scope: &TemplateScope, cx: &Ctx) -> Result<Task, FunctionTemplateFault> {
    // The options of its type in code, if it has one there; those of the function go over them.
    let mut task = cx.new_task(&spec.kind);
    task = match &spec.payload {
        EnqueuePayload::OfRun if cx.payload().is_empty() => task,
        EnqueuePayload::OfRun => task.payload(cx.payload().clone()),
        EnqueuePayload::None => task,
        EnqueuePayload::Text(text) => task.payload(text.fill(scope)?),
        EnqueuePayload::Json(json) => task.payload(json.value(scope)?.to_string()),
    };
    spec.options.apply(&mut task);
    for (name, text) in &spec.headers {
        task = task.header(name.as_str(), text.fill(scope)?);
    }
    if let Some(group) = &spec.group {
        task = task.group(group.fill(scope)?);
    }
    if let Some(delay) = spec.delay {
        task = task.run(Run::In(delay));
    }
    if let Some(deadline) = spec.deadline {
        let start = SystemClock.now();
        task = task.deadline(after(start, deadline + spec.delay.unwrap_or_default()));
    }
    Ok(task.id(format!("{}.{}", cx.id(), cx.queue())))
}

fn after(start: Timestamp, span: std::time::Duration) -> Timestamp {
    start.checked_add(span).unwrap_or(Timestamp::MAX)
}
