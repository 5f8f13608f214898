//! Actions on schedules: run now, pause, resume; and a fresh look at the sources.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use runner_core::schedule::{Definition, ScheduleId};
use runner_core::task::{Run, Task, TaskId};

use super::{Audit, done, not_done, settled, told};
use crate::web::desk::Desk;
use crate::web::fault::Fault;
use crate::web::urls;
use crate::web::visitor::{Form, Visitor, Who};

/// `POST /queue/schedules/{id}/{verb}`
pub async fn one(
    State(desk): State<Desk>,
    Extension(visitor): Extension<Who>,
    Path((given, verb)): Path<(String, String)>,
    Extension(form): Extension<Arc<Form>>,
) -> Result<Response, Fault> {
    let given = urls::text_in(&given).unwrap_or(given);
    let id = ScheduleId::from_text(given.as_str());
    let plan = desk.catalog.plan();
    let definition = plan
        .schedules
        .get(&id)
        .ok_or_else(|| Fault::Gone("schedule", given.clone()))?;
    let key = match verb.as_str() {
        "run" => return run(&desk, &visitor, definition).await,
        "pause" => {
            let audit = Audit::intent(&visitor, "schedule.pause", &id);
            settled(audit, desk.broker.pause_schedule(&id, visitor.name()).await)?;
            "notice.schedule.pause"
        }
        "resume" => {
            let audit = Audit::intent(&visitor, "schedule.resume", &id);
            settled(audit, desk.broker.resume_schedule(&id).await)?;
            "notice.schedule.resume"
        }
        _ => return Err(Fault::NoPage),
    };
    Ok(told(&desk, &form.back(), &done(key, given)))
}

/// The schedule's task, now, beside its occurrences: cursor and decisions stay as they are.
async fn run(desk: &Desk, visitor: &Visitor, definition: &Definition) -> Result<Response, Fault> {
    let audit = Audit::intent(visitor, "schedule.run", &definition.id);
    let task = by_hand(definition);
    let url = task.id.as_ref().map_or_else(
        || urls::schedule(definition.id.as_str()),
        |id| urls::task(task.queue.as_str(), id.as_str()),
    );
    let answers = settled(audit, desk.broker.enqueue(&[task]).await)?;
    match answers.into_iter().next() {
        Some(Ok(_)) => Ok(told(desk, &url, &done("notice.schedule.run", definition.id.as_str()))),
        Some(Err(refused)) => {
            let back = urls::schedule(definition.id.as_str());
            Ok(told(desk, &back, &not_done(refused.to_string())))
        }
        None => Err(Fault::Internal),
    }
}

fn by_hand(definition: &Definition) -> Task {
    let mut task = definition.task.clone();
    let id = format!("{}@manual-{}", definition.id, TaskId::random());
    task.id = TaskId::new(id).ok();
    task.run = Run::Now;
    task.header("runner-schedule-id", definition.id.as_str())
        .header("runner-fire-kind", "manual")
}

/// `POST /queue/sync`
pub async fn sync(
    State(desk): State<Desk>,
    Extension(visitor): Extension<Who>,
    Extension(form): Extension<Arc<Form>>,
) -> Response {
    let audit = Audit::intent(&visitor, "sources.sync", "all");
    desk.catalog.sync_now();
    audit.outcome("done");
    told(&desk, &form.back(), &done("notice.sync", ""))
}
