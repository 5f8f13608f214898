//! Whether the broker takes writes: one state for the whole process, which probes, pages and the log agree on.
//!
//! Everybody who meets a failure reports it here, and so it is logged once. Whether the process is ready is decided by a
//! probe alone, every two seconds and at once after a failure. Does nothing about what it finds.

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

/// How often it is looked: a store that takes no writes is known within two seconds.
const EVERY: Duration = Duration::from_secs(2);

/// The least time between two looks, however many failures are reported.
const APART: Duration = Duration::from_millis(500);

/// How long a look may take: with [`EVERY`], a lock that another program holds is known after five seconds.
const PATIENCE: Duration = Duration::from_secs(3);

/// For so long nobody must have met a failure before it is over: those who try again do so within five seconds.
const QUIET: Duration = Duration::from_secs(6);

/// Why the broker takes no writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerFault {
    /// The stable code.
    pub code: &'static str,
    /// The error with its causes.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
}

/// See the head of this file.
pub struct Health {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    trouble: Option<BrokerFault>,
    /// When a failure was last met, and whether the log was told of the first.
    failed_at: Option<Instant>,
    told: bool,
}

impl Health {
    /// Nothing is wrong yet.
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
    pub fn trouble(&self) -> Option<BrokerFault> {
        self.state().trouble.clone()
    }

    /// A call failed, to be read after "trying to".
    pub fn failed(&self, doing: &'static str, error: &BrokerError) {
        self.metrics.broker_error(error.code());
        self.tell(&mut self.state(), error.code(), doing, || {
            runner_core::chain::chain(error)
        });
        self.wake.notify_one();
    }

    /// What a look found: nothing, or a code and why.
    fn looked(&self, found: Result<(), (&'static str, String)>) {
        let mut state = self.state();
        match found {
            Ok(()) => {
                state.trouble = None;
                let quiet = state.failed_at.is_none_or(|at| at.elapsed() >= QUIET);
                if state.told && quiet {
                    state.told = false;
                    tracing::info!("the broker can be used again");
                }
            }
            Err((code, why)) => {
                let before = state.trouble.take();
                // Another cause is news; no answer and a late one are the same.
                let late = |code| matches!(code, "broker_slow" | "broker_unavailable");
                let same = |trouble: &BrokerFault| trouble.code == code || (late(trouble.code) && late(code));
                state.told &= before.as_ref().is_none_or(same);
                self.tell(&mut state, code, "see whether it takes writes", || why.clone());
                let since = before.map_or_else(|| self.clock.now(), |trouble| trouble.since);
                state.trouble = Some(BrokerFault { code, why, since });
            }
        }
    }

    fn tell(&self, state: &mut State, code: &'static str, doing: &'static str, why: impl FnOnce() -> String) {
        state.failed_at = Some(Instant::now());
        let error = why();
        if std::mem::replace(&mut state.told, true) {
            tracing::debug!(code, doing, %error, "the broker still cannot be used");
        } else {
            let help = help(code);
            tracing::error!(
                code, doing, help, %error,
                "the broker cannot be used; running tasks go on, verdicts and fires wait"
            );
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to do where only a person can do something.
#[must_use]
pub fn help(code: &str) -> Option<&'static str> {
    Some(match code {
        "broker_corrupt" => {
            "stop the runner, then restore a backup (made by `runner backup`), or save what can be read: \
             sqlite3 runner.db .recover | sqlite3 new.db; see docs/backup.md"
        }
        "broker_replaced" => "put the file back, or restart: what is there then is used; see docs/backup.md",
        "broker_full" => "make room: the disk of data.dir, or maxmemory of the server",
        _ => return None,
    })
}

/// Looks from now on until `stop`.
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
            .map_or(Duration::ZERO, |at| APART.saturating_sub(at.elapsed()));
        if !rest.is_zero() {
            return Some(rest);
        }
        let found = match timeout(PATIENCE, self.broker.probe(&self.queues)).await {
            Ok(answer) => answer.map_err(|error| (error.code(), runner_core::chain::chain(&error))),
            Err(_) => Err((
                "broker_slow",
                format!("no write was taken within {} s", PATIENCE.as_secs()),
            )),
        };
        self.health.looked(found);
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
    async fn ready_again_at_once_and_told_when_it_has_been_quiet() {
        let health = health();
        health.looked(full());
        let since = health.trouble().unwrap().since;
        health.looked(full());
        assert_eq!(health.trouble().unwrap().since, since);
        health.looked(Ok(()));
        assert_eq!(health.trouble(), None);
        assert!(health.state().told, "others may still fail");
        tokio::time::advance(QUIET).await;
        health.looked(Ok(()));
        assert!(!health.state().told);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_alone_makes_nobody_unready() {
        let health = health();
        let error = BrokerError::Full {
            doing: "try",
            source: "no room".into(),
        };
        health.failed("try", &error);
        assert_eq!(health.trouble(), None);
        assert!(health.state().told);
        health.looked(Err(("broker_auth", "no right".to_owned())));
        assert_eq!(health.trouble().unwrap().code, "broker_auth");
    }
}
