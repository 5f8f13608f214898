//! What a command or call ends with that cannot begin because something is not set up: the program, its directory, a
//! secret.
//!
//! Another host may be set up well, and a deployment may be under way, so it is tried again, but not for days.

use std::fmt::Display;

use runner_sdk::{Ctx, TaskError};

/// The attempts after which waiting for another host or the end of a deployment is hopeless: with the delays of
/// functions the third one begins about six minutes after the first.
const MOST_ATTEMPTS: u32 = 3;

/// The error of an attempt that could not begin for this reason.
pub(crate) fn misconfigured(why: impl Display, cx: &Ctx) -> TaskError {
    let text = format!("misconfigured: {why}");
    if cx.attempt() < MOST_ATTEMPTS || cx.attempt() >= cx.max_attempts() {
        return TaskError::retry(text);
    }
    TaskError::skip(format!("{text}; not tried again after {MOST_ATTEMPTS} attempts"))
}
