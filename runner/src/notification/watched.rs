//! What is looked at for notifications: functions with what their schedules say, and what was found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use runner_core::function::Function;
use runner_core::notification::{Notification, NotifyOn, NotifyRules};
use runner_core::schedule::{Definition, Plan, ScheduleId};
use runner_core::task::QueueName;
use runner_queue::{Delivery, RunRecord};

use super::identity::to_delivery;

/// A function with what its schedules say.
pub(super) struct WatchedFunction {
    pub(super) function: Arc<Function>,
    pub(super) schedules: Vec<Definition>,
    default: NotifyRules,
}

/// Every function with its schedules.
pub(super) fn watched(
    functions: &BTreeMap<String, Arc<Function>>,
    plan: &Plan,
    default: &NotifyRules,
) -> Vec<WatchedFunction> {
    let mut schedules: BTreeMap<&str, Vec<Definition>> = BTreeMap::new();
    for definition in plan.schedules.values() {
        if let Some(function) = definition.function() {
            schedules.entry(function).or_default().push(definition.clone());
        }
    }
    let watched = functions.values().map(|function| WatchedFunction {
        schedules: schedules.remove(function.name.as_str()).unwrap_or_default(),
        function: Arc::clone(function),
        default: default.clone(),
    });
    watched.collect()
}

impl WatchedFunction {
    /// Whether any channel hears of one of these.
    pub(super) fn hears(&self, any: &[NotifyOn]) -> bool {
        let own = std::iter::once(&self.function.notify).chain(self.schedules.iter().map(|s| &s.notify));
        let mut all = own.map(|rules| rules.or(&self.default));
        all.any(|rules| any.iter().any(|on| !rules.channels(*on).is_empty()))
    }

    /// Whether the duration of its attempts is bounded.
    pub(super) fn is_bounded(&self) -> bool {
        let own = std::iter::once(&self.function.notify).chain(self.schedules.iter().map(|s| &s.notify));
        let mut all = own.map(|rules| rules.expect.max_duration);
        all.any(|most| most.is_some()) && self.hears(&[NotifyOn::TooLong])
    }

    /// The rules of a task of a schedule, or of no schedule.
    pub(super) fn rules(&self, schedule: Option<&str>) -> NotifyRules {
        let found = self.schedules.iter().find(|own| Some(own.id.as_str()) == schedule);
        let rules = match found {
            Some(own) => own.notify.or(&self.function.notify),
            None => self.function.notify.clone(),
        };
        rules.or(&self.default)
    }

    /// The channels that hear of this event of such a task.
    pub(super) fn channels(&self, on: NotifyOn, schedule: Option<&str>) -> Vec<String> {
        self.rules(schedule).channels(on).to_vec()
    }

    /// The queues that its tasks are in.
    pub(super) fn queues(&self) -> Vec<QueueName> {
        let own = self.function.task_options().queue.unwrap_or_default();
        let all = self.schedules.iter().map(|schedule| schedule.task.queue.clone());
        all.chain([own]).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// An expectation of success: of a function, or of one of its schedules that states another one.
pub(super) struct ExpectedSuccess {
    pub(super) schedule: Option<String>,
    pub(super) within: Duration,
    /// They hear that there is none, and that there is one again.
    pub(super) channels: Vec<String>,
}

impl ExpectedSuccess {
    /// Whether this run is one of those that are expected to succeed. Those of no schedule count for each.
    pub(super) fn concerns(&self, run: &RunRecord) -> bool {
        let own = run.schedule.as_ref().map(ScheduleId::as_str);
        self.schedule.is_none() || own.is_none() || own == self.schedule.as_deref()
    }
}

impl WatchedFunction {
    /// Which successes are expected.
    pub(super) fn successes(&self) -> Vec<ExpectedSuccess> {
        let of_function = self.function.notify.expect.success_within;
        let stated = |schedule: &&Definition| schedule.notify.expect.success_within != of_function;
        let schedules = self
            .schedules
            .iter()
            .filter(stated)
            .map(|schedule| Some(schedule.id.as_str()));
        let all = std::iter::once(None).chain(schedules).filter_map(|schedule| {
            let rules = self.rules(schedule);
            Some(ExpectedSuccess {
                schedule: schedule.map(str::to_owned),
                within: rules.expect.success_within?,
                channels: rules.channels(NotifyOn::Overdue).to_vec(),
            })
        });
        all.filter(|expected| !expected.channels.is_empty()).collect()
    }
}

/// One thing that was found, for some channels.
pub(super) struct NoticedEvent {
    pub(super) notification: Notification,
    /// Identifies it among all that happens under this event.
    pub(super) what: String,
    pub(super) channels: Vec<String>,
}

impl NoticedEvent {
    pub(super) fn deliveries(&self) -> impl Iterator<Item = Delivery> + '_ {
        self.channels.iter().filter_map(|channel| {
            let own = Notification {
                channel: channel.clone(),
                ..self.notification.clone()
            };
            to_delivery(&own, &self.what)
        })
    }
}
