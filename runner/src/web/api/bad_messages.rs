//! Messages that could not become tasks: a list, one; run its function with it after all, delete it.

use runner_queue::MAX_DOCUMENTS;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::endpoint::{ApiCall, Created, Endpoint, ListPart, Nothing};
use super::enqueue::task_address;
use super::paging;
use super::problem::ApiProblem;
use super::tasks::Done;
use crate::objects::EnqueuedObject;
use crate::trigger::{SavedMessage, SavedNames, messages_named};
use crate::web::act::bad_messages::{self, RunMessage};
use crate::web::pages::bad_messages::message_of;

/// The kind of the cursors.
const MESSAGES: &str = "bad-messages";

/// What these calls are.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::list(
            "/bad-messages",
            "Lists messages that could not become tasks, newest first, as far as they are kept.",
            list,
        ),
        Endpoint::get("/bad-messages/{name}/{stamp}", "Shows one of them.", one),
        Endpoint::create(
            "/bad-messages/{name}/{stamp}/run",
            "Runs its function with it, and forgets it. A second call within ten minutes runs nothing.",
            run,
        ),
        Endpoint::act("/bad-messages/{name}/{stamp}/delete", "Deletes it.", delete),
    ]
}

/// The query of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct BadMessageListQuery {
    /// Only those of this trigger.
    trigger: Option<String>,
    /// Items of a part, 1 to 64; 50 if left out.
    #[param(minimum = 1, maximum = 64)]
    limit: Option<usize>,
    /// `next` of the part before.
    #[param(min_length = 1)]
    cursor: Option<String>,
}

/// A message that could not become a task.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BadMessage)]
pub struct BadMessageObject {
    /// The name under which it is kept.
    name: String,
    /// Identifies it among all that have or had this name.
    stamp: String,
    /// What is kept of it: `trigger`, `why`, `at`, `bytes`, `body` or `body_base64`, and what its kind knows.
    #[serde(flatten)]
    document: Map<String, Value>,
}

impl From<SavedMessage> for BadMessageObject {
    fn from(message: SavedMessage) -> Self {
        Self {
            name: message.name,
            stamp: message.stamp,
            document: message.document,
        }
    }
}

async fn list(call: ApiCall, query: BadMessageListQuery) -> Result<ListPart<BadMessageObject>, ApiProblem> {
    let limit = paging::limit_to(query.limit, MAX_DOCUMENTS)?;
    let skip = paging::skipped(MESSAGES, query.cursor.as_deref())?;
    let broker = &*call.app.broker;
    let names = SavedNames::all(broker).await?.of(query.trigger.as_deref());
    let of_part: Vec<String> = names.iter().skip(skip).take(limit).cloned().collect();
    let end = skip.saturating_add(of_part.len());
    let messages = messages_named(broker, &of_part).await?;
    Ok(ListPart {
        items: messages.into_iter().map(BadMessageObject::from).collect(),
        next: (end < names.len() && !of_part.is_empty()).then(|| paging::cursor(MESSAGES, &end.to_string())),
    })
}

async fn found(call: &ApiCall) -> Result<SavedMessage, ApiProblem> {
    Ok(message_of(&call.app, &call.name("name"), &call.name("stamp")).await?)
}

async fn one(call: ApiCall, _: Nothing) -> Result<BadMessageObject, ApiProblem> {
    Ok(found(&call).await?.into())
}

async fn run(call: ApiCall, _: Nothing) -> Result<Created<EnqueuedObject>, ApiProblem> {
    let message = found(&call).await?;
    match bad_messages::run_function(&call.app, &call.cx, &message).await? {
        RunMessage::Refused(why) => Err(ApiProblem::conflict(why)),
        RunMessage::Done { queue, id, new } => {
            let info = call.app.broker.glance(&queue, &id).await?;
            let mut body = EnqueuedObject::repeated(&queue, &id, info.map(|info| info.state));
            body.repeated = !new;
            Ok(Created {
                at: task_address(&queue, &id),
                body,
                new,
            })
        }
    }
}

async fn delete(call: ApiCall, _: Nothing) -> Result<Done, ApiProblem> {
    let message = found(&call).await?;
    bad_messages::forget(&call.app, &call.cx, &message).await?;
    Ok(Done::new("deleted"))
}
