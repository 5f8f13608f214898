//! Checks how the broker is configured: once before the start, and from then on in the background.
//!
//! A broker that may delete tasks prevents the start. Everything else is logged when it appears and when it goes,
//! counted, and shown by the dashboard; so is what keeps lifecycle events from being sent.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_queue::{Broker, BrokerResult, Caveat};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::background::{self, BackgroundLoop};
use crate::events::Events;
use crate::health::Health;
use crate::metrics::Metrics;

/// How long the start waits for the first answer. A broker that is unreachable then is checked later.
const FIRST_ANSWER: Duration = Duration::from_secs(3);
/// How often the configuration is checked: a change is found within half a minute.
const EVERY: Duration = Duration::from_secs(15);

/// What was found last.
pub type Caveats = watch::Receiver<Vec<Caveat>>;

/// The broker may delete tasks, and the settings do not allow that.
#[derive(Debug, thiserror::Error)]
#[error("{broker}: {code}, {message} ({hint})")]
pub struct UnsafeBroker {
    broker: String,
    code: &'static str,
    message: String,
    hint: &'static str,
}

/// Checks once before anything runs.
///
/// # Errors
///
/// [`UnsafeBroker`] if the broker may delete tasks.
pub async fn first_look(broker: &dyn Broker) -> Result<Vec<Caveat>, UnsafeBroker> {
    let found = match tokio::time::timeout(FIRST_ANSWER, broker.caveats()).await {
        Ok(Ok(found)) => found,
        // The start continues without an answer; the next check reports problems.
        Ok(Err(_)) | Err(_) => Vec::new(),
    };
    if let Some(caveat) = found.iter().find(|caveat| caveat.grave) {
        return Err(UnsafeBroker {
            broker: broker.describe(),
            code: caveat.code,
            message: caveat.message.clone(),
            hint: caveat.hint,
        });
    }
    for caveat in &found {
        tracing::warn!(target: "runner", code = caveat.code, hint = caveat.hint, "{}", caveat.message);
    }
    Ok(found)
}

/// Checks periodically until `stop`; `found` was found before the start.
pub fn watch(
    broker: Arc<dyn Broker>,
    (metrics, health, events): (Arc<Metrics>, Arc<Health>, Events),
    found: Vec<Caveat>,
    stop: CancellationToken,
) -> Caveats {
    let (latest, caveats) = watch::channel(found);
    let setup = BrokerSetupLoop {
        broker,
        metrics,
        health,
        events,
        latest,
    };
    tokio::spawn(async move { background::run(setup, &Notify::new(), &stop).await });
    caveats
}

struct BrokerSetupLoop {
    broker: Arc<dyn Broker>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    events: Events,
    latest: watch::Sender<Vec<Caveat>>,
}

#[async_trait]
impl BackgroundLoop for BrokerSetupLoop {
    fn name(&self) -> &'static str {
        "setup"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        self.metrics.records_trimmed(self.broker.trimmed_records());
        let answer = self.broker.caveats().await;
        self.note(answer);
        None
    }
}

impl BrokerSetupLoop {
    fn note(&mut self, answer: BrokerResult<Vec<Caveat>>) {
        let mut found = match answer {
            Ok(found) => found,
            Err(error) => return self.health.failed("read how the broker is configured", &error),
        };
        found.extend(self.events.caveats());
        let before = self.latest.borrow().clone();
        for caveat in found.iter().filter(|caveat| !before.contains(caveat)) {
            let Caveat {
                code, message, hint, ..
            } = caveat;
            if *code == "broker_state_lost" {
                self.metrics.broker_state_lost();
            }
            match caveat.grave {
                true => tracing::error!(code, hint, "{message}"),
                false => tracing::warn!(code, hint, "{message}"),
            }
        }
        for gone in before.iter().filter(|caveat| !found.contains(caveat)) {
            tracing::info!(code = gone.code, "no longer the case: {}", gone.message);
        }
        let evicts = found.iter().any(|caveat| caveat.code == "broker_evicts");
        self.metrics.set_unsafe_policy(evicts);
        // Without a receiver this does nothing.
        self.latest.send_replace(found);
    }
}
