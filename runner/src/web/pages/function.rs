//! One function of a manifest: what starts it, how its triggers are doing, its last runs. It may have no schedule. Also the runs of
//! a task type that no manifest defines.
//!
//! Not what it runs: a command may contain what viewers must not see.

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use runner_core::function::Function;
use runner_core::schedule::{Definition, Plan, Problem, ScheduleId, Source};
use runner_core::task::{QueueName, Task};
use runner_queue::{add_seen_runs, runs_of_type, type_runs};
use serde::Serialize;

use super::rows::ProblemRow;
use super::run::RunRow;
use super::schedule_row::ScheduleRow;
use super::triggers::{AllTriggers, TriggerRow};
use crate::source::Rejected;
use crate::text::shell;
use crate::web::app_state::AppState;
use crate::web::format::{self, IN_A_LIST, InstantText, Locale};
use crate::web::layout::{self, NavSection};
use crate::web::page_error::PageError;
use crate::web::payload::PayloadText;
use crate::web::render::PageTemplate;
use crate::web::request_context::{RequestContext, SharedContext};
use crate::web::run_strip;
use crate::web::urls;

/// Runs that are listed.
const RUNS: usize = 20;

/// Queues in which its runs are searched, beside its own.
const QUEUES_SEARCHED: usize = 200;

/// Queues in which tasks that have ended are searched for a type: each is two looks at up to 200 tasks.
const QUEUES_OF_TASKS: usize = 20;

/// Schedules and triggers that are listed, each.
const LISTED: usize = 50;

/// Characters of a description, at most.
const LONGEST_TEXT: usize = 2000;

/// What is known of a function in force.
#[derive(Debug, Serialize)]
struct Details {
    /// The key of a manifest that says what it runs.
    kind: &'static str,
    task_type: String,
    place: String,
    description: String,
    queue: String,
    queue_url: String,
    max_retry: u32,
    timeout: Option<String>,
    retention: Option<String>,
    has_schema: bool,
    payload: PayloadText,
    /// Runs it by hand.
    command: String,
    schedules: Vec<ScheduleRow>,
    triggers: Vec<TriggerRow>,
    /// Whether runs of it are remembered, however it is started: not if a handler in code runs it.
    remembered: bool,
}

/// The page. Without details for a function that is broken or gone.
#[derive(Debug, Serialize)]
struct FunctionPage {
    name: String,
    details: Option<Details>,
    problems: Vec<ProblemRow>,
    runs: Vec<RunRow>,
    /// Whether it is a task type, not a function.
    is_type: bool,
    /// Instances that count runs of the type instead of recording them, or have done so.
    counted: Vec<CountedRow>,
}

/// Runs that were counted because there were too many for records.
#[derive(Debug, Serialize)]
struct CountedRow {
    instance: String,
    since: InstantText,
    /// `None`: that continues.
    until: Option<InstantText>,
    runs: u64,
    failed: u64,
    per_second: u32,
}

impl PageTemplate for FunctionPage {
    const TEMPLATE: &'static str = "function.html";
}

/// `GET /queue/functions/{name}`
pub async fn show(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Path(text): Path<String>,
) -> Result<Response, PageError> {
    let name = urls::text_in(&text).unwrap_or(text);
    if let Some(kind) = name.strip_prefix(urls::TYPE) {
        return show_type(&app, &cx, kind).await;
    }
    let locale = &cx.locale;
    let function = app.catalog.function(&name);
    let rejected = app.catalog.rejected();
    let broken = rejected.iter().filter(|one| of_manifest(one) && one.name == name);
    let problems: Vec<ProblemRow> = match &function {
        Some(_) => problems(&app.catalog.plan(), &name),
        None => broken.flat_map(|one| &one.problems).map(ProblemRow::new).collect(),
    };
    let queues = queues(&app, function.as_ref().map(|(function, _)| &**function)).await?;
    let mut runs = app.broker.runs(&name, &queues, RUNS).await?;
    let handler = function.as_ref().and_then(|(function, _)| function.kind.handler_type());
    if let Some(kind) = handler {
        // Those that no schedule starts are recorded under the type of the handler, if at all.
        runs.extend(app.broker.runs(&runs_of_type(kind), &queues, RUNS).await?);
        runs.sort_by_key(|run| std::cmp::Reverse(run.ended_at));
        runs.truncate(RUNS);
    }
    if function.is_none() && problems.is_empty() && runs.is_empty() {
        return Err(PageError::Gone("function", format::cut(&name, IN_A_LIST)));
    }
    let details = match &function {
        Some((function, place)) => Some(details(&app, locale, function, place).await?),
        None => None,
    };
    let page = FunctionPage {
        details,
        problems,
        runs: runs.iter().map(|run| RunRow::new(locale, run)).collect(),
        name: format::cut(&name, IN_A_LIST),
        is_type: false,
        counted: Vec::new(),
    };
    layout::show(&app, &cx, NavSection::Schedules, &page)
}

/// The runs of a type, with those of which no record is kept but whose tasks are still there.
async fn show_type(app: &AppState, cx: &RequestContext, kind: &str) -> Result<Response, PageError> {
    let locale = &cx.locale;
    let queues = queues(app, None).await?;
    let name = runs_of_type(kind);
    let (mut runs, said) = tokio::try_join!(app.broker.runs(&name, &queues, RUNS), type_runs(&*app.broker))?;
    let searched = &queues[..queues.len().min(QUEUES_OF_TASKS)];
    add_seen_runs(&*app.broker, kind, searched, RUNS, &mut runs).await?;
    let said: Vec<_> = said.into_iter().filter(|(_, said)| said.kind == kind).collect();
    if runs.is_empty() && said.is_empty() {
        return Err(PageError::Gone("function", format::cut(kind, IN_A_LIST)));
    }
    let counted = said.iter().filter_map(|(instance, said)| {
        let counted = said.counted?;
        Some(CountedRow {
            instance: format::cut(instance, IN_A_LIST),
            since: locale.moment(counted.since),
            until: counted.until.map(|at| locale.moment(at)),
            runs: counted.runs,
            failed: counted.failed,
            per_second: said.per_second,
        })
    });
    let page = FunctionPage {
        details: None,
        problems: Vec::new(),
        counted: counted.take(LISTED).collect(),
        runs: runs.iter().map(|run| RunRow::new(locale, run)).collect(),
        name: format::cut(kind, IN_A_LIST),
        is_type: true,
    };
    layout::show(app, cx, NavSection::Schedules, &page)
}

fn of_manifest(rejected: &Rejected) -> bool {
    rejected.origin.source == Source::Manifest
}

/// The problems of its schedules, and those about the function as a whole.
fn problems(plan: &Plan, name: &str) -> Vec<ProblemRow> {
    let own = |p: &&Problem| p.schedule.as_ref().and_then(ScheduleId::function) == Some(name);
    let found = plan.problems.iter().filter(own);
    found.take(LISTED).map(ProblemRow::new).collect()
}

/// Its own queue first, then those of the broker: others may have enqueued it there.
async fn queues(app: &AppState, function: Option<&Function>) -> Result<Vec<QueueName>, PageError> {
    let own = function.map(|function| function.task_options().queue.unwrap_or_default());
    let mut all: Vec<QueueName> = own.into_iter().collect();
    for queue in app.broker.queue_names().await?.into_iter().take(QUEUES_SEARCHED) {
        if !all.contains(&queue) {
            all.push(queue);
        }
    }
    Ok(all)
}

async fn details(app: &AppState, locale: &Locale, function: &Function, place: &str) -> Result<Details, PageError> {
    let plan = app.catalog.plan();
    let schedules: Vec<&Definition> = schedules_of(&plan, function).take(LISTED).collect();
    let ids: Vec<_> = schedules.iter().map(|definition| definition.id.clone()).collect();
    let (standings, decisions, all) = tokio::try_join!(
        app.broker.standings(&ids),
        app.broker.decisions_each(&ids, run_strip::DRAWN),
        AllTriggers::look(app)
    )?;
    let known = standings.iter().zip(&decisions);
    let rows = schedules.iter().zip(known).map(|(definition, (standing, decisions))| {
        ScheduleRow::new(locale, &plan, definition, standing.as_ref()).with_decisions(locale, definition, decisions)
    });
    let rows: Vec<ScheduleRow> = rows.collect();
    let triggers = app.catalog.triggers();
    let triggers = triggers.iter().filter(|trigger| trigger.function == function.name);
    let options = app.catalog.type_options().of_function(function);
    let queue = options.queue.clone().unwrap_or_default();
    let task = {
        let mut task = Task::new(function.task_type());
        options.apply(&mut task);
        task
    };
    let span = |length: std::time::Duration| (!length.is_zero()).then(|| locale.span(length));
    Ok(Details {
        kind: function.kind.key(),
        task_type: format::cut(&function.task_type(), IN_A_LIST),
        place: place.to_owned(),
        description: format::cut(&function.description, LONGEST_TEXT),
        queue_url: urls::queue(queue.as_str()),
        queue: queue.to_string(),
        max_retry: task.max_retry,
        timeout: span(std::time::Duration::from_secs(task.stored_limits().0)),
        retention: span(task.retention),
        has_schema: function.payload_schema.is_some(),
        payload: PayloadText::new(function.payload.as_deref().unwrap_or_default()),
        command: format!("runner run {}", shell::word(&function.name)),
        schedules: rows,
        triggers: triggers
            .take(LISTED)
            .flat_map(|trigger| all.rows(locale, trigger))
            .collect(),
        remembered: function.kind.handler_type().is_none(),
    })
}

/// Its schedules: those of its manifest, and those of rows and code that name it as their type.
pub(super) fn schedules_of<'a>(plan: &'a Plan, function: &'a Function) -> impl Iterator<Item = &'a Definition> {
    plan.schedules.values().filter(move |definition| {
        let of_manifest = definition.origin.source == Source::Manifest;
        match of_manifest {
            true => definition.name == function.name,
            false => function.kind.handler_type().is_none() && definition.task.kind == function.task_type(),
        }
    })
}
