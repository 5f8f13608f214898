//! Queues: a list, one, pause and resume.

use runner_core::task::{QueueName, covers};
use runner_queue::unclaimed;
use serde::Deserialize;
use utoipa::IntoParams;

use super::endpoint::{ApiCall, Endpoint, ListPart, Nothing};
use super::paging;
use super::problem::ApiProblem;
use super::tasks::Done;
use crate::objects::QueueObject;
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
    Ok(queues
        .iter()
        .map(|queue| QueueObject::of(queue, &unclaimed, zone))
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

async fn pause(call: ApiCall, _: Nothing) -> Result<Done, ApiProblem> {
    let changed = act::queues::hold(&call.app, &call.cx, &call.queue()?, true).await?;
    Ok(Done {
        changed,
        ..Done::new("paused")
    })
}

async fn resume(call: ApiCall, _: Nothing) -> Result<Done, ApiProblem> {
    let changed = act::queues::hold(&call.app, &call.cx, &call.queue()?, false).await?;
    Ok(Done {
        changed,
        ..Done::new("resumed")
    })
}
