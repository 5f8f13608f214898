//! Events that wait for the sender: bounded, the oldest are dropped first, and each one dropped is counted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use runner_core::clock::Clock;
use runner_queue::Caveat;
use tokio::sync::Notify;

use super::event::{LifecycleEvent, names};
use crate::messaging::ConnectionFault;
use crate::metrics::Metrics;

/// Events that wait: some 5 MB, ten seconds at a thousand tasks a second.
const MOST: usize = 10_000;

/// For how long a loss is shown after the last one.
const SHOWN: Duration = Duration::from_secs(600);

const HINT: &str = "is the RabbitMQ of events.rabbitmq there, and fast enough? events.types sends fewer";

/// One that waits.
#[derive(Debug, Clone)]
pub(super) struct OutgoingEvent {
    pub(super) kind: &'static str,
    pub(super) id: String,
    pub(super) body: Vec<u8>,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<OutgoingEvent>,
    /// When one was dropped last.
    dropped_at: Option<Timestamp>,
    fault: Option<ConnectionFault>,
}

/// See the module documentation.
pub(super) struct EventOutbox {
    types: Vec<String>,
    instance: String,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    waiting: Mutex<Waiting>,
    /// Falls when there is something to send.
    pub(super) filled: Notify,
}

impl EventOutbox {
    pub(super) fn new(types: Vec<String>, instance: String, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self {
            types,
            instance,
            clock,
            metrics,
            waiting: Mutex::default(),
            filled: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event, unless its type is not sent.
    pub(super) fn put(&self, kind: &'static str, event: impl FnOnce() -> LifecycleEvent) {
        if !names(&self.types, kind) {
            return;
        }
        let id = uuid::Uuid::new_v4().to_string();
        let body = event().body(kind, &id, self.clock.now(), &self.instance);
        let mut waiting = self.lock();
        waiting.events.push_back(OutgoingEvent { kind, id, body });
        let first = waiting.events.len() == 1;
        self.shorten(&mut waiting);
        drop(waiting);
        if first {
            self.filled.notify_one();
        }
    }

    fn shorten(&self, waiting: &mut Waiting) {
        let over = waiting.events.len().saturating_sub(MOST);
        if over > 0 {
            waiting.events.drain(..over);
            self.count_dropped(waiting, over);
        }
    }

    fn count_dropped(&self, waiting: &mut Waiting, count: usize) {
        waiting.dropped_at = Some(self.clock.now());
        self.metrics.events_dropped(count);
    }

    /// Takes the oldest events out.
    pub(super) fn take(&self, most: usize) -> Vec<OutgoingEvent> {
        let mut waiting = self.lock();
        let count = waiting.events.len().min(most);
        waiting.events.drain(..count).collect()
    }

    /// Puts events back that could not be sent; they are the oldest.
    pub(super) fn put_back(&self, events: Vec<OutgoingEvent>) {
        let mut waiting = self.lock();
        for event in events.into_iter().rev() {
            waiting.events.push_front(event);
        }
        self.shorten(&mut waiting);
    }

    /// Counts events that the server has.
    pub(super) fn sent(&self, count: usize) {
        self.metrics.events_sent(count);
    }

    /// Notes whether events can be sent. What is noted is logged with the other problems, when it appears and when it goes.
    pub(super) fn note(&self, fault: Option<ConnectionFault>) {
        self.lock().fault = fault;
    }

    /// At the end: what still waits is lost.
    pub(super) fn give_up(&self) {
        let mut waiting = self.lock();
        let left = waiting.events.len();
        if left > 0 {
            waiting.events.clear();
            self.count_dropped(&mut waiting, left);
            tracing::warn!(
                code = "events_lost",
                events = left,
                "lifecycle events were not sent before the stop"
            );
        }
    }

    pub(super) fn caveats(&self) -> Vec<Caveat> {
        let (waiting, now) = (self.lock(), self.clock.now());
        let caveat = |code, message, hint| Caveat {
            code,
            message,
            hint,
            grave: false,
        };
        let fault = waiting.fault.as_ref().map(|fault| {
            let message = format!("lifecycle events cannot be sent: {} ({})", fault.why, fault.code);
            caveat("events_not_sent", message, fault.hint)
        });
        let recent = waiting
            .dropped_at
            .filter(|at| now.duration_since(*at).unsigned_abs() <= SHOWN);
        // Without their number, which would make a new problem of each one.
        let dropped = recent.map(|_| {
            let message = "lifecycle events were dropped within the last ten minutes".to_owned();
            caveat("events_dropped", message, HINT)
        });
        fault.into_iter().chain(dropped).collect()
    }
}

#[cfg(test)]
mod tests {
    use runner_core::clock::SystemClock;

    use super::*;

    fn outbox() -> EventOutbox {
        let types = vec!["task.*".to_owned()];
        EventOutbox::new(types, "host:1".to_owned(), Arc::new(SystemClock), Arc::default())
    }

    #[test]
    fn the_oldest_go_first_and_are_counted() {
        let outbox = outbox();
        for _ in 0..MOST + 5 {
            outbox.put("task.failed", LifecycleEvent::default);
        }
        outbox.put("schedule.missed", LifecycleEvent::default);
        assert!(
            outbox
                .metrics
                .render()
                .contains(r#"runner_events_total{outcome="dropped"} 5"#)
        );
        let oldest = outbox.take(10);
        let ids: Vec<String> = oldest.iter().map(|event| event.id.clone()).collect();
        outbox.put_back(oldest);
        let again: Vec<String> = outbox.take(10).into_iter().map(|event| event.id).collect();
        assert_eq!(ids, again, "what could not be sent is sent first");
        assert_eq!(outbox.caveats().len(), 1);
        outbox.give_up();
        let left = MOST - 10 + 5;
        assert!(
            outbox
                .metrics
                .render()
                .contains(&format!(r#"runner_events_total{{outcome="dropped"}} {left}"#))
        );
    }
}
