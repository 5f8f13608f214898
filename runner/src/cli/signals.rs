//! Signals: which ones end the process, which ones ask for an action, and that no other one kills it unexpectedly.
//!
//! The actions are in their rooms. KILL, STOP and the signals of a crash cannot or must not be caught.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use nix::sys::signal::Signal as Named;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::reload::Reloader;
use super::service_manager::ServiceManager;
use crate::log::Reopen;
use crate::source::Catalog;
use crate::worker::Quiet;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SignalAction {
    /// To drain and end. A second one hurries.
    Stop,
    /// To read all sources.
    Sync,
    /// To read settings and all sources, and to reopen the log file, as after a rotation by another program.
    Reload,
    /// To take no new tasks.
    Quiet,
    /// To take tasks again.
    Resume,
    /// No known action. By default such a signal would kill the process, or stop it until its leases expire.
    Nothing,
}

/// The signals with names. XCPU comes when the time limit for the processor is near, PWR from LXC.
const NAMED: [(Named, SignalAction); 17] = [
    (Named::SIGTERM, SignalAction::Stop),
    (Named::SIGINT, SignalAction::Stop),
    (Named::SIGQUIT, SignalAction::Stop),
    (Named::SIGXCPU, SignalAction::Stop),
    (Named::SIGPWR, SignalAction::Stop),
    (Named::SIGUSR1, SignalAction::Sync),
    (Named::SIGHUP, SignalAction::Reload),
    (Named::SIGTSTP, SignalAction::Quiet),
    (Named::SIGCONT, SignalAction::Resume),
    (Named::SIGUSR2, SignalAction::Nothing),
    (Named::SIGALRM, SignalAction::Nothing),
    (Named::SIGVTALRM, SignalAction::Nothing),
    (Named::SIGPROF, SignalAction::Nothing),
    (Named::SIGIO, SignalAction::Nothing),
    (Named::SIGTTIN, SignalAction::Nothing),
    (Named::SIGTTOU, SignalAction::Nothing),
    // A file has reached its size limit: the write fails, and the error is reported there.
    (Named::SIGXFSZ, SignalAction::Nothing),
];

/// The first and the last real-time signal that programs may use: the C library keeps some for itself.
const RTMIN: i32 = if cfg!(target_env = "musl") { 35 } else { 34 };
const RTMAX: i32 = 64;

/// How systemd's tools and podman ask the first process of a container to halt.
const HALT: i32 = RTMIN + 3;

struct SignalStream {
    stream: Signal,
    name: String,
    wish: SignalAction,
}

/// Handlers for every signal that would otherwise end or stop the process.
pub(super) struct ProcessSignals {
    heard: Vec<SignalStream>,
    /// Unknown ones that were logged: each is logged once.
    logged: BTreeSet<String>,
}

/// What signals act on.
pub(super) struct SignalTargets<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) reopen: &'a Reopen,
    pub(super) settings: &'a Arc<Reloader>,
    /// Waits for the end of a reload.
    pub(super) manager: Option<&'a ServiceManager>,
    /// `None` if no worker runs in this process.
    pub(super) quiet: Option<&'a Quiet>,
}

impl ProcessSignals {
    pub(super) fn listen() -> io::Result<Self> {
        let named = NAMED.iter().map(|(signal, wish)| {
            let name = signal.as_str().trim_start_matches("SIG").to_owned();
            (*signal as i32, name, *wish)
        });
        let real_time = (RTMIN..=RTMAX).map(|number| {
            let wish = if number == HALT {
                SignalAction::Stop
            } else {
                SignalAction::Nothing
            };
            (number, format!("RTMIN+{}", number - RTMIN), wish)
        });
        let heard = named.chain(real_time).map(|(number, name, wish)| {
            let stream = signal(SignalKind::from_raw(number))?;
            Ok(SignalStream { stream, name, wish })
        });
        Ok(Self {
            heard: heard.collect::<io::Result<_>>()?,
            logged: BTreeSet::new(),
        })
    }

    /// The next signal.
    async fn next(&mut self) -> (SignalAction, String) {
        poll_fn(|cx| {
            for heard in &mut self.heard {
                if let Poll::Ready(Some(())) = heard.stream.poll_recv(cx) {
                    return Poll::Ready((heard.wish, heard.name.clone()));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Handles signals until one asks to stop; the returned token is cancelled by the next one that does.
    pub(super) async fn until_asked_to_stop(mut self, reach: SignalTargets<'_>) -> CancellationToken {
        loop {
            let (wish, signal) = self.next().await;
            match wish {
                SignalAction::Stop => {
                    tracing::info!(signal, "signal to stop");
                    break;
                }
                SignalAction::Sync => {
                    tracing::info!(signal, "reading all sources now");
                    reach.catalog.sync_now();
                }
                SignalAction::Reload => {
                    reach.reopen.request();
                    tracing::info!(
                        signal,
                        "reading settings and all sources now, and reopening the log file"
                    );
                    let settings = Arc::clone(reach.settings);
                    let settings = tokio::task::spawn_blocking(move || settings.reload(true));
                    match reach.manager {
                        Some(manager) => manager.reload(settings, reach.catalog.clone()),
                        None => reach.catalog.sync_now(),
                    }
                }
                SignalAction::Quiet => quiet(&reach, &signal, true),
                SignalAction::Resume => quiet(&reach, &signal, false),
                SignalAction::Nothing => self.ignore(&signal),
            }
        }
        let hurry = CancellationToken::new();
        tokio::spawn({
            let hurry = hurry.clone();
            async move {
                while self.next().await.0 != SignalAction::Stop {}
                hurry.cancel();
            }
        });
        hurry
    }

    fn ignore(&mut self, signal: &str) {
        if self.logged.insert(signal.to_owned()) {
            tracing::info!(
                signal,
                "this signal has no meaning here; it is ignored, and not logged again"
            );
        }
    }
}

/// Begins or ends the quiet time.
fn quiet(reach: &SignalTargets<'_>, signal: &str, on: bool) {
    let Some(quiet) = reach.quiet else {
        if on {
            tracing::info!(signal, "no worker runs here, so there is nothing to quiet");
        }
        return;
    };
    match (quiet.set(on), on) {
        (true, true) => tracing::warn!(signal, "quiet: no new tasks are taken until SIGCONT or a restart"),
        (true, false) => tracing::info!(signal, "no longer quiet: new tasks are taken"),
        (false, _) => tracing::debug!(signal, on, "quiet is unchanged"),
    }
}
