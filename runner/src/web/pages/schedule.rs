//! One schedule: its rule in words, its next occurrences, and what was decided about the past ones.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use jiff::Timestamp;
use runner_core::schedule::{CatchUpPolicy, Definition, Overlap, Plan, ScheduleId};
use runner_core::task::{Backoff, FUNCTION_PREFIX, QueueName, State as TaskState, Task, TaskId};
use runner_queue::{Decision, DecisionKind, MAX_RUNS_KEPT, Standing};
use serde::{Deserialize, Serialize};

use super::foreign::{self, Foreign};
use super::rows::{self, DecisionRow, IN_A_LIST, ProblemRow};
use super::run::{Ending, RunRow};
use super::schedules::ScheduleRow;
use crate::scheduler::fallen;
use crate::web::desk::Desk;
use crate::web::fault::Fault;
use crate::web::frame::{self, Section};
use crate::web::paint::Page;
use crate::web::payload::Shown;
use crate::web::text::{self, Lens, Moment};
use crate::web::urls;
use crate::web::visitor::Who;
use crate::web::words::Lang;

/// Occurrences to come that are listed.
const NEXT: usize = 5;
/// Decisions listed.
const DECISIONS: usize = 100;

/// Tasks looked up for one page.
const LOOKED_UP: usize = 20;
/// Characters of an error, at most.
const LONGEST_ERROR: usize = 300;

/// What became of a task: its state, and its last error if it failed.
type Fate = (TaskState, String);

/// The task of the last fire.
#[derive(Debug, Serialize)]
struct LastRun {
    at: Moment,
    url: String,
    /// `None` when it is not in the store any more.
    state: Option<&'static str>,
    /// How it ended, if it is not there any more and that is known.
    end: Option<Ending>,
    /// It failed: it waits for its next attempt, or is in the archive.
    failing: bool,
    error: String,
}

/// Why it does not fire, and what fell into the pause so far.
#[derive(Debug, Serialize)]
struct PauseRow {
    at: Option<Moment>,
    by: String,
    note: Option<String>,
    until: Option<Moment>,
    fallen: u32,
    more: bool,
}

impl PauseRow {
    fn of(lens: &Lens, definition: &Definition, standing: &Standing) -> Option<Self> {
        let pause = standing.paused.as_ref()?;
        let zone = &definition.timing.zone;
        let range = fallen(definition, standing, lens.now);
        Some(Self {
            at: pause.at.map(|at| lens.moment_in(at, zone)),
            by: text::cut(&pause.by, IN_A_LIST),
            note: pause.note.clone(),
            until: pause.until.map(|at| lens.moment_in(at, zone)),
            fallen: range.map_or(0, |range| range.count),
            more: range.is_some_and(|range| range.more),
        })
    }
}

/// What there is to say about a schedule that is in force.
#[derive(Debug, Serialize)]
struct Details {
    row: ScheduleRow,
    queue_url: String,
    description: String,
    next: Vec<Moment>,
    pause: Option<PauseRow>,
    cursor: Option<Moment>,
    last_run: Option<LastRun>,
    overlap: &'static str,
    catch_up: &'static str,
    catch_up_window: String,
    catch_up_max: u32,
    jitter: Option<String>,
    dst: &'static str,
    max_retry: u32,
    /// How long after each failure a command or call is tried again.
    delays: Option<Delays>,
    timeout: Option<String>,
    retention: Option<String>,
    payload: Shown,
}

/// The delays before the retries of a command or call.
#[derive(Debug, Serialize)]
struct Delays {
    listed: String,
    /// How long it waits before each further one.
    then: Option<String>,
}

impl Delays {
    /// `None` for tasks of handlers, whose delays follow a formula, and where nothing is tried again.
    fn of(lens: &Lens, task: &Task) -> Option<Self> {
        /// As many as differ; the last one repeats.
        const LISTED: u32 = 5;
        let steps = |retries| Backoff::Function.steps(retries);
        if task.max_retry == 0 || !task.kind.starts_with(FUNCTION_PREFIX) {
            return None;
        }
        let listed: Vec<String> = steps(task.max_retry.min(LISTED))?
            .into_iter()
            .map(|d| lens.span(d))
            .collect();
        Some(Self {
            then: listed.last().filter(|_| task.max_retry > LISTED).cloned(),
            listed: listed.join(if lens.lang == Lang::Zh { "、" } else { ", " }),
        })
    }
}

/// The page. Without details for a definition that is broken or no longer there.
#[derive(Debug, Serialize)]
struct SchedulePage {
    id: String,
    details: Option<Details>,
    /// An entry of a scheduler of another program.
    foreign: Option<Foreign>,
    problems: Vec<ProblemRow>,
    decisions: Vec<DecisionRow>,
    /// Whether runs are remembered: of functions of manifests.
    remembered: bool,
    runs: Vec<RunRow>,
    /// A run by hand was asked for although another run has not ended.
    asks_run: bool,
    corrected: Option<Moment>,
}

impl Page for SchedulePage {
    const TEMPLATE: &'static str = "schedule.html";
}

/// The query of the page.
#[derive(Debug, Deserialize)]
pub struct Asked {
    ask: Option<String>,
}

/// `GET /queue/schedules/{id}`
pub async fn show(
    State(desk): State<Desk>,
    Extension(visitor): Extension<Who>,
    Path(given): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Fault> {
    let given = urls::text_in(&given).unwrap_or(given);
    let id = ScheduleId::from_text(given.as_str());
    let plan = desk.catalog.plan();
    let ids = [id.clone()];
    let (standings, decisions) =
        tokio::try_join!(desk.broker.standings(&ids), desk.broker.decisions(Some(&id), DECISIONS),)?;
    let definition = plan.schedules.get(&id);
    let problems: Vec<ProblemRow> = plan.problems_of(&id).map(ProblemRow::new).collect();
    // One that is only remembered by its decisions still has a page.
    let foreign = match definition.is_none() && problems.is_empty() && decisions.is_empty() {
        true => Some(entry_of_others(&desk, &visitor.lens, &id).await?),
        false => None,
    };
    let standing = standings.into_iter().next().flatten();
    let lens = &visitor.lens;
    let fates = fates(&desk, definition, standing.as_ref(), &decisions).await?;
    let runs = match definition {
        Some(definition) => runs(&desk, lens, definition).await?,
        None => None,
    };
    let page = SchedulePage {
        remembered: runs.is_some(),
        runs: runs.unwrap_or_default(),
        asks_run: asked.ask.as_deref() == Some("run"),
        id: given,
        foreign,
        details: definition.map(|d| details(lens, &plan, d, standing.as_ref(), &fates, &decisions)),
        problems,
        corrected: rows::corrected(lens, &decisions),
        decisions: decisions
            .iter()
            .map(|d| {
                let fate = fired(d).and_then(|id| fates.get(id));
                row(lens, definition, d).with_state(fate.map(|(state, _)| *state))
            })
            .collect(),
    };
    frame::show(&desk, &visitor, Section::Schedules, &page)
}

/// The entry of this id of a scheduler of another program.
async fn entry_of_others(desk: &Desk, lens: &Lens, id: &ScheduleId) -> Result<Foreign, Fault> {
    let found = foreign::find(desk, lens, id).await?;
    found.ok_or_else(|| Fault::Gone("schedule", text::cut(id.as_str(), IN_A_LIST)))
}

/// The task of a decision that fired one; others name the task that stood in their way.
fn fired(decision: &Decision) -> Option<&TaskId> {
    let task = decision.task.as_ref();
    task.filter(|_| matches!(decision.kind, DecisionKind::Fired | DecisionKind::Manual))
}

/// The last runs of the schedule's function: by this schedule, or by none. `None` for other types.
async fn runs(desk: &Desk, lens: &Lens, definition: &Definition) -> Result<Option<Vec<RunRow>>, Fault> {
    let Some(function) = function_of(definition) else {
        return Ok(None);
    };
    let mut queues = vec![definition.task.queue.clone(), QueueName::default()];
    queues.dedup();
    let lens = Lens {
        zone: definition.timing.zone.clone(),
        ..lens.clone()
    };
    let runs = desk.broker.runs(function, &queues, MAX_RUNS_KEPT).await?;
    let ours = runs
        .iter()
        .filter(|run| run.schedule.as_ref().is_none_or(|id| *id == definition.id));
    Ok(Some(ours.map(|run| RunRow::new(&lens, run)).collect()))
}

/// The function of a manifest that a schedule runs. One whose action is a handler runs under the handler's type.
fn function_of(definition: &Definition) -> Option<&str> {
    let by_type = definition.task.kind.strip_prefix(FUNCTION_PREFIX);
    by_type.or_else(|| Some(definition.id.as_str().strip_prefix("m:")?.split_once(':')?.0))
}

/// What became of the task of the last fire and of those of the newest decisions, as far as they are there.
async fn fates(
    desk: &Desk,
    definition: Option<&Definition>,
    standing: Option<&Standing>,
    decisions: &[Decision],
) -> Result<BTreeMap<TaskId, Fate>, Fault> {
    let Some(definition) = definition else {
        return Ok(BTreeMap::new());
    };
    let last = standing.and_then(|s| s.last.as_ref()).map(|(_, id)| id);
    let mut ids: Vec<&TaskId> = Vec::new();
    for id in last.into_iter().chain(decisions.iter().filter_map(fired)) {
        if ids.len() < LOOKED_UP && !ids.contains(&id) {
            ids.push(id);
        }
    }
    let looks = ids.into_iter().map(|id| desk.broker.glance(&definition.task.queue, id));
    let found = futures_util::future::try_join_all(looks).await?;
    let fate = |task: runner_queue::TaskInfo| (task.record.id, (task.state, task.record.last_error));
    Ok(found.into_iter().flatten().map(fate).collect())
}

fn last_run(
    lens: &Lens,
    definition: &Definition,
    standing: Option<&Standing>,
    fates: &BTreeMap<TaskId, Fate>,
    decisions: &[Decision],
) -> Option<LastRun> {
    let (at, id) = standing?.last.as_ref()?;
    let end = decisions.iter().find(|d| fired(d) == Some(id)).and_then(|d| d.end);
    let fate = fates.get(id);
    let state = fate.map(|(state, _)| *state);
    let failing = matches!(state, Some(TaskState::Retry | TaskState::Archived));
    Some(LastRun {
        at: lens.moment_in(*at, &definition.timing.zone),
        url: urls::task(definition.task.queue.as_str(), id.as_str()),
        state: state.map(TaskState::as_str),
        end: end.filter(|_| state.is_none()).map(|end| Ending::new(lens, &end)),
        failing,
        error: fate
            .filter(|_| failing)
            .map_or_else(String::new, |(_, error)| text::cut(error, LONGEST_ERROR)),
    })
}

fn row(lens: &Lens, definition: Option<&Definition>, decision: &Decision) -> DecisionRow {
    let zone = definition.map_or(&lens.zone, |d| &d.timing.zone);
    let lens = Lens {
        zone: zone.clone(),
        ..lens.clone()
    };
    DecisionRow::new(&lens, decision, definition.map(|d| d.task.queue.as_str()))
}

/// The next occurrences that will be decided.
fn upcoming(definition: &Definition, standing: Option<&Standing>, now: Timestamp) -> Vec<Timestamp> {
    match standing {
        Some(standing) => standing.upcoming(&definition.timing, now, NEXT),
        None => definition.timing.upcoming(now, NEXT),
    }
}

fn details(
    lens: &Lens,
    plan: &Plan,
    definition: &Definition,
    standing: Option<&Standing>,
    fates: &BTreeMap<TaskId, Fate>,
    decisions: &[Decision],
) -> Details {
    let zone = &definition.timing.zone;
    let runs = definition.enabled && standing.is_none_or(|s| s.paused.is_none());
    let next = if runs {
        upcoming(definition, standing, lens.now)
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
        pause: standing.and_then(|s| PauseRow::of(lens, definition, s)),
        cursor: standing.map(|s| lens.moment_in(s.cursor, zone)),
        last_run: last_run(lens, definition, standing, fates, decisions),
        overlap: match definition.overlap {
            Overlap::Skip => "skip",
            Overlap::SkipIgnoringRetries => "skip_ignoring_retries",
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
        delays: Delays::of(lens, task),
        timeout: span(std::time::Duration::from_secs(task.stored_limits().0)),
        retention: span(task.retention),
        payload: Shown::new(task.payload.as_deref().unwrap_or_default()),
    }
}
