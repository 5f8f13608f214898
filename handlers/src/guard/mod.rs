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

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use runner_core::chain::chain;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::exhausted;

/// The first argument of a guard.
const MARK: &str = "--runner-guards-a-command";

/// A guard that starts slower than this is worth a warning: it is one process, with nothing before it in `main`.
const USUAL_START: Duration = Duration::from_secs(1);

/// What follows where this program cannot be its own guard, and what helps.
const UNGUARDED: &str = "commands run without a guard: they may outlive this process if it is killed, and exec.limits, exec.umask, \
    exec.user and handlers.exec.no_new_privs are not applied. A program of your own has one if a plain `fn main` begins with \
    `guard_main`, before it makes a runtime (docs/rust.md, \"Guards of commands\")";

/// Whether this program can be started as a guard; if not, commands must run without one, and a warning says so. Tried once in
/// the life of the process, when it is first asked: a program that runs no commands starts nothing.
pub async fn can_guard() -> bool {
    static TRIED: OnceCell<bool> = OnceCell::const_new();
    let tried = TRIED.get_or_try_init(async || {
        let tried = try_guard().await;
        if let Err(error) = &tried {
            // The next one may start; until then a command that has none is put off.
            if exhausted::cause(error).is_some() {
                return Err(());
            }
            tracing::warn!(error = chain(error), "{UNGUARDED}");
        }
        Ok(tried.is_ok())
    });
    tried.await.copied().unwrap_or(true)
}

/// The error says why it cannot.
async fn try_guard() -> Result<(), StartError> {
    let began = Instant::now();
    let nothing = Spec {
        program: "/proc/self/no-such-program".into(),
        cwd: "/".into(),
        ..Spec::default()
    };
    match GuardHandle::start(nothing, None, &IdleGuards::default()).await {
        Err(StartError::Command(_)) => (),
        Err(error @ StartError::Guard(_)) => return Err(error),
        Ok(_) => return Err(StartError::Guard(io::Error::other("it started what is not there"))),
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
