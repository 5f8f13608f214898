//! Events that wait for the sender: bounded, the oldest are dropped first, and each one dropped is counted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use runner_core::clock::Clock;
use runner_queue::Caveat;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::event::{LifecycleEvent, names};
use crate::messaging::ConnectionFault;
use crate::metrics::Metrics;

/// Events that wait: some 5 MB, ten seconds at a thousand tasks a second.
const MOST: usize = 10_000;

/// How often an event is sent that the server refuses, and the pause in between: together a minute, in which a queue that is full
/// or has no leader can recover.
const MOST_REFUSALS: u32 = 12;
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// For how long a loss is shown after the last one.
const SHOWN: Duration = Duration::from_secs(600);

const HINT: &str = "is the RabbitMQ of events.rabbitmq there, and fast enough? events.types sends fewer";

/// One that waits.
#[derive(Debug, Clone)]
pub(super) struct OutgoingEvent {
    pub(super) kind: &'static str,
    pub(super) id: String,
    pub(super) body: Vec<u8>,
    /// How often the server has refused it.
    refusals: u32,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<OutgoingEvent>,
    /// Those that the server has refused, in the order in which they are due again.
    refused: VecDeque<(Instant, OutgoingEvent)>,
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
        waiting.events.push_back(OutgoingEvent {
            kind,
            id,
            body,
            refusals: 0,
        });
        let first = waiting.events.len() == 1;
        self.shorten(&mut waiting);
        drop(waiting);
        if first {
            self.filled.notify_one();
        }
    }

    fn shorten(&self, waiting: &mut Waiting) {
        let over = (waiting.events.len() + waiting.refused.len()).saturating_sub(MOST);
        if over > 0 {
            let refused = over.min(waiting.refused.len());
            waiting.refused.drain(..refused);
            waiting.events.drain(..over - refused);
            self.count_dropped(waiting, over);
        }
    }

    fn count_dropped(&self, waiting: &mut Waiting, count: usize) {
        waiting.dropped_at = Some(self.clock.now());
        self.metrics.events_dropped(count);
    }

    /// Takes events out: refused ones that are due, then the oldest.
    pub(super) fn take(&self, most: usize, now: Instant) -> Vec<OutgoingEvent> {
        let mut waiting = self.lock();
        let due = waiting.refused.partition_point(|(at, _)| *at <= now).min(most);
        let mut taken: Vec<OutgoingEvent> = waiting.refused.drain(..due).map(|(_, event)| event).collect();
        let count = waiting.events.len().min(most - due);
        taken.extend(waiting.events.drain(..count));
        taken
    }

    /// Keeps an event that the server refused for another attempt; the last one drops it.
    pub(super) fn refused(&self, mut event: OutgoingEvent, now: Instant) {
        let mut waiting = self.lock();
        event.refusals += 1;
        if event.refusals >= MOST_REFUSALS {
            return self.count_dropped(&mut waiting, 1);
        }
        waiting.refused.push_back((now + REFUSED_PAUSE, event));
        self.shorten(&mut waiting);
    }

    /// Whether events wait that the server has refused.
    pub(super) fn has_refused(&self) -> bool {
        !self.lock().refused.is_empty()
    }

    /// When the next of those is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.lock().refused.front().map(|(at, _)| *at)
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
        let left = waiting.events.len() + waiting.refused.len();
        if left > 0 {
            waiting.events.clear();
            waiting.refused.clear();
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
        let oldest = outbox.take(10, Instant::now());
        let ids: Vec<String> = oldest.iter().map(|event| event.id.clone()).collect();
        outbox.put_back(oldest);
        let again: Vec<String> = outbox
            .take(10, Instant::now())
            .into_iter()
            .map(|event| event.id)
            .collect();
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

    #[test]
    fn one_that_is_refused_does_not_stand_before_the_others_and_is_dropped_in_the_end() {
        let (outbox, mut now) = (outbox(), Instant::now());
        for _ in 0..3 {
            outbox.put("task.failed", LifecycleEvent::default);
        }
        let mut first = outbox.take(1, now);
        for refusals in 1..=MOST_REFUSALS {
            let event = first.pop().expect("the refused event");
            let id = event.id.clone();
            outbox.refused(event, now);
            if refusals == MOST_REFUSALS {
                break;
            }
            let others = outbox.take(10, now);
            assert_eq!(others.len(), 2, "the others go on");
            outbox.put_back(others);
            assert_eq!(outbox.next_due(), Some(now + REFUSED_PAUSE));
            now += REFUSED_PAUSE;
            first = outbox.take(1, now);
            assert_eq!(first[0].id, id);
        }
        assert!(!outbox.has_refused());
        let dropped = r#"runner_events_total{outcome="dropped"} 1"#;
        assert!(outbox.metrics.render().contains(dropped));
    }
}
