//! What `runner top` shows, read from the broker and the sources.
//!
//! Every list has a bound, since it is read every few seconds. Not here: how it is shown.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use runner_core::schedule::{Definition, Plan, ScheduleId};
use runner_core::task::{QueueName, RunCounts, RunSeries, TaskState};
use runner_queue::{Broker, CountedBy, Decision, Page, QueueInfo, ServerView, Standing, TaskInfo};
use tokio::time::Instant;

use crate::cli::{CommandContext, schedule_named};
use crate::diagnose::failed_in_a_row;

/// Queues that are asked about, by name. The screen says so if there are more.
const QUEUES: usize = 500;

/// Queues whose runs are counted, of those.
const COUNTED: usize = 200;

/// Minutes of the chart.
pub(super) const MINUTES: i64 = 60;

/// Minutes from which the rate, the failures and the run time of a queue are taken.
pub(super) const LATELY: i64 = 15;

/// Schedules whose decisions are read, by id.
const SCHEDULES: usize = 1_000;

/// Decisions of a schedule that are read.
pub(super) const DECISIONS: usize = 12;

/// Sources are read again after this time: a directory and a table may be large.
const SOURCES_VALID: Duration = Duration::from_secs(10);

/// Queues whose failed tasks are read, those with the most first, and how many of each.
const FAILED_QUEUES: usize = 20;
const FAILED_OF_EACH: usize = 20;

/// Failed tasks that are shown.
const FAILED: usize = 100;

/// A schedule, and how its last runs ended.
#[derive(Debug)]
pub(super) struct ScheduleSnapshot {
    pub definition: Definition,
    pub standing: Option<Standing>,
    /// Newest first.
    pub decisions: Vec<Decision>,
    /// When it occurs next, unless it is paused or disabled.
    pub next: Option<Timestamp>,
}

impl ScheduleSnapshot {
    /// Whether an operator paused it.
    pub fn is_paused(&self) -> bool {
        self.standing.as_ref().is_some_and(|s| s.paused.is_some())
    }

    /// How often in a row it has failed for good.
    pub fn failed_in_a_row(&self) -> usize {
        match self.definition.enabled {
            true => failed_in_a_row(&self.decisions),
            false => 0,
        }
    }
}

/// The schedules of all sources.
#[derive(Debug, Default)]
pub(super) struct ScheduleSnapshots {
    pub plan: Arc<Plan>,
    /// Those that fail first, then by when they occur next.
    pub schedules: Vec<ScheduleSnapshot>,
    /// How many there are, if more than are shown.
    pub left_out: usize,
}

/// One look at everything.
#[derive(Debug, Default)]
pub(super) struct TopSnapshot {
    /// By the clock of the broker.
    pub at: Timestamp,
    /// By name, each with the counts of the last [`LATELY`] minutes if they are known.
    pub queues: Vec<(QueueInfo, Option<RunCounts>)>,
    /// Queues that are not among them.
    pub queues_left_out: usize,
    /// By host and process.
    pub servers: Vec<ServerView>,
    pub schedules: Arc<ScheduleSnapshots>,
    /// Archived tasks, the last ones first.
    pub failed: Vec<TaskInfo>,
    /// Runs of each of the last [`MINUTES`] minutes, the present one last.
    pub minutes: Vec<RunCounts>,
}

/// Reads, and remembers what need not be read each time.
pub(super) struct SnapshotReader {
    broker: Arc<dyn Broker>,
    schedules: Option<(Instant, Arc<ScheduleSnapshots>)>,
}

impl SnapshotReader {
    pub fn new(broker: Arc<dyn Broker>) -> Self {
        Self {
            broker,
            schedules: None,
        }
    }

    /// After an action on a schedule.
    pub fn forget_schedules(&mut self) {
        self.schedules = None;
    }

    pub async fn look(&mut self, context: &CommandContext) -> anyhow::Result<TopSnapshot> {
        let broker = Arc::clone(&self.broker);
        let broker = broker.as_ref();
        let at = broker.now().await?;
        let mut names = broker.queue_names().await?;
        names.sort();
        let queues_left_out = names.len().saturating_sub(QUEUES);
        names.truncate(QUEUES);
        let mut queues = broker.queues_of(&names).await?;
        queues.sort_by(|a, b| a.name.cmp(&b.name));
        let mut servers = broker.servers().await?;
        servers.sort_by(|a, b| (&a.info.host, a.info.pid).cmp(&(&b.info.host, b.info.pid)));
        let failed = failed(broker, &queues).await?;
        let mut counted = lately(broker, &queues, at).await?.into_iter();
        Ok(TopSnapshot {
            at,
            queues: queues.into_iter().map(|queue| (queue, counted.next())).collect(),
            queues_left_out,
            servers,
            schedules: self.schedules(context, at).await?,
            failed,
            minutes: minutes(broker, at).await?,
        })
    }

    async fn schedules(&mut self, context: &CommandContext, now: Timestamp) -> anyhow::Result<Arc<ScheduleSnapshots>> {
        if let Some((read, known)) = &self.schedules
            && read.elapsed() < SOURCES_VALID
        {
            return Ok(Arc::clone(known));
        }
        let loaded = schedule_named::read(context, &self.broker).await?;
        let known = Arc::new(schedules(self.broker.as_ref(), loaded.plan, now).await?);
        self.schedules = Some((Instant::now(), Arc::clone(&known)));
        Ok(known)
    }
}

/// The counts of these queues in the last minutes, in their order; fewer if not all are counted.
async fn lately(broker: &dyn Broker, queues: &[QueueInfo], now: Timestamp) -> anyhow::Result<Vec<RunCounts>> {
    let series: Vec<RunSeries> = queues
        .iter()
        .take(COUNTED)
        .map(|queue| RunSeries::Queue(queue.name.to_string()))
        .collect();
    let from = now - Duration::from_secs(60 * (LATELY - 1).unsigned_abs());
    let periods = broker.run_counts(&series, CountedBy::Minute, (from, now)).await?;
    Ok(periods
        .into_iter()
        .map(|periods| {
            let mut sum = RunCounts::default();
            periods.iter().for_each(|(_, counts)| sum.add(counts));
            sum
        })
        .collect())
}

async fn minutes(broker: &dyn Broker, now: Timestamp) -> anyhow::Result<Vec<RunCounts>> {
    let from = now - Duration::from_secs(60 * (MINUTES - 1).unsigned_abs());
    let found = broker
        .run_counts(&[RunSeries::All], CountedBy::Minute, (from, now))
        .await?;
    let last = now.as_second().div_euclid(60);
    let mut minutes = vec![RunCounts::default(); usize::try_from(MINUTES).unwrap_or_default()];
    for (at, counts) in found.into_iter().flatten() {
        let ago = last - at.as_second().div_euclid(60);
        if let Ok(place) = usize::try_from(MINUTES - 1 - ago)
            && let Some(minute) = minutes.get_mut(place)
        {
            minute.add(&counts);
        }
    }
    Ok(minutes)
}

async fn failed(broker: &dyn Broker, queues: &[QueueInfo]) -> anyhow::Result<Vec<TaskInfo>> {
    let archived = |queue: &QueueInfo| queue.counts.get(&TaskState::Archived).copied().unwrap_or(0);
    let mut with: Vec<(u64, &QueueName)> = queues
        .iter()
        .map(|queue| (archived(queue), &queue.name))
        .filter(|(archived, _)| *archived > 0)
        .collect();
    with.sort_by(|a, b| b.cmp(a));
    let page = Page {
        number: 1,
        size: FAILED_OF_EACH,
    };
    let mut failed = Vec::new();
    for (_, queue) in with.into_iter().take(FAILED_QUEUES) {
        failed.extend(broker.tasks(queue, TaskState::Archived, page).await?.tasks);
    }
    failed.sort_by(|a, b| (b.filed_at, &a.record.id).cmp(&(a.filed_at, &b.record.id)));
    failed.truncate(FAILED);
    Ok(failed)
}

async fn schedules(broker: &dyn Broker, plan: Arc<Plan>, now: Timestamp) -> anyhow::Result<ScheduleSnapshots> {
    let ids: Vec<ScheduleId> = plan.schedules.keys().take(SCHEDULES).cloned().collect();
    let standings = broker.standings(&ids).await?;
    let decisions = broker.decisions_each(&ids, DECISIONS).await?;
    let each = plan.schedules.values().zip(standings).zip(decisions);
    let mut schedules: Vec<ScheduleSnapshot> = each
        .map(|((definition, standing), decisions)| {
            let fires = definition.enabled && standing.as_ref().is_none_or(|s| s.paused.is_none());
            let next = fires.then(|| match &standing {
                Some(standing) => standing.next(&definition.timing, now),
                None => definition.timing.next(now),
            });
            ScheduleSnapshot {
                definition: definition.clone(),
                standing,
                decisions,
                next: next.flatten(),
            }
        })
        .collect();
    schedules.sort_by_key(|one| {
        let next = one.next.unwrap_or(Timestamp::MAX);
        (
            std::cmp::Reverse(one.failed_in_a_row()),
            next,
            one.definition.id.clone(),
        )
    });
    Ok(ScheduleSnapshots {
        left_out: plan.schedules.len().saturating_sub(SCHEDULES),
        plan,
        schedules,
    })
}
