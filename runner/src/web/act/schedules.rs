//! Actions on schedules: run now, pause, resume; and a fresh look at the sources.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use runner_core::schedule::{Definition, Overlap, ScheduleId, manual_task};
use runner_queue::{ManualRun, ManuallyRun, Pause};

use super::{Audit, done, not_done, settled, told};
use crate::scheduler::{self, resume};
use crate::web::desk::Desk;
use crate::web::fault::Fault;
use crate::web::text;
use crate::web::urls;
use crate::web::visitor::{Form, Notice, Visitor, Who};

/// How long a pause with an end may last.
const SHORTEST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(366 * 86_400);

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
        "run" => return run(&desk, &visitor, definition, form.get("force").is_some()).await,
        "pause" => {
            let audit = Audit::intent(&visitor, "schedule.pause", &id);
            settled(
                audit,
                scheduler::pause(&*desk.broker, definition, &pause(&desk, &visitor, &form)?).await,
            )?;
            "notice.schedule.pause"
        }
        "resume" => {
            let audit = Audit::intent(&visitor, "schedule.resume", &id);
            settled(audit, resume(&*desk.broker, definition, None, visitor.name()).await)?;
            "notice.schedule.resume"
        }
        _ => return Err(Fault::NoPage),
    };
    Ok(told(&desk, &form.back(), &done(key, given)))
}

/// What the form says: why, and for how long.
fn pause(desk: &Desk, visitor: &Visitor, form: &Form) -> Result<Pause, Fault> {
    let length = form.get("for").filter(|length| !length.is_empty());
    let until = match length.map(runner_core::duration::parse) {
        None => None,
        Some(Ok(length)) if (SHORTEST_PAUSE..=LONGEST_PAUSE).contains(&length) => {
            let until = desk.clock.now().checked_add(length).map_err(|_| Fault::BadForm)?;
            jiff::Timestamp::from_second(until.as_second()).ok()
        }
        Some(_) => return Err(Fault::BadForm),
    };
    let pause = Pause {
        until,
        ..Pause::by(visitor.name())
    };
    Ok(pause.because(form.get("note")))
}

/// The schedule's task, now, beside its occurrences: the cursor stays where it is. While another run has not ended, the
/// page of the schedule asks first.
async fn run(desk: &Desk, visitor: &Visitor, definition: &Definition, force: bool) -> Result<Response, Fault> {
    let page = urls::schedule(definition.id.as_str());
    let run = ManualRun {
        id: definition.id.clone(),
        task: manual_task(definition),
        overlap: if force { Overlap::Allow } else { definition.overlap },
        by: visitor.name().to_owned(),
    };
    let audit = Audit::intent(visitor, "schedule.run", &definition.id);
    let answer = desk.broker.run_now(&run).await;
    audit.outcome(match &answer {
        Ok(ManuallyRun::Done(_)) => "done",
        Ok(_) => "refused",
        Err(_) => "unknown",
    });
    Ok(match answer? {
        ManuallyRun::Done(decision) => {
            let task = decision
                .task
                .as_ref()
                .map(|id| urls::task(run.task.queue.as_str(), id.as_str()));
            let notice = done("notice.schedule.run", definition.id.as_str());
            told(desk, task.as_deref().unwrap_or(&page), &notice)
        }
        ManuallyRun::Busy { task, what } => told(
            desk,
            &format!("{page}?ask=run"),
            &Notice {
                key: "notice.schedule.busy".to_owned(),
                what: text::cut(&format!("{task} {what}"), 300),
                bad: true,
            },
        ),
        ManuallyRun::Refused(refusal) => told(desk, &page, &not_done(refusal.to_string())),
    })
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
