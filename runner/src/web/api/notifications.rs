//! Notifications: what was reported to people lately, and a test of a channel.

use serde::Serialize;
use utoipa::ToSchema;

use super::endpoint::{ApiCall, Created, Endpoint, ListPart, Nothing};
use super::enqueue::task_address;
use super::problem::ApiProblem;
use crate::objects::{EnqueuedObject, WrittenInstant};
use crate::web::act::notifications::send_test;
use crate::web::pages::notifications::{latest, outcome_of};

/// What these calls are.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::list(
            "/notifications",
            "Lists what was reported to people lately, newest first, and with which outcome.",
            list,
        ),
        Endpoint::create(
            "/notifications/{channel}/test",
            "Sends a test over a channel; its task says what the receiver answered.",
            test,
        ),
    ]
}

/// A notification.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Notification)]
pub struct NotificationObject {
    /// In a line.
    title: String,
    /// What happened, in a word.
    event: String,
    /// The channel.
    channel: String,
    /// When it happened.
    at: WrittenInstant,
    /// `sent`, `failed`, `again` (it is tried again), `active`, `waits` or `combined`.
    outcome: String,
    /// Why the last attempt failed; empty if it did not.
    error: String,
    /// The queue of the task that sends it.
    queue: String,
    /// That task.
    task: String,
}

async fn list(call: ApiCall, _: Nothing) -> Result<ListPart<NotificationObject>, ApiProblem> {
    let zone = &call.app.settings.zone;
    let found = latest(&call.app).await?;
    let items = found.into_iter().map(|(notification, task)| NotificationObject {
        outcome: outcome_of(&task).to_owned(),
        title: notification.title,
        event: notification.event.as_str().to_owned(),
        channel: notification.channel,
        at: WrittenInstant::of(notification.at, zone),
        error: task.record.last_error,
        queue: task.record.queue.to_string(),
        task: task.record.id.to_string(),
    });
    Ok(ListPart {
        items: items.collect(),
        next: None,
    })
}

async fn test(call: ApiCall, _: Nothing) -> Result<Created<EnqueuedObject>, ApiProblem> {
    let enqueued = send_test(&call.app, &call.cx, &call.name("channel")).await?;
    let enqueued = enqueued.map_err(ApiProblem::conflict)?;
    Ok(Created {
        at: task_address(&enqueued.queue, &enqueued.id),
        body: EnqueuedObject::new(&enqueued, &call.app.settings.zone),
        new: true,
    })
}
