//! Which limits this worker's claims keep: those of functions, of the settings and of code, as they are now.
//!
//! Not here: what a limit does, which the broker decides when it claims.

use std::sync::{Mutex, PoisonError};

use runner_core::function::Functions;
use runner_core::limit::Limits;

/// What the broker was given last.
#[derive(Default)]
pub(super) struct ClaimedLimits(Mutex<Limits>);

impl ClaimedLimits {
    /// The limits to keep from now on; `None` if they have not changed since the last time. `stated`: those of settings and code,
    /// which come before those of functions.
    pub(super) fn look(&self, functions: &Functions, stated: &[&Limits]) -> Option<Limits> {
        let mut now = Limits::default();
        for limits in stated {
            now.add_all(limits);
        }
        now.add_all(&functions.limits());
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now == *last {
            return None;
        }
        last.clone_from(&now);
        Some(now)
    }
}
