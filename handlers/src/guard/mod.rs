//! A small process between this one and a command. It ensures that nothing the command started outlives the attempt, this
//! process, or the lease of the attempt.
//!
//! It is this program, started again with an argument that only [`guard_main`] knows. It starts the command, adopts
//! whatever the command leaves behind (as a "child subreaper"), and ends all of it when ordered to, when this process is
//! gone (the socket between the two closes, for whatever reason), or when the lease was not extended in time, which also
//! happens if this process is frozen. Then it can guard the next command. Knows nothing of tasks.

mod client;
mod confine;
mod family;
mod launch;
mod process;
mod wire;

pub(crate) use client::{GuardHandle, IdleGuards, StartError};
pub(crate) use confine::{Confinement, Limit, UserIds, may_change_user};
pub(crate) use family::{Member, lives_in_group, with_variable};
pub(crate) use wire::{GuardReport, Spec};

use std::process::ExitCode;
use std::time::Duration;

use tokio::time::Instant;

/// The first argument of a guard.
const MARK: &str = "--runner-guards-a-command";

/// A guard that starts slower than this is worth a warning: it is one process, with nothing before it in `main`.
const USUAL_START: Duration = Duration::from_secs(1);

/// Checks whether this program can be started as a guard.
///
/// # Errors
///
/// Why not; commands must run without one then.
pub async fn try_guard() -> Result<(), String> {
    let began = Instant::now();
    let nothing = Spec {
        program: "/proc/self/no-such-program".into(),
        cwd: "/".into(),
        ..Spec::default()
    };
    match GuardHandle::start(nothing, None, &IdleGuards::default()).await {
        Err(StartError::Command(_)) => (),
        Err(StartError::Guard(error)) => return Err(format!("{}: {error}", StartError::WHAT)),
        Ok(_) => return Err("it started what is not there".to_owned()),
    }
    if began.elapsed() > USUAL_START {
        tracing::warn!(took = ?began.elapsed(), "starting this program as a guard of a command takes long; what does `main` do before it?");
    }
    Ok(())
}

/// Whether this process was started as a guard, or by one to become a command.
#[must_use]
pub fn is_guard() -> bool {
    std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == MARK || argument == launch::MARK)
}

/// Runs the guard if this process was started as one, and returns the exit code, with which `main` must return at once. To be
/// called first in `main`, by programs that set [`crate::ExecSettings::guard`].
#[must_use]
pub fn guard_main() -> Option<ExitCode> {
    let mark = std::env::args_os().nth(1)?;
    if mark == launch::MARK {
        launch::run();
        return Some(ExitCode::from(2));
    }
    (mark == MARK).then(|| match process::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(2),
    })
}
