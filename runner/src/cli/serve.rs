//! What comes before `runner run`: logging in force, access arranged, a runtime to run on.

use std::process::ExitCode;
use std::time::Duration;

use super::parts::AppParts;
use super::{CommandContext, exit, print, run, state_store, temporary};
use crate::config::{Access, Settings, resolve_access};
use crate::log;

/// How long blocking calls of functions may delay the end of the process.
const LAST_CALLS: Duration = Duration::from_millis(500);

/// Runs until a signal asks it to stop.
///
/// # Errors
///
/// When the settings, the log file or the start itself cannot be used.
pub fn serve(context: &CommandContext, parts: AppParts) -> anyhow::Result<ExitCode> {
    let settings = context.settings()?.clone();
    let spans = settings.telemetry.is_some();
    let guard = log::init(&settings.log, &settings.source.zone, context.clock.clone(), spans)?;
    warn(&settings);
    let access = match settings.roles.web {
        true => resolve_access(&settings, &settings.data_dir)?,
        false => Access {
            sealing: state_store::key_without_web(&settings),
            ..Access::without_users()
        },
    };
    for note in &access.notes {
        tracing::warn!(target: "runner", "{note}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let control = guard.control();
    let code = runtime.block_on(run::run(settings, parts, access, control.clone()));
    if let Err(error) = &code {
        // The caller prints it; the file keeps it.
        tracing::error!(target: log::ONLY_FILE, "{}", exit::line(error));
    }
    runtime.shutdown_timeout(LAST_CALLS);
    let lost = control.lost.total();
    if lost > 0 {
        print::note(&format!(
            "{lost} log lines were lost in all: an output was full or too slow"
        ));
    }
    code
}

/// Logs what is doubtful about the settings.
pub(super) fn warn(settings: &Settings) {
    let temporary = temporary::check(settings);
    for warning in settings.warnings.iter().chain(&temporary) {
        let hint = warning.hint.as_deref();
        tracing::warn!(target: "runner", code = warning.code.as_str(), place = %warning.place, hint, "{}", warning.message);
    }
}
