//! Sends notifications: each is a task that names a channel of the settings and carries what happened.
//!
//! Not here: what is worth a notification, and to which channels it goes. A task brings no address and no template.

mod budget;
mod channel;
mod combine;
mod escape;
mod hide;
mod line;
mod send;
mod sign;
mod template;

pub use channel::{Channel, ChannelText, Channels, DEFAULT_PER_MINUTE, LimitedChannel};
pub(crate) use combine::{GROUPS, combine};
pub use escape::Escapes;
pub use sign::RobotSignature;
pub use template::{CHANNEL_VALUES, ChannelTemplate, NOTIFICATION_VALUES};

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use runner_core::clock::{Clock as _, SystemClock};
use runner_core::notification::{Notification, NotifyOn, PutOff};
use runner_sdk::{Ctx, Outcome, State, TaskError};
use tokio::time::Instant;

use crate::http::{Caller, HttpSettings};
use crate::kinds::HandlerSettings;
use crate::mail::MailSettings;
use budget::ChannelBudget;
use line::{ChannelLine, NoTurn};

/// The services that a channel can name as its kind, in YAML.
pub const SERVICES: &str = include_str!("services.yaml");

/// When a notification is tried again whose channel this instance does not have: another one takes it then, or the settings that
/// name the channel have arrived.
const ELSEWHERE: Duration = Duration::from_secs(10);

/// How long it waits for such an instance: as long as for a receiver.
const UNCLAIMED: Duration = Duration::from_secs(9 * 3600);

/// When a notification is tried again that has others before it, and one whose receiver does not answer these.
const BUSY: Duration = Duration::from_secs(1);
const SILENT: Duration = Duration::from_secs(5);

/// What sending needs.
pub(crate) struct ChannelSender {
    channels: Channels,
    caller: Caller,
    mail: Option<MailSettings>,
    budget: ChannelBudget,
    lines: BTreeMap<String, ChannelLine>,
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
            lines: settings
                .channels
                .names()
                .into_iter()
                .map(|name| (name, ChannelLine::default()))
                .collect(),
        }
    }
}

/// Sends the notification of a task.
pub(crate) async fn run(State(sender): State<ChannelSender>, cx: Ctx) -> Result<Outcome, TaskError> {
    let notification: Notification = serde_json::from_slice(cx.payload())
        .map_err(|error| TaskError::skip(format!("the payload is no notification: {error}")))?;
    let now = SystemClock.now();
    let Some(channel) = sender.channels.get(&notification.channel) else {
        return elsewhere(&notification, now, &cx);
    };
    let is_test = notification.event == NotifyOn::Test;
    // A test is there for its answer, and what combines others is rare. Later attempts are part of what the first one took: the
    // receiver may have got it, and must get it with the same key.
    let counts = !is_test && notification.combined == 0 && cx.attempt() == 1;
    let budget = &sender.budget;
    if counts && !budget.take(&notification.channel, channel.per_minute, Instant::now()) {
        let waits_in = combine::group_of(&notification, channel.channel.has_incidents(), now);
        cx.log()
            .push("log", "too many in this minute: it is combined with others");
        return Ok(Outcome::success(PutOff { waits_in }.to_result()));
    }
    let _permit = match sender.lines.get(&notification.channel).filter(|_| !is_test) {
        Some(line) => match line.enter().await {
            Ok(permit) => Some(permit),
            Err(why) => {
                if why == NoTurn::Silent {
                    // What it has taken of the limit is lost: the rest is combined sooner.
                    return Err(TaskError::snooze(SILENT));
                }
                if counts {
                    budget.give_back(&notification.channel);
                }
                return Err(TaskError::snooze(BUSY));
            }
        },
        None => None,
    };
    send::send(&channel.channel, &notification, &sender, &cx).await
}

/// Leaves it to other instances, without using up an attempt.
fn elsewhere(notification: &Notification, now: Timestamp, cx: &Ctx) -> Result<Outcome, TaskError> {
    let why = format!(
        "the channel `{}` is not under notify.channels of this instance",
        notification.channel
    );
    let waited = Duration::try_from(now.duration_since(notification.at)).unwrap_or_default();
    if waited > UNCLAIMED {
        return Err(TaskError::skip(format!(
            "{why}, and no other one has taken it for nine hours"
        )));
    }
    cx.log().push("log", &format!("{why}: left to another one"));
    Err(TaskError::snooze(ELSEWHERE))
}
