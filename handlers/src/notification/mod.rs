//! Sends notifications: each is a task that names a channel of the settings and carries what happened.
//!
//! Not here: what is worth a notification, and to which channels it goes. A task brings no address and no template.

mod budget;
mod channel;
mod escape;
mod hide;
mod send;
mod sign;
mod template;

pub(crate) use budget::{GROUPS, combine};
pub use channel::{Channel, ChannelText, Channels, DEFAULT_PER_MINUTE, LimitedChannel};
pub use escape::Escapes;
pub use sign::RobotSignature;
pub use template::{CHANNEL_VALUES, ChannelTemplate, NOTIFICATION_VALUES};

use runner_core::notification::{NOTIFICATION_QUEUE, Notification, NotifyOn};
use runner_sdk::{Ctx, NotEnqueued, Outcome, State, TaskError};
use tokio::time::Instant;

use crate::http::{Caller, HttpSettings};
use crate::kinds::HandlerSettings;
use crate::mail::MailSettings;
use budget::ChannelBudget;

/// The services that a channel can name as its kind, in YAML.
pub const SERVICES: &str = include_str!("services.yaml");

/// What sending needs.
pub(crate) struct ChannelSender {
    channels: Channels,
    caller: Caller,
    mail: Option<MailSettings>,
    budget: ChannelBudget,
}

impl ChannelSender {
    pub(crate) fn new(settings: &HandlerSettings) -> Self {
        let http = HttpSettings {
            allow_private: true,
            allowed_hosts: Vec::new(),
            ..settings.http.clone()
        };
        Self {
            channels: settings.channels.clone(),
            caller: Caller::new(http),
            mail: settings.mail.clone(),
            budget: ChannelBudget::default(),
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
    // A test is there for its answer, and what combines others is rare.
    if !matches!(notification.event, NotifyOn::Test | NotifyOn::Several)
        && let Err(group) = sender
            .budget
            .take(&notification.channel, channel.per_minute, Instant::now())
    {
        return wait_in(&group, &notification, &cx).await;
    }
    send::send(&channel.channel, &notification, &sender, &cx).await
}

/// Leaves the notification to the group, to be combined with others. Its id is made of that of the task, so that a repetition adds it
/// once.
async fn wait_in(group: &str, notification: &Notification, cx: &Ctx) -> Result<Outcome, TaskError> {
    let task = notification.task().group(group).id(format!("{}.more", cx.id()));
    match cx.enqueue(task).await {
        Ok(_) | Err(NotEnqueued::Duplicate) => {
            cx.log()
                .push("log", "too many in this minute: it is combined with others");
            Ok(Outcome::success(r#"{"combined": true}"#))
        }
        Err(error) => Err(TaskError::retry(format!("{NOTIFICATION_QUEUE}: {error}"))),
    }
}
