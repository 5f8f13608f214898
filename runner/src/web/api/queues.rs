//! Queues: a list, one, pause and resume.

use std::time::Duration;

use jiff::Timestamp;
use runner_core::task::{QueueName, covers};
use runner_queue::{Pause, unclaimed};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::endpoint::{ApiCall, Endpoint, ListPart, Nothing};
use super::paging;
use super::problem::ApiProblem;
use super::tasks::Done;
use crate::objects::QueueObject;
use crate::queue_pause::{LONGEST_QUEUE_PAUSE, of_paused};
use crate::web::act;

/// What these calls are.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::list("/queues", "Lists queues by name.", list),
        Endpoint::get("/queues/{queue}", "Shows one queue.", one),
        Endpoint::act(
            "/queues/{queue}/pause",
            "Stops workers from taking its tasks; running ones go on.",
            pause,
        ),
        Endpoint::act("/queues/{queue}/resume", "Lets workers take its tasks again.", resume),
    ]
}

/// The query of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct QueuesQuery {
    /// Only queues whose names match; `*` stands for any characters.
    #[serde(rename = "match")]
    pattern: Option<String>,
    /// Items of a part, 1 to 500; 50 if left out.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// `next` of the part before.
    #[param(min_length = 1)]
    cursor: Option<String>,
}

/// The kind of its cursors.
const QUEUES: &str = "queues";

async fn list(call: ApiCall, query: QueuesQuery) -> Result<ListPart<QueueObject>, ApiProblem> {
    let limit = paging::limit(query.limit)?;
    let after = paging::place(QUEUES, query.cursor.as_deref())?;
    let broker = &*call.app.broker;
    let mut names = broker.queue_names().await?;
    if let Some(pattern) = &query.pattern {
        names.retain(|name| covers(pattern, name.as_str()));
    }
    names.sort();
    if let Some(after) = &after {
        names.retain(|name| name.as_str() > after.as_str());
    }
    let more = names.len() > limit;
    names.truncate(limit);
    let next = names.last().filter(|_| more);
    let next = next.map(|last| paging::cursor(QUEUES, last.as_str()));
    Ok(ListPart {
        items: objects(&call, &names).await?,
        next,
    })
}

async fn objects(call: &ApiCall, names: &[QueueName]) -> Result<Vec<QueueObject>, ApiProblem> {
    let broker = &*call.app.broker;
    let queues = broker.queues_of(names).await?;
    let unclaimed = unclaimed(broker, &queues).await?.types;
    let zone = &call.app.settings.zone;
    let pauses = of_paused(broker, &queues).await?;
    Ok(queues
        .iter()
        .map(|queue| QueueObject::of(queue, &unclaimed, zone).paused_as(pauses.get(&queue.name), zone))
        .collect())
}

async fn one(call: ApiCall, _: Nothing) -> Result<QueueObject, ApiProblem> {
    let name = call.queue()?;
    let found = objects(&call, std::slice::from_ref(&name)).await?;
    found
        .into_iter()
        .next()
        .ok_or_else(|| ApiProblem::gone("queue", name.as_str()))
}

/// A pause: until someone resumes the queue, unless it has an end.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueuePause {
    /// Why, on one line.
    note: Option<String>,
    /// Resume it after this time, to within a few seconds; at most 366 days.
    #[schema(minimum = 1)]
    for_seconds: Option<u64>,
}

async fn pause(call: ApiCall, body: QueuePause) -> Result<Done, ApiProblem> {
    let until = match body.for_seconds {
        None => None,
        Some(length) if (1..=LONGEST_QUEUE_PAUSE.as_secs()).contains(&length) => {
            let until = call.app.broker.now().await?.checked_add(Duration::from_secs(length));
            until
                .ok()
                .and_then(|until| Timestamp::from_second(until.as_second()).ok())
        }
        Some(_) => return Err(ApiProblem::bad_value("for_seconds", "it must be from 1 to 31622400")),
    };
    let pause = Pause {
        until,
        ..Pause::by(call.cx.name())
    };
    let pause = pause.because(body.note.as_deref());
    let changed = act::queues::hold(&call.app, &call.cx, &call.queue()?, pause).await?;
    Ok(Done {
        changed,
        ..Done::new("paused")
    })
}

async fn resume(call: ApiCall, _: Nothing) -> Result<Done, ApiProblem> {
    let changed = act::queues::release(&call.app, &call.cx, &call.queue()?).await?;
    Ok(Done {
        changed,
        ..Done::new("resumed")
    })
}
