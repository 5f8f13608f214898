//! Notifications as plain data: what people hear of, over which channels, and what such a task carries.
//!
//! Not here: how the rules are written in a manifest (`source`), who notices (`notification` of the program), and how a
//! channel is reached (the handlers).

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::task::Task;

/// The type of the tasks that are notifications.
pub const NOTIFICATION_TYPE: &str = "runner:notification";

/// The queue of all notifications. Workers with channels serve it with slots of its own.
pub const NOTIFICATION_QUEUE: &str = "runner-notifications";

/// What the names of groups of notifications begin with.
pub const NOTIFICATION_GROUPS: &str = "notify:";

/// How long the id of a notification is refused: what it reports cannot be noticed again after this time.
pub const NOTIFICATION_REMEMBER: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long a notification that was sent can be looked at.
const RETENTION: Duration = Duration::from_secs(24 * 3600);

/// How often one is tried again: with the delays of functions for about nine hours.
const MAX_RETRY: u32 = 12;

/// How long a receiver may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of an error that a notification carries.
const MAX_ERROR: usize = 1024;

/// The longest name of a channel in bytes: it is part of the ids of its notifications.
pub const MAX_CHANNEL_NAME: usize = 40;

/// Whether a text can be the name of a channel: at most [`MAX_CHANNEL_NAME`] of `a-z A-Z 0-9 . _ -`.
#[must_use]
pub fn is_channel_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= MAX_CHANNEL_NAME && name.chars().all(fits)
}

/// What people can hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotifyOn {
    /// A task failed and is not tried again.
    Failure,
    /// An attempt failed, the task is tried again, and the run before had succeeded.
    FirstFailure,
    /// A run succeeded, and the one before had failed for good.
    Recovery,
    /// Occurrences were too late for the catch-up policy, and do not run.
    Missed,
    /// The task of an occurrence has not started in time.
    Late,
    /// An attempt takes longer than expected, and continues.
    TooLong,
    /// There was no success for longer than expected.
    Overdue,
    /// Two runs began sooner after each other than expected.
    TooOften,
    /// A schedule is paused for longer than expected.
    Paused,
    /// A source cannot be read, or something in it is refused.
    Problem,
    /// A step of a workflow failed for good.
    WorkflowFailed,
    /// More than a channel takes in a minute, combined.
    Several,
    /// An operator asked for a test.
    Test,
}

impl NotifyOn {
    /// Those that rules name, by their keys.
    pub const KEYS: [(&'static str, Self); 9] = [
        ("on_failure", Self::Failure),
        ("on_first_failure", Self::FirstFailure),
        ("on_recovery", Self::Recovery),
        ("on_missed", Self::Missed),
        ("on_late", Self::Late),
        ("on_too_long", Self::TooLong),
        ("on_overdue", Self::Overdue),
        ("on_too_often", Self::TooOften),
        ("on_paused", Self::Paused),
    ];

    /// Those of the settings alone: sources and workflows belong to no function.
    pub const OWN_KEYS: [(&'static str, Self); 2] = [
        ("on_problem", Self::Problem),
        ("on_workflow_failed", Self::WorkflowFailed),
    ];

    /// Its word in payloads and ids.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::FirstFailure => "first_failure",
            Self::Recovery => "recovery",
            Self::Missed => "missed",
            Self::Late => "late",
            Self::TooLong => "too_long",
            Self::Overdue => "overdue",
            Self::TooOften => "too_often",
            Self::Paused => "paused",
            Self::Problem => "problem",
            Self::WorkflowFailed => "workflow_failed",
            Self::Several => "several",
            Self::Test => "test",
        }
    }
}

/// Over which channels people hear of what. An event that is not stated follows the next wider rules: schedule, function,
/// settings. One with an empty list is stated, and silent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NotifyRules {
    channels: BTreeMap<NotifyOn, Vec<String>>,
    /// What is expected.
    pub expect: Expectations,
    /// Where each run of the function says that it began and how it ended; may refer to secrets.
    pub ping_url: Option<String>,
}

/// What is expected of a function or schedule; `None` where unstated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expectations {
    /// How long after its planned instant a task starts at the latest.
    pub start_within: Option<Duration>,
    /// How long an attempt takes at most.
    pub max_duration: Option<Duration>,
    /// How long there may be no success.
    pub success_within: Option<Duration>,
    /// How long after the beginning of a run the next one begins at the earliest.
    pub min_interval: Option<Duration>,
    /// How long a schedule is paused at most.
    pub paused_within: Option<Duration>,
}

impl Expectations {
    /// These, completed by wider ones.
    #[must_use]
    pub fn or(self, wider: Self) -> Self {
        Self {
            start_within: self.start_within.or(wider.start_within),
            max_duration: self.max_duration.or(wider.max_duration),
            success_within: self.success_within.or(wider.success_within),
            min_interval: self.min_interval.or(wider.min_interval),
            paused_within: self.paused_within.or(wider.paused_within),
        }
    }
}

impl NotifyRules {
    /// States the channels of an event.
    pub fn set(&mut self, on: NotifyOn, channels: Vec<String>) {
        self.channels.insert(on, channels);
    }

    /// Its channels, if they are stated.
    #[must_use]
    pub fn stated(&self, on: NotifyOn) -> Option<&[String]> {
        self.channels.get(&on).map(Vec::as_slice)
    }

    /// Its channels; none if they are not stated.
    #[must_use]
    pub fn channels(&self, on: NotifyOn) -> &[String] {
        self.stated(on).unwrap_or_default()
    }

    /// The channels that hear of failed workflows: those of failures, unless others are stated.
    #[must_use]
    pub fn of_failed_workflows(&self) -> &[String] {
        self.stated(NotifyOn::WorkflowFailed)
            .unwrap_or_else(|| self.channels(NotifyOn::Failure))
    }

    /// These rules, completed by wider ones.
    #[must_use]
    pub fn or(&self, wider: &Self) -> Self {
        let mut channels = wider.channels.clone();
        channels.extend(self.channels.iter().map(|(on, own)| (*on, own.clone())));
        Self {
            channels,
            expect: self.expect.or(wider.expect),
            ping_url: self.ping_url.clone().or_else(|| wider.ping_url.clone()),
        }
    }
}

/// The payload of a notification, and what a webhook receives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// The name of the channel in the settings.
    pub channel: String,
    /// What happened.
    pub event: NotifyOn,
    /// When it was noticed.
    pub at: Timestamp,
    /// One line for people.
    pub title: String,
    /// The whole for people.
    pub text: String,
    /// The function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// The id of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Its queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The id of the workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// What was wrong, at most 1 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The page of the dashboard that shows it, if the settings say how people reach the dashboard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// How many it combines; 0 of one that combines none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub combined: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// What the handler of a notification returns when the channel has enough for now: the group in which it waits to be combined with
/// others. It is put there in the step that ends its task, so that it is sent or combined, and never both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutOff {
    /// The group.
    pub waits_in: String,
}

impl PutOff {
    /// As the result of a task.
    #[must_use]
    pub fn to_result(&self) -> Vec<u8> {
        // A struct of texts is always JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// From the result of a task; `None` of one that was sent.
    #[must_use]
    pub fn of_result(result: &[u8]) -> Option<Self> {
        let read: Option<Self> = serde_json::from_slice(result).ok();
        read.filter(|put_off| put_off.waits_in.starts_with(NOTIFICATION_GROUPS))
    }
}

impl Notification {
    /// One without details.
    #[must_use]
    pub fn new(channel: &str, event: NotifyOn, at: Timestamp, title: impl Into<String>) -> Self {
        let title = title.into();
        Self {
            channel: channel.to_owned(),
            event,
            at,
            text: title.clone(),
            title,
            function: None,
            schedule: None,
            task: None,
            queue: None,
            workflow: None,
            error: None,
            link: None,
            combined: 0,
        }
    }

    /// The same with an error, which is cut to what people read.
    #[must_use]
    pub fn error(mut self, error: &str) -> Self {
        let end = error.floor_char_boundary(MAX_ERROR);
        self.error = Some(error[..end].to_owned());
        self
    }

    /// The task that sends a test over a channel. Its answer is awaited, so the first one counts.
    #[must_use]
    pub fn test(channel: &str, now: Timestamp) -> Task {
        let mut test = Self::new(channel, NotifyOn::Test, now, "test of this channel");
        test.text = format!("This is a test of the channel {channel}. Nothing has happened.");
        test.task().retry(0)
    }

    /// The task that sends it, without an id.
    #[must_use]
    pub fn task(&self) -> Task {
        // A struct of texts is always JSON.
        let payload = serde_json::to_vec(self).unwrap_or_default();
        Task::new(NOTIFICATION_TYPE)
            .payload(payload)
            .queue(NOTIFICATION_QUEUE)
            .retry(MAX_RETRY)
            .timeout(TIMEOUT)
            .retention(RETENTION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_rules_win_event_by_event() {
        let mut own = NotifyRules::default();
        let mut wider = NotifyRules::default();
        wider.set(NotifyOn::Failure, vec!["ops".to_owned()]);
        assert_eq!(own.or(&wider).channels(NotifyOn::Failure), ["ops"]);
        own.set(NotifyOn::Failure, Vec::new());
        assert!(
            own.or(&wider).channels(NotifyOn::Failure).is_empty(),
            "stated as silent"
        );
        assert_eq!(own.or(&wider).stated(NotifyOn::Failure), Some(&[][..]));
    }

    #[test]
    fn what_is_put_off_differs_from_what_was_sent() {
        let put_off = PutOff {
            waits_in: "notify:ops:7".to_owned(),
        };
        assert_eq!(PutOff::of_result(&put_off.to_result()), Some(put_off));
        for sent in [&b""[..], b"ok", br#"{"status":200}"#, br#"{"waits_in":"other"}"#] {
            assert_eq!(PutOff::of_result(sent), None);
        }
    }

    #[test]
    fn what_is_sent_is_json_that_is_read_back() {
        let all =
            Notification::new("ops", NotifyOn::Failure, Timestamp::UNIX_EPOCH, "import failed").error(&"é".repeat(999));
        let task = all.task();
        assert!(task.check().is_ok());
        let back: Notification = serde_json::from_slice(task.payload.as_deref().unwrap_or_default()).expect("JSON");
        assert_eq!(back, all);
        assert_eq!(back.error.map(|text| text.len()), Some(1024));
    }
}
