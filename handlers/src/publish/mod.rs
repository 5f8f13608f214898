//! Publishes one message for a task, over a connection of the settings. Done means that the server has confirmed it.
//!
//! How a server is reached is not known here: this package knows the core and the SDK only, and the connections are shared with
//! triggers, so the program gives each as a [`Publisher`]. A message that was sent twice, because the answer to the first time
//! was lost, has the same id both times.

mod message;
mod publisher;

use std::time::Duration;

use runner_core::function::{PublishSpec, PublishTarget};
use runner_sdk::{Ctx, Outcome, TaskError};

pub use publisher::{
    Addressed, MessagePublisher, OutgoingMessage, PublishConnections, PublishFailure, Published, Publisher,
};

use crate::stopped::stopped;

/// Time limit of a message whose task has none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);

/// Publishes the message.
pub(crate) async fn run(
    spec: &PublishSpec,
    function: &str,
    connections: &PublishConnections,
    cx: &Ctx,
) -> Result<Outcome, TaskError> {
    let Some(publisher) = connections.of(spec) else {
        let text = format!("this worker has no connection {} of {}", spec.connection, section(spec));
        return Err(TaskError::retry(text));
    };
    let message = message::write(spec, function, cx)?;
    let id = message.id.clone();
    let limit = cx.time_limit().unwrap_or(DEFAULT_TIMEOUT);
    let published = tokio::select! {
        reason = cx.cancelled() => return Err(stopped(reason, cx)),
        published = tokio::time::timeout(limit, publisher.publish(message)) => published,
    };
    let connection = &spec.connection;
    match published {
        Ok(Ok(Published { said })) => {
            cx.log().push("log", &format!("{connection} took message {id}: {said}"));
            let result = serde_json::json!({"message_id": id, "connection": connection, "answer": said});
            Ok(Outcome::success(result.to_string()))
        }
        Ok(Err(PublishFailure { why, lasting: true })) => Err(TaskError::skip(format!("{connection}: {why}"))),
        Ok(Err(PublishFailure { why, lasting: false })) => Err(TaskError::retry(format!("{connection}: {why}"))),
        Err(_) => Err(TaskError::retry(format!("{connection}: timeout after {limit:?}"))),
    }
}

/// The settings that have the connection of a function.
pub(crate) fn section(spec: &PublishSpec) -> &'static str {
    match spec.target {
        PublishTarget::Exchange(_) => "rabbitmq.connections",
        PublishTarget::Channel { .. } | PublishTarget::Stream { .. } => "redis_connections",
    }
}
