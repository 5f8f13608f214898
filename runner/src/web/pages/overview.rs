//! The first page: what needs a person, how runs ended and how long they took, queues, problems.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use runner_core::schedule::Plan;
use runner_core::task::{QueueName, RunSeries};
use runner_queue::{BrokerResult, CountedBy, CountedPeriods, QueueInfo, ServerView, UnclaimedTypes};
use serde::{Deserialize, Serialize};

use super::failures::Failures;
use super::needs::{LATE, NeedFacts, NeedList};
use super::problem_groups::ProblemGroup;
use super::rows::{self, ClockRow, Pager, ProblemRow, StateCount};
use super::triggers::{AllTriggers, ConnectionRow, TriggerRow};
use crate::diagnose::is_served;
use crate::health::BrokerFault;
use crate::source::{SourceState, SourceStatus};
use crate::web::app_state::AppState;
use crate::web::backlog::Forecast;
use crate::web::format::{self, IN_A_LIST, InstantText, Locale};
use crate::web::layout::{self, NavSection};
use crate::web::page_error::PageError;
use crate::web::queue_figures::{self, QueueFigures};
use crate::web::render::PageTemplate;
use crate::web::request_context::SharedContext;
use crate::web::run_chart::{ChartRange, RunChart};
use crate::web::timeline;
use crate::web::unclaimed::UnclaimedRow;
use crate::web::urls;
use crate::worker::lost_workers;

/// Queues per page.
const QUEUES: usize = 50;
/// Up to this many queues are summed up; beyond that only those on the page.
const SUMMED: usize = 1_000;
/// Causes of errors among what needs a person.
const ERRORS: usize = 8;
/// Types without a worker that are listed.
const UNCLAIMED: usize = 5;

/// One queue.
#[derive(Debug, Serialize)]
pub(crate) struct QueueRow {
    name: String,
    url: String,
    paused: bool,
    counts: Vec<StateCount>,
    size: u64,
    latency: Option<String>,
    late: bool,
    /// Its last hour, if any run ended and that can be read.
    figures: Option<QueueFigures>,
    forecast: Option<ForecastText>,
    /// It has tasks to run and no live server serves it.
    unserved: bool,
}

/// Where the backlog of a queue is going.
#[derive(Debug, Serialize)]
struct ForecastText {
    /// `drains`, `minute`, `hour` or `steady`.
    way: &'static str,
    /// How long it takes.
    span: String,
    /// How many more a minute or an hour.
    n: u64,
}

impl ForecastText {
    fn new(locale: &Locale, forecast: Forecast) -> Self {
        let (way, span, n) = match forecast {
            Forecast::Drains(after) => (
                "drains",
                locale.span(std::time::Duration::from_secs(after.as_secs().max(1))),
                0,
            ),
            Forecast::Grows(n) if n >= 60 => ("minute", String::new(), n / 60),
            Forecast::Grows(n) => ("hour", String::new(), n),
            Forecast::Steady => ("steady", String::new(), 0),
        };
        Self { way, span, n }
    }
}

/// What all queues and servers do together.
#[derive(Debug, Serialize)]
struct Load {
    servers: usize,
    working: u64,
    room: u64,
    processed_today: u64,
    failed_today: u64,
}

impl Load {
    fn new(queues: &[QueueInfo], servers: &[ServerView]) -> Self {
        Self {
            servers: servers.len(),
            working: servers.iter().map(|s| u64::from(s.info.active)).sum(),
            room: servers.iter().map(|s| u64::from(s.info.concurrency)).sum(),
            processed_today: queues.iter().map(|q| q.processed_today).sum(),
            failed_today: queues.iter().map(|q| q.failed_today).sum(),
        }
    }
}

/// One source of schedules.
#[derive(Debug, Serialize)]
pub(crate) struct SourceRow {
    source: &'static str,
    place: String,
    loaded: bool,
    /// A directory that does not exist yet, which is not a fault.
    absent: bool,
    schedules: usize,
    read_at: Option<InstantText>,
    error: Option<String>,
}

impl SourceRow {
    /// The current state of every source.
    pub(crate) fn all(locale: &Locale, app: &AppState) -> Vec<Self> {
        app.catalog.statuses().iter().map(|s| Self::new(locale, s)).collect()
    }

    fn new(locale: &Locale, status: &SourceStatus) -> Self {
        Self {
            source: status.source.as_str(),
            place: status.place.clone(),
            loaded: status.state == SourceState::Loaded,
            schedules: status.schedules,
            read_at: status.last_sync.map(|at| locale.moment(at)),
            absent: status.is_absent(),
            error: status
                .state
                .reason()
                .filter(|_| !status.is_absent())
                .map(|reason| format::cut(reason, IN_A_LIST * 4)),
        }
    }
}

/// The page.
#[derive(Debug, Serialize)]
struct Overview {
    totals: Vec<Total>,
    needs: NeedList,
    /// Errors among the problems: they need a person as well.
    errors: Vec<usize>,
    /// Everything that needs a person.
    need_count: usize,
    failing_count: usize,
    failing_url: String,
    /// The number of queues in the sums, if not all.
    summed: Option<usize>,
    queues: Vec<QueueRow>,
    pager: Pager,
    /// The search text for queue names.
    filter: String,
    /// Whether there are more queues than fit on the page, so that it needs a search.
    many: bool,
    triggers: Vec<TriggerRow>,
    connections: Vec<ConnectionRow>,
    problems: Vec<ProblemGroup>,
    problem_count: usize,
    clock: Option<ClockRow>,
    unclaimed: Vec<UnclaimedRow>,
    load: Load,
    /// How runs ended and how long they took; `None` if that cannot be read.
    chart: Option<RunChart>,
}

impl PageTemplate for Overview {
    const TEMPLATE: &'static str = "overview.html";
}

#[derive(Debug, Serialize)]
struct Total {
    state: &'static str,
    n: u64,
}

/// The query of the page.
#[derive(Debug, Deserialize)]
pub struct OverviewQuery {
    queues: Option<String>,
    page: Option<String>,
    range: Option<String>,
}

/// The queues to list and the queues to sum up.
#[derive(Default)]
struct Queues {
    listed: Vec<QueueInfo>,
    summed: Vec<QueueInfo>,
    all: usize,
    matching: usize,
}

/// Page `number` of the queues whose names contain `filter`.
async fn queues(app: &AppState, filter: &str, number: usize) -> BrokerResult<Queues> {
    let names = app.broker.queue_names().await?;
    let found: Vec<&QueueName> = names.iter().filter(|name| name.as_str().contains(filter)).collect();
    let on_page = found.iter().skip((number - 1).saturating_mul(QUEUES)).take(QUEUES);
    let on_page: Vec<QueueName> = on_page.map(|name| (*name).clone()).collect();
    let (all, matching) = (names.len(), found.len());
    let (listed, summed) = if all > SUMMED {
        let listed = app.broker.queues_of(&on_page).await?;
        (listed.clone(), listed)
    } else {
        let summed = app.broker.queues_of(&names).await?;
        let listed = summed.iter().filter(|info| on_page.contains(&info.name)).cloned();
        (listed.collect(), summed)
    };
    Ok(Queues {
        listed,
        summed,
        all,
        matching,
    })
}

/// The address of a page of the queues.
fn page_url(filter: &str, number: usize) -> String {
    match filter {
        "" => format!("{}?page={number}#queues", urls::root()),
        _ => format!("{}?queues={}&page={number}#queues", urls::root(), urls::encoded(filter)),
    }
}

/// `GET /queue`
pub async fn show(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Query(query): Query<OverviewQuery>,
) -> Result<Response, PageError> {
    let locale = &cx.locale;
    let number = rows::page_number(query.page.as_deref())?;
    let range = ChartRange::of(query.range.as_deref().unwrap_or_default())?;
    let filter = query.queues.unwrap_or_default();
    let filter = filter.trim();
    let plan = app.catalog.plan();
    let (queues, servers, corrections, triggers, chart) = tokio::join!(
        queues(&app, filter, number),
        app.broker.servers(),
        app.broker.corrections(),
        AllTriggers::look(&app),
        chart(&app, locale, range),
    );
    let queues = if_readable(&app, queues)?;
    let servers = if_readable(&app, servers)?;
    let clock = ClockRow::of(locale, if_readable(&app, corrections)?.as_ref());
    // All that depends on the first answers, in one go.
    let (lost, failures, recent, unclaimed, figures) = tokio::join!(
        lost_workers(&*app.broker, &servers),
        Failures::look(&app, locale.now, &plan, &queues.summed),
        app.recent_decisions
            .look(&*app.broker, timeline::first_instant(locale.now)),
        app.unclaimed.look(&*app.broker, &queues.summed),
        figures(&app, locale, &queues.listed),
    );
    let (lost, failures) = (if_readable(&app, lost)?, if_readable(&app, failures)?);
    let recent = if_readable(&app, recent)?;
    let facts = NeedFacts {
        plan: &plan,
        queues: &queues.summed,
        servers: &servers,
        lost: &lost,
        failures: &failures,
        unclaimed: &unclaimed,
        recent: &recent.decisions,
    };
    let needs = NeedList::new(locale, &facts);
    let shown = all_problems(&app, &plan, &if_readable(&app, triggers)?);
    let problem_count = shown.len() + unclaimed.types.len() + usize::from(clock.is_some());
    let shown = ProblemGroup::all(shown);
    let errors = (0..shown.len()).filter(|nth| shown[*nth].is_error());
    let errors: Vec<usize> = errors.take(ERRORS).collect();
    let page = Overview {
        totals: totals(&queues.summed),
        need_count: needs.count() + errors.len(),
        needs,
        errors,
        failing_count: failures.schedule_count(),
        failing_url: format!("{}?state=failing", urls::schedules()),
        summed: (queues.all > SUMMED).then_some(queues.summed.len()),
        triggers: TriggerRow::all(locale, &app),
        connections: ConnectionRow::all(locale, &app),
        clock,
        problem_count,
        problems: shown,
        unclaimed: unclaimed_rows(locale, &unclaimed),
        load: Load::new(&queues.summed, &servers),
        chart,
        queues: queue_rows(&app, locale, &queues.listed, &servers, figures),
        pager: Pager::new(number, QUEUES, queues.matching as u64, |n| page_url(filter, n)),
        filter: format::cut(filter, IN_A_LIST),
        many: queues.all > QUEUES,
    };
    layout::show(&app, &cx, NavSection::Overview, &page)
}

/// The charts of runs. Without an answer the page has no charts rather than no answer.
async fn chart(app: &AppState, locale: &Locale, range: ChartRange) -> Option<RunChart> {
    let edges = range.edges(&locale.zone, locale.now);
    let span = (*edges.first()?, locale.now);
    let counts = app.broker.run_counts(&[RunSeries::All], range.counted_by(), span).await;
    Some(RunChart::new(locale, range, counts.ok()?.first()?))
}

/// The last hour of each queue, in the same order. Without an answer rows have no figures.
async fn figures(app: &AppState, locale: &Locale, queues: &[QueueInfo]) -> Vec<CountedPeriods> {
    let series: Vec<RunSeries> = queues.iter().map(|q| RunSeries::Queue(q.name.to_string())).collect();
    let edges = queue_figures::edges(locale.now);
    let span = (edges.first().copied().unwrap_or(locale.now), locale.now);
    let counts = app.broker.run_counts(&series, CountedBy::Minute, span).await;
    counts.unwrap_or_default()
}

/// Problems of the broker, of events, of triggers, of definitions.
fn all_problems(app: &AppState, plan: &Plan, triggers: &AllTriggers) -> Vec<ProblemRow> {
    let (of_plan, _) = rows::by_weight(plan);
    let mut all = endangered(app);
    all.extend(triggers.problems());
    all.extend(of_plan.into_iter().map(ProblemRow::new));
    all
}

/// Problems of the broker: it refuses writes, or may delete tasks by itself; and of lifecycle events. Lesser caveats are in
/// the log and at `/readyz`.
fn endangered(app: &AppState) -> Vec<ProblemRow> {
    let place = || app.broker.describe();
    let fault = app.health.fault().map(|t| ProblemRow::of_fault(t, place()));
    let found = app.caveats.borrow();
    let grave = found.iter().filter(|caveat| caveat.grave);
    let grave = grave.map(|c| ProblemRow::of_broker(c, place()));
    let events = found.iter().filter(|caveat| caveat.code.starts_with("events_"));
    let events = events.map(ProblemRow::of_events);
    fault.into_iter().chain(grave).chain(events).collect()
}

/// Replaces the error of a damaged broker by an empty result, so that the page can report the damage.
fn if_readable<T: Default>(app: &AppState, answer: BrokerResult<T>) -> BrokerResult<T> {
    let damaged = |fault: BrokerFault| fault.code == "broker_corrupt";
    match answer {
        Err(_) if app.health.fault().is_some_and(damaged) => Ok(T::default()),
        answer => answer,
    }
}

fn unclaimed_rows(locale: &Locale, found: &UnclaimedTypes) -> Vec<UnclaimedRow> {
    let listed = found.types.iter().take(UNCLAIMED);
    listed.map(|one| UnclaimedRow::new(locale, one)).collect()
}

fn totals(queues: &[QueueInfo]) -> Vec<Total> {
    let mut sums: BTreeMap<_, u64> = BTreeMap::new();
    for (state, n) in queues.iter().flat_map(|q| &q.counts) {
        *sums.entry(*state).or_default() += n;
    }
    runner_core::task::TaskState::ALL
        .into_iter()
        .map(|state| Total {
            state: state.as_str(),
            n: sums.get(&state).copied().unwrap_or_default(),
        })
        .collect()
}

fn queue_rows(
    app: &AppState,
    locale: &Locale,
    queues: &[QueueInfo],
    servers: &[ServerView],
    figures: Vec<CountedPeriods>,
) -> Vec<QueueRow> {
    let mut figures = figures.into_iter();
    let forecasts = app.backlogs.look(locale.now, queues);
    let each = queues.iter().zip(forecasts);
    each.map(|(queue, forecast)| QueueRow {
        figures: figures.next().and_then(|periods| QueueFigures::new(locale, &periods)),
        forecast: forecast.map(|forecast| ForecastText::new(locale, forecast)),
        ..queue_row(locale, queue, servers)
    })
    .collect()
}

fn queue_row(locale: &Locale, queue: &QueueInfo, servers: &[ServerView]) -> QueueRow {
    use runner_core::task::TaskState::{Pending, Retry, Scheduled};
    let waiting: u64 = [Pending, Scheduled, Retry]
        .iter()
        .filter_map(|state| queue.counts.get(state))
        .sum();
    QueueRow {
        name: queue.name.to_string(),
        url: urls::queue(queue.name.as_str()),
        paused: queue.paused,
        counts: rows::counts(queue),
        size: queue.size(),
        latency: (!queue.latency.is_zero()).then(|| locale.span(queue.latency)),
        late: queue.latency >= LATE,
        figures: None,
        forecast: None,
        unserved: waiting > 0 && !is_served(servers, queue.name.as_str()),
    }
}
