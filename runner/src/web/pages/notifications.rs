//! What was reported to people lately, and with which outcome; the channels, each with a test.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use runner_core::notification::{NOTIFICATION_QUEUE, Notification, PutOff};
use runner_core::task::{QueueName, TaskState};
use runner_queue::{Page, TaskInfo};
use serde::Serialize;

use crate::web::app_state::AppState;
use crate::web::format::{self, IN_A_LIST, InstantText, Locale};
use crate::web::layout::{self, NavSection};
use crate::web::page_error::PageError;
use crate::web::render::PageTemplate;
use crate::web::request_context::SharedContext;
use crate::web::urls;

/// Notifications of one state that are looked at, and rows of the page.
const ROWS: usize = 50;

/// Where they may be. What waits in a group shows in the row of the task that put it there.
const STATES: [TaskState; 6] = [
    TaskState::Active,
    TaskState::Pending,
    TaskState::Retry,
    TaskState::Scheduled,
    TaskState::Archived,
    TaskState::Completed,
];

/// One channel.
#[derive(Debug, Serialize)]
struct ChannelRow {
    name: String,
    /// Where its test is asked for.
    test: String,
    sent: usize,
    failed: usize,
}

/// One notification.
#[derive(Debug, Serialize)]
struct NotificationRow {
    title: String,
    event: &'static str,
    channel: String,
    at: InstantText,
    /// Of the task that sends it.
    url: String,
    outcome: &'static str,
    icon: &'static str,
    tone: &'static str,
    error: String,
    /// When it is tried again.
    next: Option<InstantText>,
}

/// The page.
#[derive(Debug, Serialize)]
struct NotificationsPage {
    channels: Vec<ChannelRow>,
    rows: Vec<NotificationRow>,
    queue: String,
}

impl PageTemplate for NotificationsPage {
    const TEMPLATE: &'static str = "notifications.html";
}

/// `GET /queue/notifications`
pub async fn show(State(app): State<AppState>, Extension(cx): Extension<SharedContext>) -> Result<Response, PageError> {
    let found = found(&app).await?;
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (notification, task) in &found {
        let (sent, failed) = counts.entry(notification.channel.as_str()).or_default();
        *sent += usize::from(task.state == TaskState::Completed && !is_put_off(task));
        *failed += usize::from(task.state == TaskState::Archived);
    }
    let channel = |name: &String| {
        let (sent, failed) = counts.get(name.as_str()).copied().unwrap_or_default();
        ChannelRow {
            test: format!("{}/test", urls::channel(name)),
            name: name.clone(),
            sent,
            failed,
        }
    };
    let page = NotificationsPage {
        channels: app.settings.channels.iter().map(channel).collect(),
        rows: found
            .iter()
            .take(ROWS)
            .map(|(one, task)| row(&cx.locale, one, task))
            .collect(),
        queue: urls::tasks(NOTIFICATION_QUEUE, TaskState::Completed.as_str()),
    };
    layout::show(&app, &cx, NavSection::Notifications, &page)
}

/// Those of each state, newest first.
async fn found(app: &AppState) -> Result<Vec<(Notification, TaskInfo)>, PageError> {
    let mut found = Vec::new();
    // The name is ours.
    if let Ok(queue) = QueueName::new(NOTIFICATION_QUEUE) {
        for state in STATES {
            let page = Page { number: 1, size: ROWS };
            for task in app.broker.tasks(&queue, state, page).await?.tasks {
                found.extend(whole(app, task).await?);
            }
        }
    }
    found.sort_by_key(|(notification, _)| std::cmp::Reverse(notification.at));
    Ok(found)
}

/// The latest notifications with the tasks that send them, newest first.
pub(crate) async fn latest(app: &AppState) -> Result<Vec<(Notification, TaskInfo)>, PageError> {
    let mut found = found(app).await?;
    found.truncate(ROWS);
    Ok(found)
}

/// What has become of a notification, in a word.
pub(crate) fn outcome_of(task: &TaskInfo) -> &'static str {
    match task.state {
        TaskState::Completed if is_put_off(task) => "combined",
        TaskState::Completed => "sent",
        TaskState::Archived => "failed",
        TaskState::Retry => "again",
        TaskState::Active => "active",
        TaskState::Pending | TaskState::Scheduled | TaskState::Aggregating => "waits",
    }
}

/// The notification of a task; `None` of one that is none. Lists have the beginning of a payload only.
async fn whole(app: &AppState, task: TaskInfo) -> Result<Option<(Notification, TaskInfo)>, PageError> {
    let read = |task: &TaskInfo| serde_json::from_slice::<Notification>(&task.record.payload).ok();
    if let Some(notification) = read(&task) {
        return Ok(Some((notification, task)));
    }
    let whole = app.broker.glance(&task.record.queue, &task.record.id).await?;
    Ok(whole.and_then(|task| Some((read(&task)?, task))))
}

fn is_put_off(task: &TaskInfo) -> bool {
    task.result.as_deref().and_then(PutOff::of_result).is_some()
}

fn row(locale: &Locale, notification: &Notification, task: &TaskInfo) -> NotificationRow {
    let outcome = outcome_of(task);
    let (icon, tone) = match outcome {
        "combined" => ("aggregating", "plain"),
        "sent" => ("check", "good"),
        "failed" => ("cross", "bad"),
        "again" => ("retry", "warn"),
        "active" => ("active", "plain"),
        _ => ("pending", "plain"),
    };
    let failed = matches!(task.state, TaskState::Archived | TaskState::Retry);
    let error = if failed { task.record.last_error.as_str() } else { "" };
    NotificationRow {
        title: format::cut(&notification.title, IN_A_LIST),
        event: notification.event.as_str(),
        channel: format::cut(&notification.channel, IN_A_LIST),
        at: locale.moment(notification.at),
        url: urls::task(task.record.queue.as_str(), task.record.id.as_str()),
        outcome,
        icon,
        tone,
        error: format::cut(error, IN_A_LIST * 4),
        next: task
            .next_run
            .filter(|_| task.state == TaskState::Retry)
            .map(|at| locale.moment(at)),
    }
}
