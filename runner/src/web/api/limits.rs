//! Limits: how full they are, and how many tasks wait at each.

use runner_core::task::QueueName;
use serde::Deserialize;
use utoipa::IntoParams;

use super::endpoint::{ApiCall, Endpoint, ListPart};
use super::paging;
use super::problem::ApiProblem;
use crate::objects::LimitObject;

/// Queues whose limits are read in one call: about a millisecond of the store each.
const QUEUES: usize = 50;

/// What these calls are.
pub fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint::list(
        "/limits",
        "Lists limits at which tasks run or wait, queue by queue, those with most waiting first.",
        list,
    )]
}

/// The query of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct LimitListQuery {
    /// Only those of this queue.
    #[param(min_length = 1)]
    queue: Option<String>,
    /// `next` of the part before. A part has those of fifty queues, at most 500 of each.
    #[param(min_length = 1)]
    cursor: Option<String>,
}

async fn list(call: ApiCall, query: LimitListQuery) -> Result<ListPart<LimitObject>, ApiProblem> {
    let after = paging::place("limits", query.cursor.as_deref())?;
    let broker = &*call.app.broker;
    let mut queues = match query.queue {
        Some(name) => vec![QueueName::new(name).map_err(|why| ApiProblem::bad_value("queue", why))?],
        None => broker.queue_names().await?,
    };
    queues.sort();
    if let Some(after) = &after {
        queues.retain(|queue| queue.as_str() > after.as_str());
    }
    let more = queues.len() > QUEUES;
    queues.truncate(QUEUES);
    let mut items = Vec::new();
    for queue in &queues {
        let found = broker.limits_in_use(queue).await?;
        items.extend(found.into_iter().map(|limit| LimitObject::of(queue, limit)));
    }
    let last = queues.last().filter(|_| more);
    Ok(ListPart {
        items,
        next: last.map(|queue| paging::cursor("limits", queue.as_str())),
    })
}
