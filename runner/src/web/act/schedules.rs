//! Actions on schedules: run now, pause, resume; and reading the sources again.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use runner_core::schedule::{Definition, Overlap, ScheduleId, manual_task};
use runner_core::task::Task;
use runner_queue::{ManualRun, ManuallyRun, Pause};

use super::{Audit, done, not_done, redirect_with, settled};
use crate::scheduler::{self, resume};
use crate::web::app_state::AppState;
use crate::web::format;
use crate::web::page_error::PageError;
use crate::web::request_context::{Form, Notice, RequestContext, SharedContext};
use crate::web::urls;

/// The bounds of a pause with an end.
const SHORTEST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(366 * 86_400);

/// `POST /queue/schedules/{id}/{verb}`
pub async fn one(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Path((text, verb)): Path<(String, String)>,
    Extension(form): Extension<Arc<Form>>,
) -> Result<Response, PageError> {
    let text = urls::text_in(&text).unwrap_or(text);
    let id = ScheduleId::from_text(text.as_str());
    if let Some(edited) = super::row_form::act(&app, &cx, (&id, &verb), &form).await? {
        return Ok(edited);
    }
    let plan = app.catalog.plan();
    let definition = plan
        .schedules
        .get(&id)
        .ok_or_else(|| PageError::Gone("schedule", text.clone()))?;
    let key = match verb.as_str() {
        "run" => return run(&app, &cx, definition, form.get("force").is_some()).await,
        "pause" => {
            hold(&app, &cx, definition, &asked_pause(&app, &cx, &form)?).await?;
            "notice.schedule.pause"
        }
        "resume" => {
            release(&app, &cx, definition).await?;
            "notice.schedule.resume"
        }
        _ => return Err(PageError::NoPage),
    };
    Ok(redirect_with(&app, &form.back(), &done(key, text)))
}

/// Pauses a schedule, with its audit lines.
pub(crate) async fn hold(
    app: &AppState,
    cx: &RequestContext,
    definition: &Definition,
    pause: &Pause,
) -> Result<(), PageError> {
    let audit = Audit::intent(cx, "schedule.pause", &definition.id).because(pause.note.as_deref());
    let audit = match pause.until {
        Some(until) => audit.becomes(format!("paused until {until:.0}")),
        None => audit.becomes("paused"),
    };
    settled(audit, scheduler::pause(&*app.broker, definition, pause).await)?;
    app.schedule_health.forget();
    Ok(())
}

/// Resumes a schedule from now on, with its audit lines.
pub(crate) async fn release(app: &AppState, cx: &RequestContext, definition: &Definition) -> Result<(), PageError> {
    let audit = Audit::intent(cx, "schedule.resume", &definition.id);
    settled(audit, resume(&*app.broker, definition, None, cx.name()).await)?;
    app.schedule_health.forget();
    Ok(())
}

/// Enqueues a schedule's task now, with its audit lines.
pub(crate) async fn run_now(
    app: &AppState,
    cx: &RequestContext,
    definition: &Definition,
    task: Task,
    force: bool,
) -> Result<ManuallyRun, PageError> {
    let run = ManualRun {
        id: definition.id.clone(),
        task,
        overlap: if force { Overlap::Allow } else { definition.overlap },
        by: cx.name().to_owned(),
    };
    let audit = Audit::intent(cx, "schedule.run", &definition.id);
    let answer = app.broker.run_now(&run).await;
    audit.outcome(match &answer {
        Ok(ManuallyRun::Done(_)) => "done",
        Ok(_) => "refused",
        Err(_) => "unknown",
    });
    Ok(answer?)
}

/// The reason and the length of a pause from its form.
pub(super) fn asked_pause(app: &AppState, cx: &RequestContext, form: &Form) -> Result<Pause, PageError> {
    let length = form.get("for").filter(|length| !length.is_empty());
    let until = match length.map(runner_core::duration::parse) {
        None => None,
        Some(Ok(length)) if (SHORTEST_PAUSE..=LONGEST_PAUSE).contains(&length) => {
            let until = app.clock.now().checked_add(length).map_err(|_| PageError::BadForm)?;
            jiff::Timestamp::from_second(until.as_second()).ok()
        }
        Some(_) => return Err(PageError::BadForm),
    };
    let pause = Pause {
        until,
        ..Pause::by(cx.name())
    };
    Ok(pause.because(form.get("note")))
}

/// Enqueues the schedule's task now, in addition to its occurrences: the cursor stays. While another run is unfinished,
/// the page of the schedule asks for confirmation.
async fn run(app: &AppState, cx: &RequestContext, definition: &Definition, force: bool) -> Result<Response, PageError> {
    let page = urls::schedule(definition.id.as_str());
    let task = manual_task(definition);
    let queue = task.queue.clone();
    Ok(match run_now(app, cx, definition, task, force).await? {
        ManuallyRun::Done(decision) => {
            let task = decision.task.as_ref().map(|id| urls::task(queue.as_str(), id.as_str()));
            let notice = done("notice.schedule.run", definition.id.as_str());
            redirect_with(app, task.as_deref().unwrap_or(&page), &notice)
        }
        ManuallyRun::Busy { task, what } => redirect_with(
            app,
            &format!("{page}?ask=run"),
            &Notice {
                key: "notice.schedule.busy".to_owned(),
                what: format::cut(&format!("{task} {what}"), 300),
                bad: true,
            },
        ),
        ManuallyRun::Refused(refusal) => redirect_with(app, &page, &not_done(refusal.to_string())),
    })
}

/// `POST /queue/sync`
pub async fn sync(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Extension(form): Extension<Arc<Form>>,
) -> Response {
    let audit = Audit::intent(&cx, "sources.sync", "all");
    app.catalog.sync_now();
    audit.outcome("done");
    redirect_with(&app, &form.back(), &done("notice.sync", ""))
}
