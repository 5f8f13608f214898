//! The schedules of all three sources, their problems, and definitions that are not in force.

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use jiff::Timestamp;
use runner_core::schedule::{Definition, Plan, ScheduleId, Source};
use serde::{Deserialize, Serialize};

use super::foreign::{self, ForeignRow};
use super::overview::SourceRow;
use super::problem_groups::ProblemGroup;
use super::rows::{self, ClockRow, Pager, ProblemRow};
use super::schedule_row::ScheduleRow;
use crate::web::app_state::AppState;
use crate::web::format;
use crate::web::layout::{self, NavSection};
use crate::web::page_error::PageError;
use crate::web::render::PageTemplate;
use crate::web::request_context::SharedContext;
use crate::web::run_strip;
use crate::web::schedule_health::ScheduleHealth;
use crate::web::timeline::{self, Timeline};
use crate::web::urls;

/// Rows per page.
const ROWS: usize = 50;
/// Functions listed that are only run by hand.
const BY_HAND: usize = 50;
/// Characters of the filter, at most.
const LONGEST_FILTER: usize = 200;

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
    problems: Vec<ProblemGroup>,
    problem_count: usize,
    clock: Option<ClockRow>,
    /// Functions that are only run by hand.
    by_hand: Vec<ProblemRow>,
    by_hand_count: usize,
    pager: Pager,
    chips: Vec<StateChip>,
    /// The selected state; empty: any.
    state: &'static str,
    /// How many schedules were searched for failures and pauses, if there are more.
    looked_at: Option<usize>,
    timeline: Timeline,
    /// Whether rows of the table may be written.
    writable: bool,
}

/// A state by which the list is narrowed down.
#[derive(Debug, Serialize)]
struct StateChip {
    state: &'static str,
    n: usize,
    url: String,
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
    state: Option<String>,
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
    let state = ListState::of(query.state.as_deref().unwrap_or_default())?;
    let plan = app.catalog.plan();
    let locale = &cx.locale;
    let health = app.schedule_health.look(&*app.broker, &plan).await;
    let mut chosen = match source {
        Chosen::Foreign => Vec::new(),
        Chosen::All => chosen(&plan, locale.now, None, &filter),
        Chosen::Own(source) => chosen(&plan, locale.now, Some(source), &filter),
    };
    let chips = chips(&chosen, &health, source, &filter);
    chosen.retain(|d| state.fits(d, &health));
    let (foreign, foreign_count) = match (source, state) {
        (Chosen::Own(_), _) => (Vec::new(), 0),
        (Chosen::All | Chosen::Foreign, ListState::Any) => foreign::rows(&app, locale, &filter).await?,
        (Chosen::All | Chosen::Foreign, _) => (Vec::new(), 0),
    };
    let skip = (number - 1).saturating_mul(ROWS);
    let shown: Vec<&Definition> = chosen.iter().copied().skip(skip).take(ROWS).collect();
    let ids: Vec<ScheduleId> = shown.iter().map(|d| d.id.clone()).collect();
    let (standings, decisions, corrections, recent) = tokio::try_join!(
        app.broker.standings(&ids),
        app.broker.decisions_each(&ids, run_strip::DRAWN),
        app.broker.corrections(),
        app.recent_decisions
            .look(&*app.broker, timeline::first_instant(locale.now)),
    )?;
    let clock = ClockRow::of(locale, corrections.as_ref());
    let (problems, by_hand) = rows::by_weight(&plan);
    let known = standings.iter().zip(&decisions);
    let page = SchedulesPage {
        schedules: shown
            .iter()
            .zip(known)
            .map(|(d, (standing, decisions))| {
                ScheduleRow::new(locale, &plan, d, standing.as_ref()).with_decisions(locale, d, decisions)
            })
            .collect(),
        timeline: Timeline::new(locale, &plan, &recent),
        writable: app.catalog.editor().is_some(),
        chips,
        state: state.as_str(),
        looked_at: health.looked_at,
        all: plan.schedules.len(),
        sources: SourceRow::all(locale, &app),
        source: source.as_str(),
        source_words: source_words(),
        foreign,
        foreign_count,
        problem_count: problems.len() + usize::from(clock.is_some()),
        clock,
        problems: ProblemGroup::all(problems.into_iter().map(ProblemRow::new).collect()),
        by_hand_count: by_hand.len(),
        by_hand: by_hand.into_iter().take(BY_HAND).map(ProblemRow::new).collect(),
        pager: Pager::new(number, ROWS, u64::try_from(chosen.len()).unwrap_or(u64::MAX), |n| {
            list_url(n, source, &filter, state)
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

/// What the list is narrowed down to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListState {
    Any,
    Failing,
    Paused,
    Off,
}

impl ListState {
    const ALL: [Self; 4] = [Self::Any, Self::Failing, Self::Paused, Self::Off];

    fn of(word: &str) -> Result<Self, PageError> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == word);
        found.ok_or_else(|| PageError::BadQuery("state", "failing, paused, off".to_owned()))
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Failing => "failing",
            Self::Paused => "paused",
            Self::Off => "off",
        }
    }

    fn fits(self, definition: &Definition, health: &ScheduleHealth) -> bool {
        match self {
            Self::Any => true,
            Self::Failing => health.failing.contains(&definition.id),
            Self::Paused => health.paused.contains(&definition.id),
            Self::Off => !definition.enabled,
        }
    }
}

/// How many of these schedules are in each state.
fn chips(chosen: &[&Definition], health: &ScheduleHealth, source: Chosen, filter: &str) -> Vec<StateChip> {
    let count = |state: ListState| chosen.iter().filter(|d| state.fits(d, health)).count();
    ListState::ALL
        .into_iter()
        .map(|state| StateChip {
            state: match state {
                ListState::Any => "any",
                other => other.as_str(),
            },
            n: count(state),
            url: list_url(1, source, filter, state),
        })
        .collect()
}

/// The address of a page of the list, without parameters that say nothing.
fn list_url(number: usize, source: Chosen, filter: &str, state: ListState) -> String {
    let number = if number > 1 { number.to_string() } else { String::new() };
    let pairs = [
        ("page", number.as_str()),
        ("source", source.as_str()),
        ("q", filter),
        ("state", state.as_str()),
    ];
    let said = pairs.iter().filter(|(_, value)| !value.is_empty());
    let said: Vec<String> = said
        .map(|(key, value)| format!("{key}={}", urls::encoded(value)))
        .collect();
    let query = if said.is_empty() {
        String::new()
    } else {
        format!("?{}", said.join("&"))
    };
    format!("{}{query}#list", urls::schedules())
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
