//! What failed lately, for the overview: schedules whose last run failed, and tasks that failed for good.

use std::time::Duration;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use runner_core::schedule::{Definition, Plan, ScheduleId};
use runner_core::task::TaskState;
use runner_queue::{BrokerResult, Page, QueueInfo, TaskInfo};
use serde::Serialize;

use super::schedule_row::ScheduleRow;
use crate::web::app_state::AppState;
use crate::web::format::{self, IN_A_LIST, InstantText, Locale};
use crate::web::run_strip;
use crate::web::urls;

/// Failing schedules listed; the list of schedules has all.
const SCHEDULES: usize = 5;
/// Failed tasks listed.
const TASKS: usize = 5;
/// Queues whose archives are read: those with the most failures today.
const QUEUES: usize = 16;
/// Older failures are stock, not news.
const RECENT: Duration = Duration::from_secs(24 * 3600);

/// A task that failed for good.
#[derive(Debug, Serialize)]
struct FailedTask {
    id: String,
    url: String,
    kind: String,
    queue: String,
    archive_url: String,
    at: InstantText,
    error: String,
}

/// What failed lately.
#[derive(Debug, Default, Serialize)]
pub(super) struct Failures {
    schedules: Vec<ScheduleRow>,
    schedule_count: usize,
    schedules_url: String,
    tasks: Vec<FailedTask>,
    /// Further tasks failed today, in any queue.
    any: bool,
}

impl Failures {
    /// Asks the broker: one call for the schedules, one for each of a few queues that have archived tasks.
    pub(super) async fn look(app: &AppState, locale: &Locale, plan: &Plan, queues: &[QueueInfo]) -> BrokerResult<Self> {
        let health = app.schedule_health.look(&*app.broker, plan).await;
        let failing = health.failing.iter().filter_map(|id| plan.schedules.get(id));
        let failing: Vec<&Definition> = failing.filter(|d| d.enabled).collect();
        let listed: Vec<&Definition> = failing.iter().copied().take(SCHEDULES).collect();
        let (schedules, tasks) = tokio::try_join!(
            schedules(app, locale, plan, &listed),
            newest_archived(app, locale.now, queues)
        )?;
        // The tasks of a listed schedule are one click away from it.
        let others = tasks.iter().filter(|task| !belongs_to(task, &listed));
        let tasks: Vec<FailedTask> = others.take(TASKS).map(|task| failed(locale, task)).collect();
        Ok(Self {
            any: !schedules.is_empty() || !tasks.is_empty(),
            schedules,
            schedule_count: failing.len(),
            schedules_url: format!("{}?state=failing", urls::schedules()),
            tasks,
        })
    }
}

async fn schedules(
    app: &AppState,
    locale: &Locale,
    plan: &Plan,
    listed: &[&Definition],
) -> BrokerResult<Vec<ScheduleRow>> {
    let ids: Vec<ScheduleId> = listed.iter().map(|d| d.id.clone()).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let each = app.broker.decisions_each(&ids, run_strip::DRAWN).await?;
    let row = |(d, decisions): (&&Definition, &Vec<_>)| {
        ScheduleRow::new(locale, plan, d, None).with_decisions(locale, d, decisions)
    };
    Ok(listed.iter().zip(&each).map(row).collect())
}

/// Tasks that were archived lately, newest first.
async fn newest_archived(app: &AppState, now: Timestamp, queues: &[QueueInfo]) -> BrokerResult<Vec<TaskInfo>> {
    let archived = |q: &&QueueInfo| q.counts.get(&TaskState::Archived).is_some_and(|n| *n > 0);
    let mut asked: Vec<&QueueInfo> = queues.iter().filter(archived).collect();
    asked.sort_by_key(|q| std::cmp::Reverse(q.failed_today));
    asked.truncate(QUEUES);
    let page = Page {
        number: 1,
        // Some of them may belong to the schedules listed above.
        size: TASKS * 2,
    };
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

fn failed(locale: &Locale, task: &TaskInfo) -> FailedTask {
    let record = &task.record;
    let error = record.last_error.lines().next().unwrap_or_default();
    FailedTask {
        id: record.id.to_string(),
        url: urls::task(record.queue.as_str(), record.id.as_str()),
        kind: format::cut(&record.kind, IN_A_LIST),
        queue: record.queue.to_string(),
        archive_url: urls::tasks(record.queue.as_str(), TaskState::Archived.as_str()),
        at: locale.moment(archived_at(task).unwrap_or(locale.now)),
        error: format::cut(error, IN_A_LIST),
    }
}
