//! The schedules of all three sources, their problems, and definitions that are not in force.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use jiff::Timestamp;
use runner_core::cron::Expression;
use runner_core::schedule::{Definition, Plan, ScheduleId, Severity, Source, When};
use runner_queue::{Decision, FiredTask, RunEnd, Standing};
use serde::{Deserialize, Serialize};

use super::foreign::{self, ForeignRow};
use super::overview::SourceRow;
use super::rows::{self, ClockRow, Pager, ProblemRow};
use super::run::Ending;
use crate::scheduler::last_by_hand;
use crate::web::app_state::AppState;
use crate::web::format::{self, IN_A_LIST, InstantText, Locale};
use crate::web::layout::{self, NavSection};
use crate::web::page_error::PageError;
use crate::web::render::PageTemplate;
use crate::web::request_context::SharedContext;
use crate::web::urls;

/// Rows per page.
const ROWS: usize = 50;
/// Problems listed in full.
const PROBLEMS: usize = 50;
/// Characters of the filter, at most.
const LONGEST_FILTER: usize = 200;

/// One schedule.
#[derive(Debug, Serialize)]
pub(crate) struct ScheduleRow {
    id: String,
    url: String,
    name: String,
    source: &'static str,
    place: String,
    expression: String,
    words: String,
    zone: String,
    kind: String,
    queue: String,
    enabled: bool,
    paused: bool,
    next: Option<InstantText>,
    last: Option<InstantText>,
    last_task_url: Option<String>,
    /// How the last task ended, if it has and that is known.
    last_end: Option<Ending>,
    /// `error`, `warning` or empty.
    trouble: &'static str,
}

impl ScheduleRow {
    pub(crate) fn new(locale: &Locale, plan: &Plan, definition: &Definition, standing: Option<&Standing>) -> Self {
        let paused = standing.is_some_and(|s| s.paused.is_some());
        let runs = definition.enabled && !paused;
        let next = next_of(definition, standing, locale.now).filter(|_| runs);
        let last = standing.and_then(|s| s.last.as_ref());
        Self {
            id: definition.id.to_string(),
            url: urls::schedule(definition.id.as_str()),
            name: format::cut(&definition.name, IN_A_LIST),
            source: definition.origin.source.as_str(),
            place: definition.origin.place.clone(),
            expression: format::cut(&definition.timing.text, IN_A_LIST),
            words: in_words(locale, definition),
            zone: definition.timing.zone_name.clone(),
            kind: format::cut(&definition.task.kind, IN_A_LIST),
            queue: definition.task.queue.to_string(),
            enabled: definition.enabled,
            paused,
            next: next.map(|at| locale.moment_in(at, &definition.timing.zone)),
            last: last.map(|(at, _)| locale.moment_in(*at, &definition.timing.zone)),
            last_task_url: last.map(|(_, id)| urls::task(definition.task.queue.as_str(), id.as_str())),
            last_end: None,
            trouble: match plan.problems_of(&definition.id).map(|p| p.severity).max() {
                Some(Severity::Error) => "error",
                Some(Severity::Warning) => "warning",
                None => "",
            },
        }
    }
}

impl ScheduleRow {
    /// The same with a manual run as the last one.
    fn with_run(self, locale: &Locale, definition: &Definition, run: Option<&Decision>) -> Self {
        let Some((run, task)) = run.and_then(|run| Some((run, run.task.as_ref()?))) else {
            return self;
        };
        let queue = run.queue.as_ref().unwrap_or(&definition.task.queue);
        Self {
            last: Some(locale.moment_in(run.nominal, &definition.timing.zone)),
            last_task_url: Some(urls::task(queue.as_str(), task.as_str())),
            last_end: run.end.as_ref().map(|end| Ending::new(locale, end)),
            ..self
        }
    }

    /// Adds how its last task ended.
    fn with_end(self, locale: &Locale, end: Option<&RunEnd>) -> Self {
        Self {
            last_end: end.map(|end| Ending::new(locale, end)),
            ..self
        }
    }
}

/// How the last tasks of these schedules ended.
async fn ends(
    app: &AppState,
    shown: &[&Definition],
    standings: &[Option<Standing>],
) -> Result<BTreeMap<ScheduleId, RunEnd>, PageError> {
    let last = |(definition, standing): (&&Definition, &Option<Standing>)| {
        let (_, task) = standing.as_ref()?.last.clone()?;
        Some(FiredTask {
            schedule: definition.id.clone(),
            queue: definition.task.queue.clone(),
            task,
        })
    };
    let tasks: Vec<FiredTask> = shown.iter().zip(standings).filter_map(last).collect();
    let ends = app.broker.ends(&tasks).await?;
    let known = tasks
        .into_iter()
        .zip(ends)
        .filter_map(|(task, end)| Some((task.schedule, end?)));
    Ok(known.collect())
}

/// The next occurrence that will be decided.
fn next_of(definition: &Definition, standing: Option<&Standing>, now: Timestamp) -> Option<Timestamp> {
    match standing {
        Some(standing) => standing.next(&definition.timing, now),
        None => definition.timing.next(now),
    }
}

/// The rule in a sentence.
pub(crate) fn in_words(locale: &Locale, definition: &Definition) -> String {
    let language = locale.lang.of_expressions();
    match &definition.timing.when {
        When::Cron(expressions) => {
            let all: Vec<String> = expressions.iter().map(|e| e.describe(language)).collect();
            all.join("; ")
        }
        When::Every { every, .. } => Expression::parse(&format!("@every {}s", every.as_secs()))
            .map(|e| e.describe(language))
            .unwrap_or_default(),
        When::At(instants) => instants
            .iter()
            .take(3)
            .map(|at| locale.moment_in(*at, &definition.timing.zone).short)
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// The page.
#[derive(Debug, Serialize)]
struct SchedulesPage {
    schedules: Vec<ScheduleRow>,
    all: usize,
    /// Entries of other programs' schedulers, unless a source of this program is selected.
    foreign: Vec<ForeignRow>,
    foreign_count: usize,
    sources: Vec<SourceRow>,
    source: &'static str,
    /// What `source` can be.
    source_words: Vec<&'static str>,
    filter: String,
    problems: Vec<ProblemRow>,
    problem_count: usize,
    clock: Option<ClockRow>,
    /// Functions that are only run by hand.
    by_hand: Vec<ProblemRow>,
    by_hand_count: usize,
    pager: Pager,
}

impl PageTemplate for SchedulesPage {
    const TEMPLATE: &'static str = "schedules.html";
}

/// The query of the list.
#[derive(Debug, Deserialize)]
pub struct SchedulesQuery {
    page: Option<String>,
    source: Option<String>,
    q: Option<String>,
}

/// `GET /queue/schedules`
pub async fn show(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Query(query): Query<SchedulesQuery>,
) -> Result<Response, PageError> {
    let number = rows::page_number(query.page.as_deref())?;
    let source = source(query.source.as_deref().unwrap_or_default())?;
    let filter = format::cut(query.q.as_deref().unwrap_or_default().trim(), LONGEST_FILTER);
    let plan = app.catalog.plan();
    let locale = &cx.locale;
    let chosen = match source {
        Chosen::Foreign => Vec::new(),
        Chosen::All => chosen(&plan, locale.now, None, &filter),
        Chosen::Own(source) => chosen(&plan, locale.now, Some(source), &filter),
    };
    let (foreign, foreign_count) = match source {
        Chosen::Own(_) => (Vec::new(), 0),
        Chosen::All | Chosen::Foreign => foreign::rows(&app, locale, &filter).await?,
    };
    let skip = (number - 1).saturating_mul(ROWS);
    let shown: Vec<&Definition> = chosen.iter().copied().skip(skip).take(ROWS).collect();
    let ids: Vec<ScheduleId> = shown.iter().map(|d| d.id.clone()).collect();
    let standings = app.broker.standings(&ids).await?;
    let clock = ClockRow::of(locale, app.broker.corrections().await?.as_ref());
    let ends = ends(&app, &shown, &standings).await?;
    let runs_by_hand = last_by_hand(&*app.broker, &ids).await?;
    let standings: BTreeMap<_, _> = ids.iter().zip(&standings).collect();
    let (problems, by_hand) = rows::by_weight(&plan);
    let page = SchedulesPage {
        schedules: shown
            .iter()
            .map(|d| {
                let standing = standings.get(&d.id).and_then(|s| s.as_ref());
                let row = ScheduleRow::new(locale, &plan, d, standing).with_end(locale, ends.get(&d.id));
                row.with_run(locale, d, runs_by_hand.get(&d.id))
            })
            .collect(),
        all: plan.schedules.len(),
        sources: SourceRow::all(locale, &app),
        source: source.as_str(),
        source_words: source_words(),
        foreign,
        foreign_count,
        problem_count: problems.len() + usize::from(clock.is_some()),
        clock,
        problems: problems.into_iter().take(PROBLEMS).map(ProblemRow::new).collect(),
        by_hand_count: by_hand.len(),
        by_hand: by_hand.into_iter().take(PROBLEMS).map(ProblemRow::new).collect(),
        pager: Pager::new(number, ROWS, u64::try_from(chosen.len()).unwrap_or(u64::MAX), |n| {
            list_url(n, source, &filter)
        }),
        filter,
    };
    layout::show(&app, &cx, NavSection::Schedules, &page)
}

/// The word that selects schedulers of other programs.
const FOREIGN: &str = "go";

/// The selected source.
#[derive(Debug, Clone, Copy)]
enum Chosen {
    All,
    Own(Source),
    /// Other programs' schedulers.
    Foreign,
}

impl Chosen {
    fn as_str(self) -> &'static str {
        match self {
            Self::All => "",
            Self::Own(source) => source.as_str(),
            Self::Foreign => FOREIGN,
        }
    }
}

fn source(word: &str) -> Result<Chosen, PageError> {
    match word {
        "" => Ok(Chosen::All),
        FOREIGN => Ok(Chosen::Foreign),
        word => match Source::named(word) {
            Some(source) => Ok(Chosen::Own(source)),
            None => Err(PageError::BadQuery("source", source_words().join(", "))),
        },
    }
}

/// The words that select one source.
fn source_words() -> Vec<&'static str> {
    let own = Source::ALL.map(Source::as_str);
    own.into_iter().chain([FOREIGN]).collect()
}

fn list_url(number: usize, source: Chosen, filter: &str) -> String {
    let source = source.as_str();
    let filter = urls::encoded(filter);
    format!("{}?page={number}&source={source}&q={filter}", urls::schedules())
}

/// The schedules of a source that match a text, in the order of their next fires; those without one come last.
fn chosen<'a>(plan: &'a Plan, now: Timestamp, source: Option<Source>, filter: &str) -> Vec<&'a Definition> {
    let needle = filter.to_lowercase();
    let matches = |d: &Definition| {
        [d.id.as_str(), &d.name, &d.task.kind, &d.timing.text, &d.origin.place]
            .iter()
            .any(|text| text.to_lowercase().contains(&needle))
    };
    let mut chosen: Vec<(Option<Timestamp>, &Definition)> = plan
        .schedules
        .values()
        .filter(|d| source.is_none_or(|s| d.origin.source == s))
        .filter(|d| needle.is_empty() || matches(d))
        .map(|d| (d.timing.next(now).filter(|_| d.enabled), d))
        .collect();
    chosen.sort_by_key(|(next, d)| (next.is_none(), *next, d.id.clone()));
    chosen.into_iter().map(|(_, d)| d).collect()
}
