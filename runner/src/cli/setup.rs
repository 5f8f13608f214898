//! Looks at how the broker is set up: before the start, which a store that may delete tasks prevents, and from then on.
//!
//! What it finds is logged when it appears and when it goes, counted, and shown by the dashboard.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_queue::{Broker, BrokerError, BrokerResult, Caveat};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::exit::BadStore;
use crate::metrics::Metrics;
use crate::role::{self, Role};

/// How long the start waits for the first answer; a broker that is away is looked at when it is back.
const FIRST_ANSWER: Duration = Duration::from_secs(3);
/// How often it is looked at: a change is known within half a minute.
const EVERY: Duration = Duration::from_secs(15);
/// Turns between two lines that say that the broker cannot be used: a minute.
const TURNS_A_LINE: u32 = 4;

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
    metrics: Arc<Metrics>,
    found: Vec<Caveat>,
    stop: CancellationToken,
) -> Caveats {
    let (told, caveats) = watch::channel(found);
    let looks = Looks {
        broker,
        metrics,
        told,
        failures: 0,
    };
    tokio::spawn(async move { role::run(looks, &Notify::new(), &stop).await });
    caveats
}

struct Looks {
    broker: Arc<dyn Broker>,
    metrics: Arc<Metrics>,
    told: watch::Sender<Vec<Caveat>>,
    /// Turns in a row to which the broker did not answer.
    failures: u32,
}

#[async_trait]
impl Role for Looks {
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

impl Looks {
    fn note(&mut self, answer: BrokerResult<Vec<Caveat>>) {
        let found = match answer {
            Ok(found) => found,
            Err(error) => return self.failed(&error),
        };
        self.failures = 0;
        let before = self.told.borrow().clone();
        for caveat in found.iter().filter(|caveat| !before.contains(caveat)) {
            let Caveat {
                code, message, hint, ..
            } = caveat;
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

    /// One line a minute while it lasts, the first at once if only a person can mend it.
    fn failed(&mut self, error: &BrokerError) {
        self.metrics.broker_error(error.code());
        if says(self.failures, error.is_transient()) {
            let (code, error) = (error.code(), crate::log::chain(error));
            tracing::error!(code, %error, "the broker cannot be used");
        }
        self.failures = self.failures.saturating_add(1);
    }
}

/// Whether the failure after so many others in a row gets a line. What passes by itself was told when it began, by
/// whoever met it.
fn says(before: u32, transient: bool) -> bool {
    before.is_multiple_of(TURNS_A_LINE) && (before > 0 || !transient)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_lasts_is_said_once_a_minute() {
        let said = |transient| (0..=9).filter(|n| says(*n, transient)).collect::<Vec<u32>>();
        assert_eq!(said(false), [0, 4, 8]);
        assert_eq!(said(true), [4, 8]);
        assert_eq!(EVERY * TURNS_A_LINE, Duration::from_secs(60));
    }
}
