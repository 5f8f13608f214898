//! One schedule: its rule in words, its next occurrences, and what was decided about the past ones.

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use runner_core::schedule::{CatchUpPolicy, Definition, Overlap, Plan, ScheduleId};
use runner_queue::{Decision, Standing};
use serde::Serialize;

use super::rows::{DecisionRow, IN_A_LIST, ProblemRow};
use super::schedules::ScheduleRow;
use crate::web::desk::Desk;
use crate::web::fault::Fault;
use crate::web::frame::{self, Section};
use crate::web::paint::Page;
use crate::web::payload::Shown;
use crate::web::text::{self, Lens, Moment};
use crate::web::urls;
use crate::web::visitor::Who;

/// Occurrences to come that are listed.
const NEXT: usize = 5;
/// Decisions listed.
const DECISIONS: usize = 100;

/// What there is to say about a schedule that is in force.
#[derive(Debug, Serialize)]
struct Details {
    row: ScheduleRow,
    queue_url: String,
    description: String,
    next: Vec<Moment>,
    paused_by: Option<String>,
    cursor: Option<Moment>,
    overlap: &'static str,
    catch_up: &'static str,
    catch_up_window: String,
    catch_up_max: u32,
    jitter: Option<String>,
    dst: &'static str,
    max_retry: u32,
    timeout: Option<String>,
    retention: Option<String>,
    payload: Shown,
}

/// The page. Without details for a definition that is broken or no longer there.
#[derive(Debug, Serialize)]
struct SchedulePage {
    id: String,
    details: Option<Details>,
    problems: Vec<ProblemRow>,
    decisions: Vec<DecisionRow>,
}

impl Page for SchedulePage {
    const TEMPLATE: &'static str = "schedule.html";
}

/// `GET /queue/schedules/{id}`
pub async fn show(
    State(desk): State<Desk>,
    Extension(visitor): Extension<Who>,
    Path(given): Path<String>,
) -> Result<Response, Fault> {
    let id = ScheduleId::from_text(given.as_str());
    let plan = desk.catalog.plan();
    let ids = [id.clone()];
    let (standings, decisions) =
        tokio::try_join!(desk.broker.standings(&ids), desk.broker.decisions(Some(&id), DECISIONS),)?;
    let definition = plan.schedules.get(&id);
    let problems: Vec<ProblemRow> = plan.problems_of(&id).map(ProblemRow::new).collect();
    // One that is only remembered by its decisions still has a page.
    if definition.is_none() && problems.is_empty() && decisions.is_empty() {
        return Err(Fault::Gone("schedule", text::cut(&given, IN_A_LIST)));
    }
    let standing = standings.into_iter().next().flatten();
    let lens = &visitor.lens;
    let page = SchedulePage {
        id: given,
        details: definition.map(|d| details(lens, &plan, d, standing.as_ref())),
        problems,
        decisions: decisions.iter().map(|d| row(lens, definition, d)).collect(),
    };
    frame::show(&desk, &visitor, Section::Schedules, &page)
}

fn row(lens: &Lens, definition: Option<&Definition>, decision: &Decision) -> DecisionRow {
    let zone = definition.map_or(&lens.zone, |d| &d.timing.zone);
    let lens = Lens {
        zone: zone.clone(),
        ..lens.clone()
    };
    DecisionRow::new(&lens, decision, definition.map(|d| d.task.queue.as_str()))
}

fn details(lens: &Lens, plan: &Plan, definition: &Definition, standing: Option<&Standing>) -> Details {
    let zone = &definition.timing.zone;
    let runs = definition.enabled && standing.is_none_or(|s| s.paused.is_none());
    let next = if runs {
        definition.timing.upcoming(lens.now, NEXT)
    } else {
        Vec::new()
    };
    let task = &definition.task;
    let span = |length: std::time::Duration| (!length.is_zero()).then(|| lens.span(length));
    Details {
        row: ScheduleRow::new(lens, plan, definition, standing),
        queue_url: urls::queue(task.queue.as_str()),
        description: text::cut(&definition.description, 2000),
        next: next.iter().map(|at| lens.moment_in(*at, zone)).collect(),
        paused_by: standing.and_then(|s| s.paused.clone()),
        cursor: standing.map(|s| lens.moment_in(s.cursor, zone)),
        overlap: match definition.overlap {
            Overlap::Skip => "skip",
            Overlap::Allow => "allow",
        },
        catch_up: match definition.catch_up.policy {
            CatchUpPolicy::None => "none",
            CatchUpPolicy::Last => "last",
            CatchUpPolicy::All => "all",
        },
        catch_up_window: lens.span(definition.catch_up.window),
        catch_up_max: definition.catch_up.max,
        jitter: span(definition.jitter),
        dst: match definition.timing.dst {
            runner_core::cron::DstRule::Vixie => "vixie",
            runner_core::cron::DstRule::Go => "go",
        },
        max_retry: task.max_retry,
        timeout: task.timeout.and_then(span),
        retention: span(task.retention),
        payload: Shown::new(task.payload.as_deref().unwrap_or_default()),
    }
}
