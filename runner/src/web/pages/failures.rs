//! What failed lately, for the first page: schedules whose last run failed, and tasks that failed for good.

use std::time::Duration;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use runner_core::schedule::{Definition, Plan, ScheduleId};
use runner_core::task::TaskState;
use runner_queue::{BrokerResult, Decision, Page, QueueInfo, TaskInfo};

use crate::diagnose::failed_in_a_row;
use crate::task_search::error_group;
use crate::web::app_state::AppState;
use crate::web::urls;

/// Failing schedules that are named; the list of schedules has all.
const SCHEDULES: usize = 5;
/// Decisions of each that are read: as many failures in a row are counted.
const DECISIONS: usize = 20;
/// Archived tasks that are read of a queue: some of them may belong to these schedules, others failed in the same way.
const TASKS: usize = 10;
/// Queues whose archives are read: those with the most failures today.
const QUEUES: usize = 16;
/// Older failures are stock, not news.
const RECENT: Duration = Duration::from_secs(24 * 3600);

/// A schedule whose last run failed for good.
#[derive(Debug)]
pub(super) struct FailingSchedule {
    pub(super) id: ScheduleId,
    /// As it is shown.
    pub(super) name: String,
    /// Failures since the last run that ended otherwise.
    pub(super) in_a_row: usize,
    /// When the last one ended.
    pub(super) last: Option<Timestamp>,
}

/// Tasks of one type that failed for good in the same way.
#[derive(Debug)]
pub(super) struct FailedTasks {
    pub(super) kind: String,
    pub(super) n: u64,
    /// When the last one failed.
    pub(super) last: Timestamp,
    /// How.
    pub(super) error: String,
    /// The task, or the list of them.
    pub(super) url: String,
}

/// What failed lately.
#[derive(Debug, Default)]
pub(super) struct Failures {
    pub(super) schedules: Vec<FailingSchedule>,
    schedule_count: usize,
    pub(super) tasks: Vec<FailedTasks>,
}

impl Failures {
    /// Asks the broker: one call for the schedules, one for each of a few queues that have archived tasks.
    pub(super) async fn look(app: &AppState, now: Timestamp, plan: &Plan, queues: &[QueueInfo]) -> BrokerResult<Self> {
        let health = app.schedule_health.look(&*app.broker, plan).await;
        let failing = health.failing.iter().filter_map(|id| plan.schedules.get(id));
        let failing: Vec<&Definition> = failing.filter(|d| d.enabled).collect();
        let listed: Vec<&Definition> = failing.iter().copied().take(SCHEDULES).collect();
        let (schedules, tasks) = tokio::try_join!(schedules(app, &listed), newest_archived(app, now, queues))?;
        // The tasks of a failing schedule are one click away from it.
        let others = tasks.into_iter().filter(|task| !belongs_to(task, &failing));
        Ok(Self {
            schedules,
            schedule_count: failing.len(),
            tasks: alike(others, now),
        })
    }

    /// Failing schedules that are not named.
    pub(super) fn further(&self) -> usize {
        self.schedule_count.saturating_sub(self.schedules.len())
    }

    /// Failing schedules.
    pub(super) fn schedule_count(&self) -> usize {
        self.schedule_count
    }
}

async fn schedules(app: &AppState, listed: &[&Definition]) -> BrokerResult<Vec<FailingSchedule>> {
    let ids: Vec<ScheduleId> = listed.iter().map(|d| d.id.clone()).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let each = app.broker.decisions_each(&ids, DECISIONS).await?;
    let row = |(d, decisions): (&&Definition, &Vec<Decision>)| FailingSchedule {
        id: d.id.clone(),
        name: Some(d.name.clone())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| d.id.to_string()),
        in_a_row: failed_in_a_row(decisions),
        last: decisions
            .iter()
            .find_map(|decision| decision.end.as_ref())
            .map(|end| end.ended_at),
    };
    Ok(listed.iter().zip(&each).map(row).collect())
}

/// Tasks that were archived lately, newest first.
async fn newest_archived(app: &AppState, now: Timestamp, queues: &[QueueInfo]) -> BrokerResult<Vec<TaskInfo>> {
    let archived = |q: &&QueueInfo| q.counts.get(&TaskState::Archived).is_some_and(|n| *n > 0);
    let mut asked: Vec<&QueueInfo> = queues.iter().filter(archived).collect();
    asked.sort_by_key(|q| std::cmp::Reverse(q.failed_today));
    asked.truncate(QUEUES);
    let page = Page { number: 1, size: TASKS };
    let looks = asked
        .iter()
        .map(|q| app.broker.tasks(&q.name, TaskState::Archived, page));
    let pages = try_join_all(looks).await?;
    let recent = |task: &TaskInfo| archived_at(task).is_some_and(|at| now.duration_since(at).unsigned_abs() < RECENT);
    let mut tasks: Vec<TaskInfo> = pages.into_iter().flat_map(|page| page.tasks).filter(recent).collect();
    tasks.sort_by_key(|task| std::cmp::Reverse(archived_at(task)));
    Ok(tasks)
}

fn archived_at(task: &TaskInfo) -> Option<Timestamp> {
    task.filed_at.or(task.record.last_failed_at)
}

fn belongs_to(task: &TaskInfo, schedules: &[&Definition]) -> bool {
    let id = task.record.id.as_str();
    schedules
        .iter()
        .any(|d| id.strip_prefix(d.id.as_str()).is_some_and(|rest| rest.starts_with('@')))
}

/// Puts tasks of one type with the same error together. They are given newest first.
fn alike(tasks: impl Iterator<Item = TaskInfo>, now: Timestamp) -> Vec<FailedTasks> {
    let mut found: Vec<(String, FailedTasks)> = Vec::new();
    for task in tasks {
        let (record, group) = (&task.record, error_group(&task.record.last_error));
        let same = found
            .iter_mut()
            .find(|(known, one)| *known == group && one.kind == record.kind);
        if let Some((_, one)) = same {
            one.n += 1;
            let list = format!("{}/tasks?state={}", urls::root(), TaskState::Archived.as_str());
            let (kind, error) = (urls::encoded(&record.kind), urls::encoded(&group));
            one.url = format!("{list}&type={kind}&error={error}");
            continue;
        }
        let one = FailedTasks {
            kind: record.kind.clone(),
            n: 1,
            last: archived_at(&task).unwrap_or(now),
            error: record.last_error.lines().next().unwrap_or_default().to_owned(),
            url: urls::task(record.queue.as_str(), record.id.as_str()),
        };
        found.push((group, one));
    }
    found.into_iter().map(|(_, one)| one).collect()
}
