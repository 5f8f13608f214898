//! How events become tasks: enqueued in batches, each id once, until the broker has taken them.
//!
//! Knows no kind of event. While the broker takes nothing a batch waits here, so its source must stop reading by itself.

use std::sync::Arc;
use std::time::Duration;

use runner_queue::{Broker, BrokerError, Delivery, Enqueued, Refusal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::kept_names::NextPlaces;
use crate::health::Health;
use crate::telemetry::{OpenSpan, Telemetry};

/// The pause after the first failed call; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause: messages flow again within this time of the broker's return.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Puts tasks of events on their queues.
#[derive(Clone)]
pub struct Intake {
    broker: Arc<dyn Broker>,
    health: Arc<Health>,
    telemetry: Telemetry,
    next_places: Arc<NextPlaces>,
}

impl Intake {
    /// Into this broker.
    #[must_use]
    pub fn new(broker: Arc<dyn Broker>, health: Arc<Health>, telemetry: Telemetry) -> Self {
        Self {
            broker,
            health,
            telemetry,
            next_places: Arc::default(),
        }
    }

    /// The broker, for what is kept beside tasks.
    #[must_use]
    pub fn broker(&self) -> &dyn Broker {
        &*self.broker
    }

    /// Where events go of which no task can be made.
    pub(super) fn next_places(&self) -> &NextPlaces {
        &self.next_places
    }

    /// Reports a failed call to the broker; `doing` completes "trying to".
    pub fn failed(&self, doing: &'static str, error: &BrokerError) {
        self.health.failed(doing, error);
    }

    /// Enqueues tasks; one answer for each, in order, when all are durable. Tries again until then; a repeated call does no
    /// harm, because their ids are accepted once. `waiting` is called with each error. `None`: `stop` came first, and nothing
    /// is known of them.
    pub async fn accept(
        &self,
        deliveries: &[Delivery],
        stop: &CancellationToken,
        waiting: impl Fn(&BrokerError),
    ) -> Option<Vec<Result<Enqueued, Refusal>>> {
        let (traced, spans);
        let deliveries = match self.telemetry.is_on() {
            true => {
                (traced, spans) = self.traced(deliveries);
                &traced[..]
            }
            false => {
                spans = Vec::new();
                deliveries
            }
        };
        let mut pause = FIRST_PAUSE;
        loop {
            // A call under way is waited for, also after a stop: its outcome decides what the source confirms.
            match self.broker.enqueue_once(deliveries).await {
                Ok(answers) => {
                    self.sent(spans, &answers);
                    return Some(answers);
                }
                Err(error) => {
                    self.health.failed("enqueue the tasks of a trigger", &error);
                    waiting(&error);
                }
            }
            if timeout(pause, stop.cancelled()).await.is_ok() {
                return None;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The same, each within a span of its enqueue.
    fn traced(&self, deliveries: &[Delivery]) -> (Vec<Delivery>, Vec<Option<OpenSpan>>) {
        let mut all = deliveries.to_vec();
        let spans = all
            .iter_mut()
            .map(|one| self.telemetry.enqueue(&mut one.task))
            .collect();
        (all, spans)
    }

    /// Ends these spans. An event that was reported before enqueues nothing, so it has none.
    fn sent(&self, spans: Vec<Option<OpenSpan>>, answers: &[Result<Enqueued, Refusal>]) {
        for (span, answer) in spans.into_iter().zip(answers) {
            match answer {
                Ok(enqueued) => self.telemetry.enqueued(span, Ok(&enqueued.id)),
                Err(Refusal::Received | Refusal::IdTaken) => {}
                Err(refusal) => self.telemetry.enqueued(span, Err(&refusal.to_string())),
            }
        }
    }
}
