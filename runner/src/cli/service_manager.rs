//! Notifications to the service manager that started the process: ready, reloading, stopping, alive.
//!
//! systemd's protocol, by datagrams to the socket that `NOTIFY_SOCKET` names; without the variable nothing is sent.
//! They change nothing in the process. Probes of containers are in the room `web`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sd_notify::NotifyState;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::background::{self, BackgroundLoop};
use crate::health::Health;
use crate::source::{Catalog, SourceState};
use crate::worker::{LAST_STEPS, Quiet};

/// How often the state is checked until the manager knows that the process is ready, and afterwards.
const SOON: Duration = Duration::from_millis(200);
const EVERY: Duration = Duration::from_secs(5);

/// After this time the process counts as started although something is missing. It runs with what is available, such as
/// the last good version of an unreachable table; a manager that waited longer would kill it (systemd: after 90 s).
const START_LIMIT: Duration = Duration::from_secs(30);

/// Messages that may wait to be sent. About one a second is added; if the manager reads none of them, the rest is
/// dropped.
const WAITING: usize = 16;

/// What a stop may take beyond the drain and its last steps, until the process has ended.
const LAST_EXIT: Duration = Duration::from_secs(5);

/// What decides whether the process is ready: the same as `/readyz` reports.
#[derive(Clone)]
pub(super) struct Watched {
    pub(super) catalog: Catalog,
    pub(super) health: Arc<Health>,
    pub(super) quiet: Quiet,
}

impl Watched {
    /// What is missing, with the codes of `/readyz`.
    fn missing(&self) -> Option<String> {
        let broker = self.health.fault().map(|trouble| format!("broker: {}", trouble.code));
        let sources = self.catalog.statuses().into_iter().filter_map(|source| {
            let reason = match &source.state {
                SourceState::Loading => "loading",
                SourceState::Unavailable { .. } if !source.is_absent() => "unavailable",
                _ => return None,
            };
            Some(format!("{}: {reason}", source.source.as_str()))
        });
        let quiet = self.quiet.is_on().then(|| "process: quiet".to_owned());
        let all: Vec<String> = broker.into_iter().chain(sources).chain(quiet).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }
}

/// The manager. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct ServiceManager(mpsc::Sender<String>);

impl ServiceManager {
    /// The manager that expects messages of this process, if there is one.
    #[allow(clippy::disallowed_methods)] // not a setting: systemd's own variable, which the crate reads again
    pub(super) fn of_process() -> Option<Self> {
        std::env::var_os("NOTIFY_SOCKET")?;
        let (sender, waiting) = mpsc::channel(WAITING);
        // A thread of its own: sending blocks while the manager does not read, and no handler may wait for that.
        let thread = std::thread::Builder::new().name("service-manager".to_owned());
        match thread.spawn(move || send(waiting)) {
            Ok(_) => Some(Self(sender)),
            Err(error) => {
                tracing::warn!(%error, "nothing can be sent to the service manager");
                None
            }
        }
    }

    /// Reports when the process is ready, and then what is missing, until `stop`; and that it is alive until it ends.
    pub(super) fn watch(&self, watched: Watched, stop: CancellationToken) {
        let status = Status {
            manager: self.clone(),
            watched,
            began: Instant::now(),
            said: None,
        };
        tokio::spawn(async move { background::run(status, &Notify::new(), &stop).await });
        if let Some(limit) = sd_notify::watchdog_enabled() {
            let alive = Alive(self.clone(), limit / 2);
            // During a drain, too.
            tokio::spawn(async move { background::run(alive, &Notify::new(), &CancellationToken::new()).await });
        }
    }

    /// Reads all sources; the manager's `reload` lasts until that is done, and until the settings have been read.
    pub(super) fn reload(&self, settings: JoinHandle<()>, catalog: Catalog) {
        let mut states = vec![NotifyState::Reloading];
        // Without it, newer ones refuse the reload.
        states.extend(NotifyState::monotonic_usec_now());
        self.say(&states);
        let manager = self.clone();
        tokio::spawn(async move {
            catalog.sync().await;
            // A reader that panicked has ended too.
            let _ended = settings.await;
            manager.say(&[NotifyState::Ready]);
        });
    }

    /// Reports that the process drains, and extends the manager's time limit accordingly.
    pub(super) fn stopping(&self, shutdown_timeout: Duration) {
        let limit = (shutdown_timeout + LAST_STEPS + LAST_EXIT).as_micros();
        self.say(&[
            NotifyState::Stopping,
            NotifyState::Status("draining: running tasks may finish"),
            NotifyState::ExtendTimeoutUsec(u32::try_from(limit).unwrap_or(u32::MAX)),
        ]);
    }

    fn say(&self, states: &[NotifyState<'_>]) {
        let lines: Vec<String> = states.iter().map(ToString::to_string).collect();
        if self.0.try_send(lines.join("\n")).is_err() {
            tracing::debug!("the service manager does not read; a message is dropped");
        }
    }
}

/// Sends each message, until the process ends.
fn send(mut waiting: mpsc::Receiver<String>) {
    let mut failed = false;
    while let Some(lines) = waiting.blocking_recv() {
        let sent = sd_notify::notify(&[NotifyState::Custom(&lines)]);
        if let Err(error) = &sent
            && !failed
        {
            tracing::warn!(%error, "the service manager at NOTIFY_SOCKET cannot be reached");
        }
        failed = sent.is_err();
    }
}

/// Reports whether the process is ready.
struct Status {
    manager: ServiceManager,
    watched: Watched,
    began: Instant,
    /// The last status; none until the process was called ready.
    said: Option<String>,
}

#[async_trait]
impl BackgroundLoop for Status {
    fn name(&self) -> &'static str {
        "status"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        let next = next(self.watched.missing(), self.said.as_deref(), self.began.elapsed());
        let (states, status) = match &next {
            Next::Wait => return Some(SOON),
            Next::Nothing => return None,
            Next::Started(status) => (vec![NotifyState::Ready, NotifyState::Status(status)], status),
            Next::Status(status) => (vec![NotifyState::Status(status)], status),
        };
        self.manager.say(&states);
        self.said = Some(status.clone());
        None
    }
}

/// What to send to the manager next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Nothing yet; check again soon.
    Wait,
    /// Nothing new.
    Nothing,
    /// That the process has started, and how it is.
    Started(String),
    /// How it is now.
    Status(String),
}

/// Decides that from what is missing, the last status and the time since the start.
fn next(missing: Option<String>, said: Option<&str>, elapsed: Duration) -> Next {
    if said.is_none() && missing.is_some() && elapsed < START_LIMIT {
        return Next::Wait;
    }
    let status = missing.map_or_else(|| "ready".to_owned(), |missing| format!("not ready: {missing}"));
    match said {
        None => Next::Started(status),
        Some(said) if said == status => Next::Nothing,
        Some(_) => Next::Status(status),
    }
}

/// Reports that the runtime still makes progress. It does not ask the broker: a restart would not repair that.
struct Alive(ServiceManager, Duration);

#[async_trait]
impl BackgroundLoop for Alive {
    fn name(&self) -> &'static str {
        "watchdog"
    }

    fn every(&self) -> Duration {
        self.1
    }

    async fn turn(&mut self) -> Option<Duration> {
        self.0.say(&[NotifyState::Watchdog]);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_waits_a_while_for_what_is_missing() {
        let missing = || Some("table: unavailable".to_owned());
        assert_eq!(next(missing(), None, Duration::ZERO), Next::Wait);
        assert_eq!(next(None, None, Duration::ZERO), Next::Started("ready".to_owned()));
        let late = Next::Started("not ready: table: unavailable".to_owned());
        assert_eq!(next(missing(), None, START_LIMIT), late);
    }

    #[test]
    fn the_status_is_said_when_it_changes() {
        let said = "not ready: table: unavailable";
        let missing = Some("table: unavailable".to_owned());
        assert_eq!(next(missing, Some(said), Duration::ZERO), Next::Nothing);
        assert_eq!(next(None, Some(said), START_LIMIT), Next::Status("ready".to_owned()));
    }
}
