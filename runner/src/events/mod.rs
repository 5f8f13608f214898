//! Lifecycle events for other programs: what happened to tasks, schedules and manifests, in messages for an exchange of RabbitMQ.
//!
//! The code that notices something calls a method of [`Events`], which never waits: events stay in a bounded outbox until the
//! sender has a confirm for them. Without the setting it does nothing. Events carry ids, never payloads or errors of handlers.

mod event;
mod outbox;
#[cfg(feature = "amqp")]
mod sender;

use std::sync::Arc;
use std::time::Duration;

use runner_core::clock::Clock;
use runner_queue::{Caveat, Decision, DecisionKind, Recovered, Settlement};

pub use event::EVENT_TYPES;
use event::{LifecycleEvent, TaskIds, type_of};
use outbox::EventOutbox;
#[cfg(feature = "amqp")]
pub use sender::send;

use crate::metrics::Metrics;

/// How long what is in the outbox may take at a stop.
pub const LAST_EVENTS: Duration = Duration::from_secs(2);

/// Where events go, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSettings {
    /// A connection of `rabbitmq.connections`.
    pub connection: String,
    /// The topic exchange.
    pub exchange: String,
    /// Types that are sent: exact, or `prefix*`; empty: all.
    pub types: Vec<String>,
}

/// Takes events. Cheap to clone; one that is off costs a comparison.
#[derive(Clone, Default)]
pub struct Events(Option<Arc<EventOutbox>>);

impl Events {
    /// Takes events of these types for the sender.
    #[must_use]
    pub fn new(settings: &EventSettings, instance: String, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let types = settings.types.clone();
        Self(Some(Arc::new(EventOutbox::new(types, instance, clock, metrics))))
    }

    /// A verdict that the broker accepted.
    pub fn settled(&self, settlement: &Settlement) {
        let Some(outbox) = &self.0 else { return };
        let Some(kind) = type_of(&settlement.verdict) else {
            return;
        };
        outbox.put(kind, || LifecycleEvent::of_task(TaskIds::of(settlement.claim.task())));
    }

    /// A task whose process died.
    pub fn recovered(&self, task: &Recovered) {
        let Some(outbox) = &self.0 else { return };
        let event = || LifecycleEvent::of_task(TaskIds::of_lost(task));
        outbox.put("task.lost", event);
        if task.state == runner_core::task::TaskState::Archived {
            outbox.put("task.archived", event);
        }
    }

    /// What was decided about occurrences of a schedule.
    pub fn decided(&self, decision: &Decision) {
        let Some(outbox) = &self.0 else { return };
        let kind = match decision.kind {
            DecisionKind::Missed => "schedule.missed",
            DecisionKind::Skipped => "schedule.skipped",
            DecisionKind::Fired | DecisionKind::Corrected | DecisionKind::Manual | DecisionKind::Paused => return,
        };
        outbox.put(kind, || LifecycleEvent::of_decision(decision));
    }

    /// A function or a row of which nothing is in force.
    pub fn rejected(&self, name: &str, place: &str, codes: Vec<String>) {
        let Some(outbox) = &self.0 else { return };
        outbox.put("manifest.rejected", || {
            LifecycleEvent::of_rejected(name, place, codes.clone())
        });
    }

    /// Keeps all of them, for a test.
    #[cfg(test)]
    pub(crate) fn recording() -> Self {
        let all = Vec::new();
        let clock = Arc::new(runner_core::clock::SystemClock);
        Self(Some(Arc::new(EventOutbox::new(
            all,
            String::new(),
            clock,
            Arc::default(),
        ))))
    }

    /// The types of those that were kept.
    #[cfg(test)]
    pub(crate) fn recorded(&self) -> Vec<&'static str> {
        let now = tokio::time::Instant::now();
        let all = self.0.as_ref().map(|outbox| outbox.take(usize::MAX, now));
        all.unwrap_or_default().iter().map(|event| event.kind).collect()
    }

    /// Whether they are sent.
    #[must_use]
    pub fn are_on(&self) -> bool {
        self.0.is_some()
    }

    /// What keeps them from being sent, or was lost within the last minutes.
    #[must_use]
    pub fn caveats(&self) -> Vec<Caveat> {
        self.0.as_ref().map_or_else(Vec::new, |outbox| outbox.caveats())
    }
}
