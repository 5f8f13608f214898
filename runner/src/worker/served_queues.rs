//! The queues that this worker serves: those named in its settings, and those in the store that match a pattern.
//!
//! Only holds them. `queue_discovery` asks the broker, and `claim_loop::queue_order` decides in which order queues are
//! asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runner_core::notification::NOTIFICATION_QUEUE;
use runner_core::task::{QueueName, priority_of};
use tokio::sync::Notify;

/// Up to this many queues all are asked in each call and waited for; each wait takes a connection of Redis. Beyond that
/// only those that are known to have tasks are asked.
const FEW: usize = 16;

/// The queues that are served, with their priorities.
pub(super) struct ServedQueues {
    /// Names and patterns as configured.
    named: BTreeMap<QueueName, u32>,
    /// The queue of notifications, if they have slots of their own: it is asked by itself.
    notifications: Option<QueueName>,
    patterns: bool,
    known: Mutex<KnownQueues>,
    /// Notified when the claim loop has other queues to ask.
    pub(super) changed: Notify,
}

#[derive(Clone)]
struct KnownQueues {
    all: Arc<Vec<(QueueName, u32)>>,
    /// Of very many: those that had tasks at the last look.
    ready: Arc<Vec<(QueueName, u32)>>,
}

impl ServedQueues {
    /// With the queues that are named; patterns match nothing yet.
    pub(super) fn new(named: &BTreeMap<QueueName, u32>) -> Self {
        let is_pattern = |name: &QueueName| name.as_str().contains('*');
        let exact = named.iter().filter(|(name, _)| !is_pattern(name));
        let all = Arc::new(exact.map(|(name, priority)| (name.clone(), *priority)).collect());
        Self {
            patterns: named.keys().any(is_pattern),
            named: named.clone(),
            notifications: None,
            known: Mutex::new(KnownQueues {
                all,
                ready: Arc::default(),
            }),
            changed: Notify::new(),
        }
    }

    /// The same where notifications have this many slots of their own, unless nothing else is served.
    pub(super) fn with_notifications(mut self, slots: usize) -> Self {
        let own = self.named.keys().find(|queue| queue.as_str() == NOTIFICATION_QUEUE);
        self.notifications = own.filter(|_| slots > 0 && self.named.len() > 1).cloned();
        self
    }

    /// The queue of notifications, if they have slots of their own.
    pub(super) fn notifications(&self) -> Option<QueueName> {
        self.notifications.clone()
    }

    fn lock(&self) -> MutexGuard<'_, KnownQueues> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the broker must be asked for queues that match patterns.
    pub(super) fn has_patterns(&self) -> bool {
        self.patterns
    }

    /// Whether this queue is named itself.
    pub(super) fn is_named(&self, queue: &QueueName) -> bool {
        self.named.contains_key(queue)
    }

    /// All that are served, by name.
    pub(super) fn all(&self) -> Arc<Vec<(QueueName, u32)>> {
        self.lock().all.clone()
    }

    /// Whether all are asked in each call.
    pub(super) fn are_few(&self) -> bool {
        !self.patterns || self.lock().all.len() <= FEW
    }

    /// Those to claim from: all, or of very many those that are named and those that had tasks; without notifications that have slots
    /// of their own.
    pub(super) fn to_ask(&self) -> Vec<(QueueName, u32)> {
        let mut all = self.with_tasks();
        all.retain(|(queue, _)| Some(queue) != self.notifications.as_ref());
        all
    }

    fn with_tasks(&self) -> Vec<(QueueName, u32)> {
        if self.are_few() {
            return self.all().to_vec();
        }
        let known = self.lock().clone();
        let named = known.all.iter().filter(|(queue, _)| self.is_named(queue));
        named.chain(known.ready.iter()).cloned().collect()
    }

    /// Sets the queues that the store has.
    pub(super) fn discover(&self, there: &[QueueName]) {
        let named = || self.named.iter().map(|(name, priority)| (name.as_str(), *priority));
        let matching = there
            .iter()
            .filter(|queue| !self.is_named(queue))
            .filter_map(|queue| Some((queue.clone(), priority_of(queue, named())?)));
        let mut known = self.lock();
        let exact = known.all.iter().filter(|(queue, _)| self.is_named(queue)).cloned();
        let mut all: Vec<_> = exact.chain(matching).collect();
        all.sort_unstable();
        // The loop restarts its order with each notification, so it is sent for a change only.
        if *known.all != all {
            tracing::info!(
                queues = all.len(),
                before = known.all.len(),
                "the queues that match have changed"
            );
            known.all = Arc::new(all);
            drop(known);
            self.changed.notify_one();
        }
    }

    /// Sets which of very many queues have tasks; the named ones are asked anyway.
    pub(super) fn have_tasks(&self, ready: &[QueueName]) {
        let mut known = self.lock();
        let priorities: BTreeMap<&QueueName, u32> = known.all.iter().map(|(queue, p)| (queue, *p)).collect();
        let ready = ready
            .iter()
            .filter(|queue| !self.is_named(queue))
            .filter_map(|queue| Some((queue.clone(), *priorities.get(queue)?)));
        let ready: Vec<_> = ready.collect();
        // Also if the same are ready as before: the claim loop forgets a queue that gave nothing, and must be notified
        // of it again.
        let news = !ready.is_empty() || !known.ready.is_empty();
        known.ready = Arc::new(ready);
        drop(known);
        if news {
            self.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn queue(name: &str) -> QueueName {
        QueueName::new(name).unwrap()
    }

    fn served(named: &[(&str, u32)]) -> ServedQueues {
        ServedQueues::new(&named.iter().map(|(name, priority)| (queue(name), *priority)).collect())
    }

    #[test]
    fn names_are_served_at_once_and_patterns_when_something_matches() {
        let served = served(&[("default", 3), ("tenant-*", 2), ("tenant-7", 5)]);
        assert_eq!(served.to_ask(), [(queue("default"), 3), (queue("tenant-7"), 5)]);
        served.discover(&[queue("tenant-7"), queue("tenant-8"), queue("mail")]);
        let expected = [(queue("default"), 3), (queue("tenant-7"), 5), (queue("tenant-8"), 2)];
        assert_eq!(served.to_ask(), expected);
        served.discover(&[]);
        assert_eq!(served.to_ask().len(), 2, "a queue that was removed is not asked");
    }

    #[test]
    fn notifications_with_slots_of_their_own_are_asked_by_themselves() {
        let served = served(&[("default", 3), (NOTIFICATION_QUEUE, 4)]).with_notifications(1);
        assert_eq!(served.to_ask(), [(queue("default"), 3)]);
        assert_eq!(
            (served.all().len(), served.notifications()),
            (2, Some(queue(NOTIFICATION_QUEUE)))
        );
        let alone = ServedQueues::new(&[(queue(NOTIFICATION_QUEUE), 1)].into()).with_notifications(1);
        assert_eq!((alone.to_ask().len(), alone.notifications()), (1, None));
    }

    #[test]
    fn of_very_many_only_those_with_tasks_are_asked() {
        let served = served(&[("default", 3), ("*", 1)]);
        let many: Vec<QueueName> = (0..1000).map(|n| queue(&format!("t{n:04}"))).collect();
        served.discover(&many);
        assert_eq!((served.all().len(), served.to_ask().len()), (1001, 1));
        served.have_tasks(&[queue("t0007"), queue("stranger")]);
        assert_eq!(served.to_ask(), [(queue("default"), 3), (queue("t0007"), 1)]);
    }
}
