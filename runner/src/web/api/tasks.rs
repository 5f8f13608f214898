//! Tasks: lists, one with its attempts and reasons, and actions on one. Enqueueing is in `enqueue`.

use axum::http::StatusCode;
use runner_core::task::{QueueName, QueuePattern, TaskId, TaskState};
use runner_queue::{Action, Broker, BrokerError, LiveRun, Page, TaskPage};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::endpoint::{ApiCall, Endpoint, ListPart, Nothing};
use super::enqueue::enqueue;
use super::paging;
use super::problem::ApiProblem;
use crate::diagnose::{TaskFacts, why_task};
use crate::facts;
use crate::objects::{AttemptObject, LiveObject, ReasonWriter, TaskDetailsObject, TaskListItem, TaskObject};
use crate::web::act;
use crate::web::act::tasks::StopAnswer;

/// Tasks that one call of the broker reads, with the beginning of their payloads.
const PORTION: usize = 250;

/// Tasks that are searched for those of a type in one call.
const LOOKED_AT: usize = 5_000;

/// Queues that the broker is asked about in one call.
const CHUNK: usize = 500;

/// What a key does when a task is enqueued.
const ENQUEUE_KEY: &str = "Makes the call repeatable for a day: a second one with the same key adds nothing. A key counts for one \
    token, queue and type; with another payload it is refused (`api_key_reused`) as long as the first task is there. Not used if \
    the body has an `id`.";

/// What these calls are.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::list(
            "/tasks",
            "Lists tasks of one state, queue by queue, in the order of each list.",
            list,
        ),
        Endpoint::create_once("/tasks", "Enqueues a task.", ENQUEUE_KEY, enqueue),
        Endpoint::get(
            "/tasks/{queue}/{id}",
            "Shows one task with its attempts, and why it waits.",
            one,
        ),
        Endpoint::act("/tasks/{queue}/{id}/run", "Makes it pending now.", run),
        Endpoint::act("/tasks/{queue}/{id}/archive", "Archives it.", archive),
        Endpoint::act(
            "/tasks/{queue}/{id}/delete",
            "Deletes it and releases its uniqueness lock.",
            delete,
        ),
        Endpoint::act(
            "/tasks/{queue}/{id}/cancel",
            "Asks its worker to end the attempt that runs; it is retried if retries are left.",
            cancel,
        ),
        Endpoint::act(
            "/tasks/{queue}/{id}/stop",
            "Asks its worker to end it for good; it is archived.",
            stop,
        ),
    ]
}

/// What an action did.
#[derive(Debug, Serialize, ToSchema)]
pub struct Done {
    /// What was done, in a word or two, such as `archived`.
    pub done: String,
    /// Whether that changed anything; `false`: it was so before.
    pub changed: bool,
}

impl Done {
    /// It changed something.
    pub fn new(done: &str) -> Self {
        Self {
            done: done.to_owned(),
            changed: true,
        }
    }
}

/// The query of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct TaskListQuery {
    /// Only tasks in this state: `pending`, `active`, `scheduled`, `retry`, `archived`, `completed` or `aggregating`; `pending` if
    /// left out.
    #[param(pattern = "^(pending|active|scheduled|retry|archived|completed|aggregating)$")]
    state: Option<String>,
    /// Only tasks in this queue.
    #[param(min_length = 1)]
    queue: Option<String>,
    /// Only tasks of this type; `*` stands for any characters. Each call searches 5,000 tasks at most, so a part may have few items,
    /// or none, and `next` nevertheless.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Items of a part, 1 to 500; 50 if left out.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// `next` of the part before. Tasks that move between two calls may be listed twice or be left out.
    #[param(min_length = 1)]
    cursor: Option<String>,
}

/// The kind of its cursors.
const TASKS: &str = "tasks";

/// Where a part begins: a number of tasks into the list of a queue.
struct Position {
    queue: Option<String>,
    skip: usize,
}

impl Position {
    fn read(cursor: Option<&str>) -> Result<Self, ApiProblem> {
        let Some(place) = paging::place(TASKS, cursor)? else {
            return Ok(Self { queue: None, skip: 0 });
        };
        let (skip, queue) = place.split_once(' ').unwrap_or_default();
        Ok(Self {
            queue: Some(queue.to_owned()),
            skip: paging::number(skip)?,
        })
    }

    fn cursor(queue: &QueueName, skip: usize) -> String {
        paging::cursor(TASKS, &format!("{skip} {queue}"))
    }
}

async fn list(call: ApiCall, query: TaskListQuery) -> Result<ListPart<TaskListItem>, ApiProblem> {
    let limit = paging::limit(query.limit)?;
    let from = Position::read(query.cursor.as_deref())?;
    let state = match query.state.as_deref() {
        None => TaskState::Pending,
        Some(word) => word
            .parse()
            .map_err(|_| ApiProblem::bad_value("state", format!("{word:?} is not a state of tasks")))?,
    };
    let broker = &*call.app.broker;
    let queues = match query.queue {
        Some(name) => vec![QueueName::new(name).map_err(|why| ApiProblem::bad_value("queue", why))?],
        None => with_tasks(broker, state, from.queue.as_deref()).await?,
    };
    let zone = &call.app.settings.zone;
    let (mut items, mut looked) = (Vec::new(), 0);
    for queue in &queues {
        let mut skip = match &from.queue {
            Some(name) if name == queue.as_str() => from.skip,
            _ => 0,
        };
        loop {
            let page = Page {
                number: skip / PORTION + 1,
                size: PORTION,
            };
            let found = items_of(queue, broker.tasks(queue, state, page).await?, zone);
            let is_last = found.len() < PORTION;
            for item in found.into_iter().skip(skip % PORTION) {
                if items.len() == limit || looked == LOOKED_AT {
                    let next = Some(Position::cursor(queue, skip));
                    return Ok(ListPart { items, next });
                }
                (skip, looked) = (skip + 1, looked + 1);
                if is_of(query.kind.as_deref(), &item) {
                    items.push(item);
                }
            }
            if is_last {
                break;
            }
        }
    }
    Ok(ListPart { items, next: None })
}

/// The queues that have tasks in this state, by name, from the named one on.
async fn with_tasks(broker: &dyn Broker, state: TaskState, from: Option<&str>) -> Result<Vec<QueueName>, ApiProblem> {
    let mut names = broker.queue_names().await?;
    names.sort();
    names.retain(|name| from.is_none_or(|from| name.as_str() >= from));
    let mut queues = Vec::new();
    for chunk in names.chunks(CHUNK) {
        let found = broker.queues_of(chunk).await?.into_iter();
        let found = found.filter(|queue| queue.counts.get(&state).is_some_and(|count| *count > 0));
        queues.extend(found.map(|queue| queue.name));
    }
    Ok(queues)
}

fn items_of(queue: &QueueName, page: TaskPage, zone: &jiff::tz::TimeZone) -> Vec<TaskListItem> {
    let tasks = page.tasks.iter().map(|task| TaskListItem::of(task, zone));
    let unreadable = page.unreadable.iter().map(|raw| TaskListItem::unreadable(queue, raw));
    tasks.chain(unreadable).collect()
}

fn is_of(wanted: Option<&str>, item: &TaskListItem) -> bool {
    match (wanted, item) {
        (None, _) => true,
        (Some(wanted), TaskListItem::Task(task)) => {
            QueuePattern::new(wanted).map_or(wanted == task.kind, |pattern| pattern.matches(&task.kind))
        }
        // Its type cannot be read.
        (Some(_), TaskListItem::Unreadable(_)) => false,
    }
}

async fn one(call: ApiCall, _: Nothing) -> Result<TaskDetailsObject, ApiProblem> {
    let (queue, id) = (call.queue()?, call.task()?);
    let broker = &*call.app.broker;
    let task = match broker.task(&queue, &id).await {
        Err(BrokerError::Corrupt { what, .. }) => {
            let detail = format!("task {id} cannot be read: {what}");
            return Err(ApiProblem::new(StatusCode::CONFLICT, "api_unreadable", detail)
                .hint("the dashboard and `runner task show` have its bytes"));
        }
        found => found?,
    };
    let Some(task) = task else {
        return Err(gone(broker, &queue, &id).await);
    };
    let attempts = broker.attempts(&queue, &id).await?;
    let facts = facts::of_queue_now(broker, &queue).await?;
    let reasons = why_task(&TaskFacts::stored(&task, &attempts), &facts);
    let live = LiveRun::of(broker, &task).await?;
    let zone = &call.app.settings.zone;
    let writer = ReasonWriter { now: facts.now, zone };
    Ok(TaskDetailsObject {
        task: TaskObject::of(&task, zone),
        live: live.map(|live| LiveObject::of(live, zone)),
        attempts: attempts
            .iter()
            .map(|attempt| AttemptObject::of(attempt, zone))
            .collect(),
        reasons: writer.objects(&reasons),
    })
}

/// The refusal for a task that is not there; its run may be remembered.
async fn gone(broker: &dyn Broker, queue: &QueueName, id: &TaskId) -> ApiProblem {
    let gone = ApiProblem::gone("task", id.as_str());
    match broker.run(queue, id).await {
        Ok(Some(_)) => gone.hint("it is over and gone; /runs has what is remembered of its run"),
        _ => gone,
    }
}

async fn act_on(call: &ApiCall, action: Action) -> Result<Done, ApiProblem> {
    let (queue, id) = (call.queue()?, call.task()?);
    act::tasks::perform(&call.app, &call.cx, (&queue, &id), action).await?;
    Ok(Done::new(match action {
        Action::Run => "pending",
        other => other.done(),
    }))
}

async fn run(call: ApiCall, _: Nothing) -> Result<Done, ApiProblem> {
    act_on(&call, Action::Run).await
}

async fn archive(call: ApiCall, _: Nothing) -> Result<Done, ApiProblem> {
    act_on(&call, Action::Archive).await
}

async fn delete(call: ApiCall, _: Nothing) -> Result<Done, ApiProblem> {
    act_on(&call, Action::Delete).await
}

async fn cancel(call: ApiCall, _: Nothing) -> Result<Done, ApiProblem> {
    let (queue, id) = (call.queue()?, call.task()?);
    let answer = act::tasks::cancel(&call.app, &call.cx, &queue, &id).await?;
    asked(answer, &id)
}

/// Why a task is stopped.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StopTask {
    /// Kept with the task.
    reason: Option<String>,
}

async fn stop(call: ApiCall, body: StopTask) -> Result<Done, ApiProblem> {
    let (queue, id) = (call.queue()?, call.task()?);
    let answer = act::tasks::stop(&call.app, &call.cx, (&queue, &id), body.reason.as_deref()).await?;
    asked(answer, &id)
}

fn asked(answer: StopAnswer, id: &TaskId) -> Result<Done, ApiProblem> {
    let conflict = |why: &str| Err(ApiProblem::conflict(format!("task {id} {why}")));
    match answer {
        StopAnswer::Asked => Ok(Done::new("asked")),
        StopAnswer::Idle => conflict("is not running"),
        StopAnswer::Go => conflict("runs on a worker in Go, which only understands cancel"),
        StopAnswer::Unlisted => {
            conflict("is not listed by a server yet, and a worker in Go may have it; try again in seconds")
        }
    }
}
