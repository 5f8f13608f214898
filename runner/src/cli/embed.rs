//! The program inside another one: on its runtime, beside its web server, stopped when it says so.
//!
//! What is started is `run`'s; here is only what is different without a command line and a process of its own.

use std::fmt;
use std::net::SocketAddr;

use runner_client::Client;
use tokio_util::sync::CancellationToken;

use super::parts::{AppParts, Hook};
use super::run::RunningProgram;
use super::{exit, run};
use crate::config::{Access, Environment, Purpose, Settings, resolve_access};
use crate::log::{self, LogGuard, LostLines};

/// Why a program could not run.
#[derive(Debug)]
pub struct AppError(anyhow::Error);

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&exit::line(&self.0))
    }
}

/// Its text has all causes, so it names none.
impl std::error::Error for AppError {}

impl From<anyhow::Error> for AppError {
    fn from(error: anyhow::Error) -> Self {
        Self(error)
    }
}

/// What is read before anything starts.
struct Prepared {
    settings: Settings,
    access: Access,
    /// Flushes the log of this program, if it has one.
    log: Option<LogGuard>,
}

fn prepare(parts: &AppParts) -> anyhow::Result<Prepared> {
    // Otherwise it would start a guard itself, which would do the same, without end.
    anyhow::ensure!(
        !runner_handlers::is_guard(),
        "this process was started to guard a command; main must begin with runner::guard_main()"
    );
    let settings = Settings::load(
        parts.config.as_deref(),
        &Environment::of_process(),
        Purpose::Serve,
        &parts.sections,
    )?;
    let clock = std::sync::Arc::new(runner_core::clock::SystemClock);
    let log = match tracing::dispatcher::has_been_set() {
        true => None,
        false => Some(log::init(
            &settings.log,
            &settings.source.zone,
            clock,
            settings.telemetry.is_some(),
        )?),
    };
    super::serve::warn(&settings);
    let access = match settings.roles.web {
        true => resolve_access(&settings, &settings.data_dir)?,
        false => Access {
            sealing: super::state_store::key_without_web(&settings),
            ..Access::without_users()
        },
    };
    for note in &access.notes {
        tracing::warn!(target: "runner", "{note}");
    }
    Ok(Prepared { settings, access, log })
}

/// Runs until a signal or the program says stop.
pub(super) async fn run(parts: AppParts) -> Result<(), AppError> {
    let Prepared { settings, access, log } = prepare(&parts)?;
    let control = log.as_ref().map(LogGuard::control).unwrap_or_default();
    run::run(settings, parts, access, control).await?;
    Ok(())
}

/// Starts, and returns.
pub(super) async fn start(mut parts: AppParts) -> Result<StartedApp, AppError> {
    let Prepared { settings, access, log } = prepare(&parts)?;
    let on_stop = std::mem::take(&mut parts.on_stop);
    let program = RunningProgram::start(&settings, parts, access, LostLines::default()).await?;
    Ok(StartedApp {
        program,
        on_stop,
        settings,
        _log: log,
    })
}

/// A program that runs inside another one. Dropping it does not stop it; [`StartedApp::stop`] does.
pub struct StartedApp {
    program: RunningProgram,
    on_stop: Vec<Hook>,
    settings: Settings,
    _log: Option<LogGuard>,
}

impl StartedApp {
    /// A client of its broker.
    #[must_use]
    pub fn client(&self) -> Client {
        self.program.client()
    }

    /// The address of its own dashboard, if the settings have the role `web`.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.program.address()
    }

    /// The dashboard at `/queue` with its login and the endpoints `/healthz`, `/readyz` and `/metrics`, for a web server of
    /// the program. The settings apply (users, `server.public_url`, `server.trusted_proxies`); what limits slow clients is the
    /// business of that server. Usually `roles` are then `[scheduler, worker]`.
    ///
    /// # Errors
    ///
    /// If users, keys or templates cannot be used.
    #[cfg(feature = "web")]
    pub fn router(&self) -> Result<axum::Router, AppError> {
        let access = resolve_access(&self.settings, &self.settings.data_dir).map_err(anyhow::Error::from)?;
        Ok(self.program.router(&self.settings, access)?)
    }

    /// Returns when a part of it ended by itself; which one.
    pub async fn broken(&mut self) -> &'static str {
        self.program.broken().await
    }

    /// Lets running tasks end, within the shutdown timeout of the settings, hands back the others, and runs the hooks of
    /// [`App::on_stop`](super::App::on_stop).
    pub async fn stop(self) {
        self.program.stop(CancellationToken::new(), self.on_stop).await;
    }
}

impl fmt::Debug for StartedApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartedApp")
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}
