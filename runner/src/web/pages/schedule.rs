//! One schedule: its rule in words, its next occurrences, and the decisions about past ones.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use runner_core::schedule::{CatchUpPolicy, Definition, Plan, ScheduleId, Source};
use runner_core::task::{Backoff, FUNCTION_PREFIX, QueueName, Task, TaskId, TaskState};
use runner_queue::{Decision, DecisionKind, MAX_RUNS_KEPT, Standing};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::foreign::{self, Foreign};
use super::rows::{DecisionRow, ProblemRow};
use super::run::{Ending, RunRow};
use super::schedule_row::ScheduleRow;
use crate::diagnose::{AtInstant, Reason, ReasonCode, at_instant, why_absent, why_foreign, why_not_in_force};
use crate::facts;
use crate::scheduler::fallen;
use crate::web::app_state::AppState;
use crate::web::format::{self, IN_A_LIST, InstantText, Locale};
use crate::web::layout::{self, NavSection};
use crate::web::page_error::PageError;
use crate::web::payload::PayloadText;
use crate::web::preview::changed_clocks;
use crate::web::reasons::ReasonRow;
use crate::web::render::PageTemplate;
use crate::web::request_context::SharedContext;
use crate::web::translations::Lang;
use crate::web::urls;

/// Number of future occurrences listed.
const NEXT: usize = 10;
/// Decisions listed.
const DECISIONS: usize = facts::DECISIONS;

/// Tasks looked up for one page.
const LOOKED_UP: usize = 20;

/// The task of the last fire.
#[derive(Debug, Serialize)]
struct LastRun {
    at: InstantText,
    url: String,
    /// `None` if it has left the broker.
    state: Option<&'static str>,
    /// How it ended, if it has left the broker and that is known.
    end: Option<Ending>,
}

/// The pause, and the occurrences missed in it so far.
#[derive(Debug, Serialize)]
struct PauseRow {
    at: Option<InstantText>,
    note: Option<String>,
    until: Option<InstantText>,
    fallen: u32,
    more: bool,
}

impl PauseRow {
    fn of(locale: &Locale, definition: &Definition, standing: &Standing) -> Option<Self> {
        let pause = standing.paused.as_ref()?;
        let zone = &definition.timing.zone;
        let range = fallen(definition, standing, locale.now);
        Some(Self {
            at: pause.at.map(|at| locale.moment_in(at, zone)),
            note: pause.note.clone(),
            until: pause.until.map(|at| locale.moment_in(at, zone)),
            fallen: range.map_or(0, |range| range.count),
            more: range.is_some_and(|range| range.more),
        })
    }
}

/// The details of a schedule in force.
#[derive(Debug, Serialize)]
struct Details {
    row: ScheduleRow,
    queue_url: String,
    /// The page of the function that a manifest defines.
    function: Option<(String, String)>,
    description: String,
    next: Vec<NextRow>,
    pause: Option<PauseRow>,
    cursor: Option<InstantText>,
    last_run: Option<LastRun>,
    /// What its definition says.
    defined: BTreeMap<&'static str, Value>,
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
    payload: PayloadText,
}

/// A future occurrence: in the zone of the schedule, and in that of the server and in UTC where these differ.
#[derive(Debug, Serialize)]
struct NextRow {
    at: InstantText,
    /// Name of the zone and local time.
    elsewhere: Vec<(String, String)>,
    /// The offsets before and after, if clocks change between the one before and this one.
    clocks: Option<(String, String)>,
}

impl NextRow {
    fn all(app: &AppState, locale: &Locale, zone: &TimeZone, next: &[Timestamp]) -> Vec<Self> {
        let mut before = locale.now;
        let row = |at: &Timestamp| {
            let clocks = changed_clocks(zone, before, *at);
            before = *at;
            Self {
                at: locale.moment_in(*at, zone),
                elsewhere: Self::elsewhere(app, zone, *at),
                clocks,
            }
        };
        next.iter().map(row).collect()
    }

    fn elsewhere(app: &AppState, zone: &TimeZone, at: Timestamp) -> Vec<(String, String)> {
        let local = |zone: &TimeZone| at.to_zoned(zone.clone()).datetime();
        let server = &app.settings.zone;
        let mut others: Vec<(String, String)> = Vec::new();
        for (name, other) in [(app.settings.zone_name.as_str(), server), ("UTC", &TimeZone::UTC)] {
            let text = local(other).strftime("%Y-%m-%d %H:%M:%S").to_string();
            if local(other) != local(zone) && others.iter().all(|(_, said)| *said != text) {
                others.push((name.to_owned(), text));
            }
        }
        others
    }
}

/// The answer about one time.
#[derive(Debug, Serialize)]
struct AtTime {
    /// As it is in the field of the form.
    typed: String,
    /// `None`: it is not a time.
    answer: Option<AtAnswer>,
}

#[derive(Debug, Serialize)]
struct AtAnswer {
    at: InstantText,
    word: &'static str,
    decision: Option<DecisionRow>,
    before: Option<InstantText>,
    after: Option<InstantText>,
    edge: Option<InstantText>,
}

impl AtTime {
    fn new(
        locale: &Locale,
        definition: &Definition,
        standing: Option<&Standing>,
        decisions: &[Decision],
        typed: &str,
    ) -> Self {
        let zone = &definition.timing.zone;
        let moment = |at: Timestamp| locale.moment_in(at, zone);
        let answer = format::instant_in(zone, typed).map(|at| {
            let found = at_instant(
                definition,
                standing,
                (decisions, decisions.len() < DECISIONS),
                (at, locale.now),
            );
            let mut answer = AtAnswer {
                at: moment(at),
                word: found.word(),
                decision: None,
                before: None,
                after: None,
                edge: None,
            };
            match found {
                AtInstant::Decided(decision) | AtInstant::Covered(decision) => {
                    answer.decision = Some(row(locale, Some(definition), decision));
                }
                AtInstant::NotDue { before, after } => {
                    (answer.before, answer.after) = (before.map(moment), after.map(moment));
                }
                AtInstant::NotYet(edge) => answer.edge = edge.map(moment),
                AtInstant::Forgotten(edge) => answer.edge = Some(moment(edge)),
                AtInstant::NoRecord => (),
            }
            answer
        });
        Self {
            typed: format::cut(typed, 40),
            answer,
        }
    }
}

/// The delays before the retries of a command or call.
#[derive(Debug, Serialize)]
struct Delays {
    listed: String,
    /// The delay before each further one.
    then: Option<String>,
}

impl Delays {
    /// `None` for handlers, whose delays follow a formula, and without retries.
    fn of(locale: &Locale, task: &Task) -> Option<Self> {
        /// Number of distinct delays listed; the last one repeats.
        const LISTED: u32 = 5;
        let steps = |retries| Backoff::Function.steps(retries);
        if task.max_retry == 0 || !task.kind.starts_with(FUNCTION_PREFIX) {
            return None;
        }
        let listed: Vec<String> = steps(task.max_retry.min(LISTED))?
            .into_iter()
            .map(|d| locale.span(d))
            .collect();
        Some(Self {
            then: listed.last().filter(|_| task.max_retry > LISTED).cloned(),
            listed: listed.join(if locale.lang == Lang::Zh { "、" } else { ", " }),
        })
    }
}

/// The page. Without details for a definition that is broken or gone.
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
    /// A manual run was requested while another run is unfinished.
    asks_run: bool,
    /// The answer about the time that was asked for.
    at_time: Option<AtTime>,
    /// Where the row that it is can be edited, if that is allowed.
    row_url: Option<String>,
    /// Why it does not fire, as far as nothing else on the page says it.
    reasons: Vec<ReasonRow>,
}

impl PageTemplate for SchedulePage {
    const TEMPLATE: &'static str = "schedule.html";
}

/// The query of the page.
#[derive(Debug, Deserialize)]
pub struct ScheduleQuery {
    ask: Option<String>,
    at: Option<String>,
}

/// `GET /queue/schedules/{id}`
pub async fn show(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Path(text): Path<String>,
    Query(query): Query<ScheduleQuery>,
) -> Result<Response, PageError> {
    let text = urls::text_in(&text).unwrap_or(text);
    let id = ScheduleId::from_text(text.as_str());
    let plan = app.catalog.plan();
    let ids = [id.clone()];
    let (standings, decisions) =
        tokio::try_join!(app.broker.standings(&ids), app.broker.decisions(Some(&id), DECISIONS),)?;
    let definition = plan.schedules.get(&id);
    let problems: Vec<ProblemRow> = plan.problems_of(&id).map(ProblemRow::new).collect();
    // A schedule of which only decisions remain still has a page.
    let foreign = match definition.is_none() && problems.is_empty() && decisions.is_empty() {
        true => Some(entry_of_others(&app, &cx.locale, &id).await?),
        false => None,
    };
    let standing = standings.into_iter().next().flatten();
    let locale = &cx.locale;
    let fates = fates(&app, definition, standing.as_ref(), &decisions).await?;
    let runs = match definition {
        Some(definition) => runs(&app, locale, definition).await?,
        None => None,
    };
    let scheduler = foreign.as_ref().and_then(Foreign::scheduler);
    let reasons = match (definition, scheduler) {
        (Some(definition), _) => reasons(&app, &plan, definition, standing.as_ref(), &decisions).await?,
        (None, Some(scheduler)) => vec![why_foreign(scheduler)],
        (None, None) => vec![broken(&app, &plan, &id)],
    };
    let page = SchedulePage {
        remembered: runs.is_some(),
        runs: runs.unwrap_or_default(),
        row_url: app
            .catalog
            .editor()
            .filter(|_| id.source() == Some(Source::Table) && foreign.is_none())
            .map(|_| urls::schedule(id.as_str())),
        at_time: query
            .at
            .as_deref()
            .filter(|at| !at.is_empty())
            .zip(definition)
            .map(|(at, definition)| AtTime::new(locale, definition, standing.as_ref(), &decisions, at)),
        asks_run: query.ask.as_deref() == Some("run"),
        id: text,
        foreign,
        details: definition.map(|d| details((&app, locale), &plan, d, standing.as_ref(), &fates, &decisions)),
        problems,
        reasons: ReasonRow::all(&app, locale, &reasons),
        decisions: decisions
            .iter()
            .map(|d| {
                let fate = fired(d).and_then(|id| fates.get(id));
                row(locale, definition, d).with_state(fate.copied())
            })
            .collect(),
    };
    layout::show(&app, &cx, NavSection::Schedules, &page)
}

/// Why it does not fire, without what the page shows in places of its own.
async fn reasons(
    app: &AppState,
    plan: &Plan,
    definition: &Definition,
    standing: Option<&Standing>,
    decisions: &[Decision],
) -> Result<Vec<Reason>, PageError> {
    let fault = app.health.fault();
    let mut found = facts::of_schedule(&*app.broker, plan, definition, standing, decisions, fault).await?;
    found.retain(|reason| reason.code != ReasonCode::NotDue);
    // Otherwise the reasons of that task follow it.
    found.pop_if(|last| last.code == ReasonCode::LastTask);
    Ok(found)
}

/// Why nothing of a schedule is in force.
fn broken(app: &AppState, plan: &Plan, id: &ScheduleId) -> Reason {
    let rejected = app.catalog.rejected();
    let rejected = rejected.iter().find(|r| r.id.as_ref() == Some(id));
    let rejected = rejected.map(|r| (r.origin.place.as_str(), r.problems.as_slice()));
    why_not_in_force(rejected, plan.problems_of(id)).unwrap_or_else(why_absent)
}

/// The entry of this id of a scheduler of another program.
async fn entry_of_others(app: &AppState, locale: &Locale, id: &ScheduleId) -> Result<Foreign, PageError> {
    let found = foreign::find(app, locale, id).await?;
    found.ok_or_else(|| PageError::Gone("schedule", format::cut(id.as_str(), IN_A_LIST)))
}

/// The task of a fire; other decisions name the task that blocked them.
fn fired(decision: &Decision) -> Option<&TaskId> {
    let task = decision.task.as_ref();
    task.filter(|_| matches!(decision.kind, DecisionKind::Fired | DecisionKind::Manual))
}

/// Rows of runs; `runner runs` has all.
const RUNS_SHOWN: usize = 20;

/// The last runs of the schedule's function, by this schedule or manual. `None` for other types.
async fn runs(app: &AppState, locale: &Locale, definition: &Definition) -> Result<Option<Vec<RunRow>>, PageError> {
    let Some(function) = definition.function() else {
        return Ok(None);
    };
    let mut queues = vec![definition.task.queue.clone(), QueueName::default()];
    queues.dedup();
    let locale = Locale {
        zone: definition.timing.zone.clone(),
        ..locale.clone()
    };
    let runs = app.broker.runs(function, &queues, MAX_RUNS_KEPT).await?;
    let runs = runs
        .iter()
        .filter(|run| run.schedule.as_ref().is_none_or(|id| *id == definition.id));
    Ok(Some(
        runs.take(RUNS_SHOWN).map(|run| RunRow::new(&locale, run)).collect(),
    ))
}

/// The present of the last fire's task and of those of the newest decisions, as far as they exist.
async fn fates(
    app: &AppState,
    definition: Option<&Definition>,
    standing: Option<&Standing>,
    decisions: &[Decision],
) -> Result<BTreeMap<TaskId, TaskState>, PageError> {
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
    let looks = ids.into_iter().map(|id| app.broker.glance(&definition.task.queue, id));
    let found = futures_util::future::try_join_all(looks).await?;
    let fate = |task: runner_queue::TaskInfo| (task.record.id, task.state);
    Ok(found.into_iter().flatten().map(fate).collect())
}

fn last_run(
    locale: &Locale,
    definition: &Definition,
    standing: Option<&Standing>,
    fates: &BTreeMap<TaskId, TaskState>,
    decisions: &[Decision],
) -> Option<LastRun> {
    let (at, id) = standing?.last.as_ref()?;
    let end = decisions.iter().find(|d| fired(d) == Some(id)).and_then(|d| d.end);
    let state = fates.get(id).copied();
    Some(LastRun {
        at: locale.moment_in(*at, &definition.timing.zone),
        url: urls::task(definition.task.queue.as_str(), id.as_str()),
        state: state.map(TaskState::as_str),
        end: end.filter(|_| state.is_none()).map(|end| Ending::new(locale, &end)),
    })
}

fn row(locale: &Locale, definition: Option<&Definition>, decision: &Decision) -> DecisionRow {
    let zone = definition.map_or(&locale.zone, |d| &d.timing.zone);
    let locale = Locale {
        zone: zone.clone(),
        ..locale.clone()
    };
    DecisionRow::new(&locale, decision, definition.map(|d| d.task.queue.as_str()))
}

/// The next occurrences that will be decided.
fn upcoming(definition: &Definition, standing: Option<&Standing>, now: Timestamp) -> Vec<Timestamp> {
    match standing {
        Some(standing) => standing.upcoming(&definition.timing, now, NEXT),
        None => definition.timing.upcoming(now, NEXT),
    }
}

fn details(
    (app, locale): (&AppState, &Locale),
    plan: &Plan,
    definition: &Definition,
    standing: Option<&Standing>,
    fates: &BTreeMap<TaskId, TaskState>,
    decisions: &[Decision],
) -> Details {
    let zone = &definition.timing.zone;
    let runs = definition.enabled && standing.is_none_or(|s| s.paused.is_none());
    let next = if runs {
        upcoming(definition, standing, locale.now)
    } else {
        Vec::new()
    };
    let task = &definition.task;
    let span = |length: std::time::Duration| (!length.is_zero()).then(|| locale.span(length));
    Details {
        row: ScheduleRow::new(locale, plan, definition, standing).with_decisions(locale, definition, decisions),
        queue_url: urls::queue(task.queue.as_str()),
        function: definition
            .function()
            .map(|name| (format::cut(name, IN_A_LIST), urls::function(name))),
        description: format::cut(&definition.description, 2000),
        next: NextRow::all(app, locale, zone, &next),
        pause: standing.and_then(|s| PauseRow::of(locale, definition, s)),
        cursor: standing.map(|s| locale.moment_in(s.cursor, zone)),
        last_run: last_run(locale, definition, standing, fates, decisions),
        defined: definition.pairs().collect(),
        catch_up: match definition.catch_up.policy {
            CatchUpPolicy::None => "none",
            CatchUpPolicy::Last => "last",
            CatchUpPolicy::All => "all",
        },
        catch_up_window: locale.span(definition.catch_up.window),
        catch_up_max: definition.catch_up.max,
        jitter: span(definition.jitter),
        dst: match definition.timing.dst {
            runner_core::cron::DstRule::Vixie => "vixie",
            runner_core::cron::DstRule::Go => "go",
        },
        max_retry: task.max_retry,
        delays: Delays::of(locale, task),
        timeout: span(std::time::Duration::from_secs(task.stored_limits().0)),
        retention: span(task.retention),
        payload: PayloadText::new(task.payload.as_deref().unwrap_or_default()),
    }
}
