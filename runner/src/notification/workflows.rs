//! Failures and recoveries of workflows: enqueued in the moment in which the workflow calls its callback, so that a process that
//! dies loses none of them.
//!
//! Not here: when that is (`queue`), and the failures of the functions that are its steps.

use std::sync::Arc;

use runner_core::clock::Clock;
use runner_core::notification::{Notification, NotifyOn};
use runner_queue::{Delivery, MAX_WORKFLOW_CHANNELS, WorkflowHead, WorkflowState};

use super::NotificationSettings;
use super::identity::{joined, to_delivery};
use super::link::add_link;

/// Makes the notifications of workflows: for the channels that a workflow names, else for those of the settings.
pub struct WorkflowNotifications {
    settings: NotificationSettings,
    clock: Arc<dyn Clock>,
}

impl WorkflowNotifications {
    /// By these settings.
    #[must_use]
    pub fn new(settings: NotificationSettings, clock: Arc<dyn Clock>) -> Self {
        Self { settings, clock }
    }

    /// The notifications of this end, each with an id that is accepted once.
    #[must_use]
    pub fn tasks(&self, head: &WorkflowHead, end: WorkflowState) -> Vec<Delivery> {
        let (own, default) = (&head.plan.notify, &self.settings.default);
        let (on, channels) = match end {
            WorkflowState::Failed => {
                let own = own.failure.as_deref();
                (
                    NotifyOn::WorkflowFailed,
                    own.unwrap_or_else(|| default.of_failed_workflows()),
                )
            }
            WorkflowState::Done if head.place.has_failed() => {
                let own = own.recovery.as_deref();
                (
                    NotifyOn::Recovery,
                    own.unwrap_or_else(|| default.channels(NotifyOn::Recovery)),
                )
            }
            _ => return Vec::new(),
        };
        if channels.is_empty() {
            return Vec::new();
        }
        let mut notification = self.notification(head, on);
        add_link(&mut notification, self.settings.dashboard.as_deref());
        // There may be a later workflow of this id, and another failure after a retry.
        let created = head.created_at.as_millisecond().to_string();
        let what = joined(["workflow", &head.id, &created, &head.place.epoch.to_string()]);
        let each = channels.iter().take(MAX_WORKFLOW_CHANNELS).filter_map(|channel| {
            let own = Notification {
                channel: channel.clone(),
                ..notification.clone()
            };
            to_delivery(&own, &what)
        });
        each.collect()
    }

    fn notification(&self, head: &WorkflowHead, on: NotifyOn) -> Notification {
        let (name, steps) = (&head.plan.name, head.plan.steps());
        let has = match on {
            NotifyOn::Recovery => "has recovered",
            _ => "failed",
        };
        let mut notification = Notification::new("", on, self.clock.now(), format!("workflow {name} {has}"));
        notification.workflow = Some(head.id.clone());
        let said = if on == NotifyOn::Recovery {
            format!("all {steps} steps have succeeded\nworkflow {}", head.id)
        } else {
            notification = notification.error(&head.error);
            let error = notification.error.as_deref().unwrap_or_default();
            format!(
                "{error}\nworkflow {}: {} of {steps} steps done, {} failed",
                head.id, head.done, head.failed
            )
        };
        notification.text = format!("{}: {said}", notification.title);
        notification
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jiff::Timestamp;
    use runner_core::clock::ManualClock;
    use runner_queue::{WorkflowNotify, WorkflowPlace, WorkflowPlan};

    use super::*;

    fn head(state: WorkflowState, called: u32) -> WorkflowHead {
        WorkflowHead {
            id: "i-1".to_owned(),
            plan: WorkflowPlan {
                name: "import".to_owned(),
                stages: vec![1, 3],
                ..WorkflowPlan::default()
            },
            place: WorkflowPlace {
                state,
                sent: 2,
                epoch: 1,
                called,
            },
            done: 2,
            failed: 1,
            error: "no disk".to_owned(),
            created_at: Timestamp::from_millisecond(100_000).unwrap(),
            changed_at: Timestamp::from_millisecond(200_000).unwrap(),
        }
    }

    fn notifications(rules: &[(NotifyOn, &str)]) -> WorkflowNotifications {
        let mut settings = NotificationSettings {
            dashboard: Some("https://ops.example.com/queue".to_owned()),
            ..NotificationSettings::default()
        };
        for (on, channel) in rules {
            settings.default.set(*on, vec![(*channel).to_owned()]);
        }
        WorkflowNotifications::new(settings, Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH)))
    }

    fn ids(made: &[Delivery]) -> Vec<String> {
        let ids = made.iter().filter_map(|delivery| delivery.task.id.as_ref());
        ids.map(ToString::to_string).collect()
    }

    #[test]
    fn a_failure_says_which_workflow_and_how_far_it_came() {
        let made =
            notifications(&[(NotifyOn::Failure, "ops")]).tasks(&head(WorkflowState::Failed, 0), WorkflowState::Failed);
        assert_eq!(ids(&made), ["ops@workflow_failed~workflow~i-1~100000~1"]);
        let payload = made[0].task.payload.as_deref().unwrap();
        let sent: Notification = serde_json::from_slice(payload).unwrap();
        assert_eq!(
            sent.text,
            "workflow import failed: no disk\nworkflow i-1: 2 of 4 steps done, 1 failed\n\
             https://ops.example.com/queue/workflows/i-1"
        );
        assert_eq!((sent.workflow.as_deref(), sent.function), (Some("i-1"), None));
    }

    #[test]
    fn the_channels_of_the_workflow_count_before_those_of_the_settings() {
        let all = notifications(&[
            (NotifyOn::Failure, "ops"),
            (NotifyOn::WorkflowFailed, "flows"),
            (NotifyOn::Recovery, "back"),
        ]);
        let mut head = head(WorkflowState::Failed, 1);
        let mut heard = |notify: WorkflowNotify, end| {
            head.plan.notify = notify;
            ids(&all.tasks(&head, end))
        };
        let own = |channels: &[&str]| Some(channels.iter().map(|name| (*name).to_owned()).collect());
        let (failed, recovered) = (
            "workflow_failed~workflow~i-1~100000~1",
            "recovery~workflow~i-1~100000~1",
        );
        for (notify, end, expected) in [
            (
                WorkflowNotify::default(),
                WorkflowState::Failed,
                vec![format!("flows@{failed}")],
            ),
            (
                WorkflowNotify::default(),
                WorkflowState::Done,
                vec![format!("back@{recovered}")],
            ),
            (
                WorkflowNotify {
                    failure: own(&["a", "b"]),
                    recovery: None,
                },
                WorkflowState::Failed,
                vec![format!("a@{failed}"), format!("b@{failed}")],
            ),
            (
                WorkflowNotify {
                    failure: own(&[]),
                    recovery: own(&["a"]),
                },
                WorkflowState::Failed,
                Vec::new(),
            ),
            (
                WorkflowNotify {
                    failure: own(&[]),
                    recovery: own(&["a"]),
                },
                WorkflowState::Done,
                vec![format!("a@{recovered}")],
            ),
            (WorkflowNotify::default(), WorkflowState::Cancelled, Vec::new()),
        ] {
            assert_eq!(heard(notify, end), expected);
        }
    }

    #[test]
    fn what_has_not_failed_has_not_recovered() {
        let all = notifications(&[(NotifyOn::Recovery, "ops")]);
        let mut head = head(WorkflowState::Running, 0);
        head.place.epoch = 0;
        assert!(all.tasks(&head, WorkflowState::Done).is_empty());
    }

    #[test]
    fn a_failure_that_was_not_written_down_as_reported_has_a_recovery() {
        let all = notifications(&[(NotifyOn::Recovery, "ops")]);
        for (epoch, called) in [(1, 0), (0, 1)] {
            let mut head = head(WorkflowState::Running, called);
            head.place.epoch = epoch;
            assert_eq!(all.tasks(&head, WorkflowState::Done).len(), 1, "{epoch} {called}");
        }
    }
}
