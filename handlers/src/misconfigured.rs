//! The error of a command or call that cannot start because something is missing: the program, its directory, a secret.
//!
//! Another host may be set up correctly, or a deployment may be in progress, so it is retried, but not for days.

use std::fmt::Display;

use runner_sdk::{Ctx, TaskError};

/// Attempts after which waiting for another host or a deployment is hopeless: with the delays of functions the third one
/// starts about six minutes after the first.
const MOST_ATTEMPTS: u32 = 3;

/// The error of an attempt that could not start for this reason.
pub(crate) fn misconfigured(why: impl Display, cx: &Ctx) -> TaskError {
    let text = format!("misconfigured: {why}");
    if cx.attempt() < MOST_ATTEMPTS || cx.attempt() >= cx.max_attempts() {
        return TaskError::retry(text);
    }
    TaskError::skip(format!("{text}; not tried again after {MOST_ATTEMPTS} attempts"))
}
