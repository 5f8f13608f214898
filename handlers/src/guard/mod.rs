//! A small process between this one and a command. It sees to it that nothing the command started outlives the
//! attempt, this process, or the lease under which the attempt runs.
//!
//! It is this very program, started once more with an argument that only [`guard_main`] knows. It starts the command,
//! adopts whatever the command leaves behind (it is a "child subreaper"), and ends all of it when it is asked to, when
//! this process is gone (the socket between the two ends, however that came about), or when the lease was not extended
//! in time, which also happens if this process is frozen. Then it can guard the next command. What a task means is not
//! known here.

mod client;
mod family;
mod process;
mod wire;

pub(crate) use client::{GuardHandle, IdleGuards, StartError};
pub(crate) use family::{Member, lives_in_group, with_variable};
pub(crate) use wire::{GuardReport, Spec};

use std::process::ExitCode;
use std::time::Duration;

use tokio::time::Instant;

/// The first argument of a guard.
const MARK: &str = "--runner-guards-a-command";

/// Longest start of a guard that is no reason to wonder: a process, and nothing before it in `main`.
const USUAL_START: Duration = Duration::from_secs(1);

/// Tries whether this program can be started as a guard.
///
/// # Errors
///
/// Why not: then commands have to run without one.
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

/// Does the work of a guard if this process was started as one: then the exit code, with which `main` must return at
/// once. To be called first in `main`, by programs that set [`crate::ExecSettings::guard`].
#[must_use]
pub fn guard_main() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != MARK {
        return None;
    }
    Some(match process::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(2),
    })
}
