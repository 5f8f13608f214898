//! Looks at how the broker is set up: before the start, which a store that may delete tasks prevents, and from then on.
//!
//! What it finds is logged when it appears and when it goes, counted, and shown by the dashboard.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_queue::{Broker, BrokerResult, Caveat};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::exit::BadStore;
use crate::background::{self, BackgroundLoop};
use crate::health::Health;
use crate::metrics::Metrics;

/// How long the start waits for the first answer; a broker that is away is looked at when it is back.
const FIRST_ANSWER: Duration = Duration::from_secs(3);
/// How often it is looked at: a change is known within half a minute.
const EVERY: Duration = Duration::from_secs(15);

/// What was found last.
pub(super) type Caveats = watch::Receiver<Vec<Caveat>>;

/// Looks once before anything runs.
///
/// # Errors
///
/// [`BadStore`] if the store may delete tasks and nobody allowed that.
pub(super) async fn first_look(broker: &dyn Broker) -> anyhow::Result<Vec<Caveat>> {
    let found = match tokio::time::timeout(FIRST_ANSWER, broker.caveats()).await {
        Ok(Ok(found)) => found,
        // The start goes on without: the next look says what is wrong.
        Ok(Err(_)) | Err(_) => Vec::new(),
    };
    if let Some(caveat) = found.iter().find(|caveat| caveat.grave) {
        let Caveat {
            code, message, hint, ..
        } = caveat;
        let why = format!("{}: {code}, {message} ({hint})", broker.describe());
        return Err(BadStore(why).into());
    }
    for caveat in &found {
        tracing::warn!(target: "runner", code = caveat.code, hint = caveat.hint, "{}", caveat.message);
    }
    Ok(found)
}

/// Looks from now on until `stop`; `found` was found before the start.
pub(super) fn watch(
    broker: Arc<dyn Broker>,
    (metrics, health): (Arc<Metrics>, Arc<Health>),
    found: Vec<Caveat>,
    stop: CancellationToken,
) -> Caveats {
    let (told, caveats) = watch::channel(found);
    let looks = BrokerWatchLoop {
        broker,
        metrics,
        health,
        told,
    };
    tokio::spawn(async move { background::run(looks, &Notify::new(), &stop).await });
    caveats
}

struct BrokerWatchLoop {
    broker: Arc<dyn Broker>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    told: watch::Sender<Vec<Caveat>>,
}

#[async_trait]
impl BackgroundLoop for BrokerWatchLoop {
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

impl BrokerWatchLoop {
    fn note(&mut self, answer: BrokerResult<Vec<Caveat>>) {
        let found = match answer {
            Ok(found) => found,
            Err(error) => return self.health.failed("ask how the broker is set up", &error),
        };
        let before = self.told.borrow().clone();
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
            tracing::info!(code = gone.code, "no longer so: {}", gone.message);
        }
        let evicts = found.iter().any(|caveat| caveat.code == "broker_evicts");
        self.metrics.set_unsafe_policy(evicts);
        // Nobody may be looking; that is no error.
        self.told.send_replace(found);
    }
}
