//! Sends notifications: each is a task that names a channel of the settings and carries what happened.
//!
//! Not here: what is worth a notification, and to which channels it goes. A task brings no address and no template.

mod channel;
mod send;

pub use channel::{Channel, ChannelText, Channels};

use runner_core::notification::Notification;
use runner_sdk::{Ctx, Outcome, State, TaskError};

use crate::http::{Caller, HttpSettings};

/// What sending needs.
pub(crate) struct ChannelSender {
    channels: Channels,
    caller: Caller,
}

impl ChannelSender {
    pub(crate) fn new(channels: Channels, http: &HttpSettings) -> Self {
        let settings = HttpSettings {
            allow_private: true,
            allowed_hosts: Vec::new(),
            ..http.clone()
        };
        Self {
            channels,
            caller: Caller::new(settings),
        }
    }
}

/// Sends the notification of a task.
pub(crate) async fn run(State(sender): State<ChannelSender>, cx: Ctx) -> Result<Outcome, TaskError> {
    let notification: Notification = serde_json::from_slice(cx.payload())
        .map_err(|error| TaskError::skip(format!("the payload is no notification: {error}")))?;
    let Some(channel) = sender.channels.get(&notification.channel) else {
        return Err(TaskError::retry(format!(
            "the channel `{}` is not under notify.channels of this instance",
            notification.channel
        )));
    };
    send::send(channel, &notification, &sender.caller, &cx).await
}
