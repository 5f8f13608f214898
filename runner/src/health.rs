//! Whether the broker takes writes: one state for the whole process, shared by probes, pages and the log.
//!
//! Every caller that meets a failure reports it here, so it is logged once. Only a probe decides whether the process is
//! ready; it runs every two seconds and at once after a failure. Takes no action beyond reporting.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::clock::Clock;
use runner_core::task::QueueName;
use runner_queue::{Broker, BrokerError};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::background::{self, BackgroundLoop};
use crate::metrics::Metrics;

/// How often the probe runs: a broker that refuses writes is detected within two seconds.
const EVERY: Duration = Duration::from_secs(2);

/// The minimum time between two probes, however many failures are reported.
const MIN_INTERVAL: Duration = Duration::from_millis(500);

/// How long a probe may take: with [`EVERY`], a lock held by another program is detected after five seconds.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// An outage ends after this long without a reported failure: callers that retry do so within five seconds.
const QUIET: Duration = Duration::from_secs(6);

/// Why the broker takes no writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerFault {
    /// The stable code.
    pub code: &'static str,
    /// The error and its causes.
    pub why: String,
    /// When the outage started.
    pub since: Timestamp,
}

/// The shared state; see the module documentation.
pub struct Health {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    fault: Option<BrokerFault>,
    /// When the last failure was reported.
    failed_at: Option<Instant>,
    /// Whether the current outage has been logged as an error.
    logged: bool,
}

impl Health {
    /// Starts healthy.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let (state, wake) = (Mutex::default(), Notify::new());
        Self {
            clock,
            metrics,
            state,
            wake,
        }
    }

    /// Why the broker takes no writes; `None` while it does.
    #[must_use]
    pub fn fault(&self) -> Option<BrokerFault> {
        self.state().fault.clone()
    }

    /// Reports a failed call; `doing` completes "trying to".
    pub fn failed(&self, doing: &'static str, error: &BrokerError) {
        self.metrics.broker_error(error.code());
        self.log_failure(&mut self.state(), error.code(), doing, || {
            runner_core::chain::chain(error)
        });
        self.wake.notify_one();
    }

    /// Records the result of a probe: success, or a code and a reason.
    fn record_probe(&self, found: Result<(), (&'static str, String)>) {
        let mut state = self.state();
        match found {
            Ok(()) => {
                state.fault = None;
                let quiet = state.failed_at.is_none_or(|at| at.elapsed() >= QUIET);
                if state.logged && quiet {
                    state.logged = false;
                    tracing::info!("the broker can be used again");
                }
            }
            Err((code, why)) => {
                let before = state.fault.take();
                // A different cause is logged again; "no answer" and "late answer" count as the same cause.
                let late = |code| matches!(code, "broker_slow" | "broker_unavailable");
                let same = |fault: &BrokerFault| fault.code == code || (late(fault.code) && late(code));
                state.logged &= before.as_ref().is_none_or(same);
                self.log_failure(&mut state, code, "check whether it takes writes", || why.clone());
                let since = before.map_or_else(|| self.clock.now(), |fault| fault.since);
                state.fault = Some(BrokerFault { code, why, since });
            }
        }
    }

    fn log_failure(&self, state: &mut State, code: &'static str, doing: &'static str, why: impl FnOnce() -> String) {
        state.failed_at = Some(Instant::now());
        let error = why();
        if std::mem::replace(&mut state.logged, true) {
            tracing::debug!(code, doing, %error, "the broker still cannot be used");
        } else {
            let help = help(code);
            tracing::error!(
                code, doing, help, %error,
                "the broker cannot be used; running tasks continue, verdicts and fires wait"
            );
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an operator can do about this code.
#[must_use]
pub fn help(code: &str) -> Option<&'static str> {
    Some(match code {
        "broker_corrupt" => {
            "stop the runner, then restore a backup (made by `runner backup`), or save what can be read: \
             sqlite3 runner.db .recover | sqlite3 new.db; see docs/backup.md"
        }
        "broker_replaced" => "put the file back, or restart: the file that exists then is used; see docs/backup.md",
        "broker_full" => "make room: the disk of data.dir, or maxmemory of the server",
        _ => return None,
    })
}

/// Whether the broker takes writes: success, or a code and a reason.
async fn probe(broker: &dyn Broker, queues: &[QueueName]) -> Result<(), (&'static str, String)> {
    match timeout(PROBE_TIMEOUT, broker.probe(queues)).await {
        Ok(answer) => answer.map_err(|error| (error.code(), runner_core::chain::chain(&error))),
        Err(_) => Err((
            "broker_slow",
            format!("no write was accepted within {} s", PROBE_TIMEOUT.as_secs()),
        )),
    }
}

/// Why the broker takes no writes at this moment, for a command: `now` is when that was found out.
pub async fn fault_now(broker: &dyn Broker, queues: &[QueueName], now: Timestamp) -> Option<BrokerFault> {
    let (code, why) = probe(broker, queues).await.err()?;
    Some(BrokerFault { code, why, since: now })
}

/// Probes until `stop`.
pub fn watch(broker: Arc<dyn Broker>, health: Arc<Health>, queues: Vec<QueueName>, stop: CancellationToken) {
    let looks = HealthLoop {
        broker,
        health: health.clone(),
        queues,
        last: None,
    };
    tokio::spawn(async move { background::run(looks, &health.wake, &stop).await });
}

struct HealthLoop {
    broker: Arc<dyn Broker>,
    health: Arc<Health>,
    queues: Vec<QueueName>,
    last: Option<Instant>,
}

#[async_trait]
impl BackgroundLoop for HealthLoop {
    fn name(&self) -> &'static str {
        "health"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        let rest = self
            .last
            .map_or(Duration::ZERO, |at| MIN_INTERVAL.saturating_sub(at.elapsed()));
        if !rest.is_zero() {
            return Some(rest);
        }
        let found = probe(&*self.broker, &self.queues).await;
        self.health.record_probe(found);
        self.last = Some(Instant::now());
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use runner_core::clock::SystemClock;

    fn health() -> Health {
        Health::new(Arc::new(SystemClock), Arc::default())
    }

    fn full() -> Result<(), (&'static str, String)> {
        Err(("broker_full", "no room".to_owned()))
    }

    #[tokio::test(start_paused = true)]
    async fn ready_again_at_once_and_logged_after_a_quiet_period() {
        let health = health();
        health.record_probe(full());
        let since = health.fault().unwrap().since;
        health.record_probe(full());
        assert_eq!(health.fault().unwrap().since, since);
        health.record_probe(Ok(()));
        assert_eq!(health.fault(), None);
        assert!(health.state().logged, "others may still fail");
        tokio::time::advance(QUIET).await;
        health.record_probe(Ok(()));
        assert!(!health.state().logged);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reported_failure_alone_does_not_change_readiness() {
        let health = health();
        let error = BrokerError::Full {
            doing: "try",
            source: "no room".into(),
        };
        health.failed("try", &error);
        assert_eq!(health.fault(), None);
        assert!(health.state().logged);
        health.record_probe(Err(("broker_auth", "no right".to_owned())));
        assert_eq!(health.fault().unwrap().code, "broker_auth");
    }
}
