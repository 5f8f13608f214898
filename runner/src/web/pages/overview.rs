//! The overview: queues, sources, next fires, recent decisions, problems.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use jiff::Timestamp;
use runner_core::schedule::{Definition, Plan};
use runner_core::task::{QueueName, RunSeries};
use runner_queue::{BrokerResult, Decision, QueueInfo, ServerView};
use serde::{Deserialize, Serialize};

use super::failures::Failures;
use super::problem_groups::ProblemGroup;
use super::rows::{self, ClockRow, DecisionRow, Pager, ProblemRow, StateCount};
use super::triggers::{AllTriggers, ConnectionRow, TriggerRow};
use crate::diagnose::is_served;
use crate::health::BrokerFault;
use crate::scheduler::coming;
use crate::source::{SourceState, SourceStatus};
use crate::web::app_state::AppState;
use crate::web::format::{self, IN_A_LIST, InstantText, Locale};
use crate::web::layout::{self, NavSection};
use crate::web::page_error::PageError;
use crate::web::render::PageTemplate;
use crate::web::request_context::SharedContext;
use crate::web::run_chart::{ChartRange, RunChart};
use crate::web::timeline::{self, Timeline};
use crate::web::unclaimed::UnclaimedRow;
use crate::web::urls;
use crate::worker::{LastSign, lost_workers};

/// Queues per page.
const QUEUES: usize = 50;
/// Up to this many queues are summed up; beyond that only those on the page.
const SUMMED: usize = 500;
/// Fires listed as next.
const NEXT: usize = 8;
/// Decisions listed.
const DECISIONS: usize = 8;
/// Types without a worker that are listed.
const UNCLAIMED: usize = 5;
/// How long the overview speaks of a lost worker; the page of servers does so for a day.
const LOST_LATELY: std::time::Duration = std::time::Duration::from_secs(3600);
/// The latency at which a queue needs attention.
const LATE: std::time::Duration = std::time::Duration::from_secs(60);

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
    processed_today: u64,
    failed_today: u64,
    /// It has tasks to run and no live server serves it.
    unserved: bool,
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

/// A future occurrence.
#[derive(Debug, Serialize)]
struct NextRow {
    at: InstantText,
    schedule: String,
    url: String,
    name: String,
    kind: String,
}

/// The page.
#[derive(Debug, Serialize)]
struct Overview {
    totals: Vec<Total>,
    failures: Failures,
    /// The number of queues in the sums, if not all.
    summed: Option<usize>,
    queues: Vec<QueueRow>,
    pager: Pager,
    /// The search text for queue names.
    filter: String,
    /// Whether there are more queues than fit on the page, so that it needs a search.
    many: bool,
    sources: Vec<SourceRow>,
    triggers: Vec<TriggerRow>,
    connections: Vec<ConnectionRow>,
    next: Vec<NextRow>,
    decisions: Vec<DecisionRow>,
    problems: Vec<ProblemGroup>,
    problem_count: usize,
    clock: Option<ClockRow>,
    unclaimed: Vec<UnclaimedRow>,
    schedule_count: usize,
    server_count: usize,
    /// Workers that were lost in the last hour.
    lost_count: usize,
    working: u64,
    room: u64,
    processed_today: u64,
    failed_today: u64,
    timeline: Timeline,
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
    let (queues, servers, decisions, corrections, upcoming, triggers, chart) = tokio::join!(
        queues(&app, filter, number),
        app.broker.servers(),
        app.broker.decisions(None, DECISIONS),
        app.broker.corrections(),
        coming(&*app.broker, &plan, locale.now, NEXT),
        AllTriggers::look(&app),
        chart(&app, locale, range),
    );
    let queues = if_readable(&app, queues)?;
    let servers = if_readable(&app, servers)?;
    let decisions = if_readable(&app, decisions)?;
    let upcoming = if_readable(&app, upcoming)?;
    let lost = if_readable(&app, lost_workers(&*app.broker, &servers).await)?;
    let clock = ClockRow::of(locale, if_readable(&app, corrections)?.as_ref());
    let (problems, _) = rows::by_weight(&plan);
    let mut shown: Vec<ProblemRow> = endangered(&app);
    shown.extend(if_readable(&app, triggers)?.problems());
    let failures = Failures::look(&app, locale, &plan, &queues.summed).await;
    let failures = if_readable(&app, failures)?;
    let recent = app
        .recent_decisions
        .look(&*app.broker, timeline::first_instant(locale.now));
    let recent = if_readable(&app, recent.await)?;
    let unclaimed = app.unclaimed.look(&*app.broker, &queues.summed).await;
    let problem_count = shown.len() + problems.len() + unclaimed.types.len() + usize::from(clock.is_some());
    shown.extend(problems.into_iter().map(ProblemRow::new));
    let shown = ProblemGroup::all(shown);
    let page = Overview {
        totals: totals(&queues.summed),
        failures,
        summed: (queues.all > SUMMED).then_some(queues.summed.len()),
        sources: SourceRow::all(locale, &app),
        triggers: TriggerRow::all(locale, &app),
        connections: ConnectionRow::all(locale, &app),
        next: upcoming.iter().map(|(at, d)| next_row(locale, *at, d)).collect(),
        clock,
        decisions: listed(locale, &plan, &decisions),
        problem_count,
        problems: shown,
        unclaimed: unclaimed
            .types
            .iter()
            .take(UNCLAIMED)
            .map(|u| UnclaimedRow::new(locale, u))
            .collect(),
        schedule_count: plan.schedules.len(),
        server_count: servers.len(),
        lost_count: lost.iter().filter(|sign| lately(locale, sign)).count(),
        working: servers.iter().map(|s| u64::from(s.info.active)).sum(),
        room: servers.iter().map(|s| u64::from(s.info.concurrency)).sum(),
        processed_today: queues.summed.iter().map(|q| q.processed_today).sum(),
        failed_today: queues.summed.iter().map(|q| q.failed_today).sum(),
        timeline: Timeline::new(locale, &plan, &recent),
        chart,
        queues: queues.listed.iter().map(|q| queue_row(locale, q, &servers)).collect(),
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

/// Whether a worker was lost so lately that it is worth a look.
fn lately(locale: &Locale, sign: &LastSign) -> bool {
    locale.now.duration_since(sign.at).unsigned_abs() < LOST_LATELY
}

/// Replaces the error of a damaged broker by an empty result, so that the page can report the damage.
fn if_readable<T: Default>(app: &AppState, answer: BrokerResult<T>) -> BrokerResult<T> {
    let damaged = |fault: BrokerFault| fault.code == "broker_corrupt";
    match answer {
        Err(_) if app.health.fault().is_some_and(damaged) => Ok(T::default()),
        answer => answer,
    }
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
        processed_today: queue.processed_today,
        failed_today: queue.failed_today,
        unserved: waiting > 0 && !is_served(servers, queue.name.as_str()),
    }
}

fn next_row(locale: &Locale, at: Timestamp, definition: &Definition) -> NextRow {
    NextRow {
        at: locale.moment(at),
        schedule: definition.id.to_string(),
        url: urls::schedule(definition.id.as_str()),
        name: definition.name.clone(),
        kind: definition.task.kind.clone(),
    }
}

fn listed(locale: &Locale, plan: &Plan, decisions: &[Decision]) -> Vec<DecisionRow> {
    decisions
        .iter()
        .take(DECISIONS)
        .map(|decision| {
            let queue = plan.schedules.get(&decision.schedule);
            DecisionRow::new(locale, decision, queue.map(|d| d.task.queue.as_str()))
        })
        .collect()
}
