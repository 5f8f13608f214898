//! The addresses of hooks, and how many of their calls are held at once.
//!
//! Not here: reading and answering them (`hooks`).

use tokio::sync::Semaphore;

use super::connections::{HOOKS, LARGE_BODIES, WAITING};

/// Bytes of a body that any call may hold. All connections together: 8 MiB.
pub const SMALL_BODY: usize = 16 * 1024;

/// What bounds the calls of hooks.
#[derive(Debug)]
pub struct HookLimits {
    /// Calls that are being enqueued.
    pub active: Semaphore,
    /// Bodies longer than [`SMALL_BODY`].
    pub large_bodies: Semaphore,
    /// Calls that wait for a result; further ones are answered at once, as if there were no wait.
    pub waiting: Semaphore,
}

impl Default for HookLimits {
    fn default() -> Self {
        Self {
            active: Semaphore::new(HOOKS),
            large_bodies: Semaphore::new(LARGE_BODIES),
            waiting: Semaphore::new(WAITING),
        }
    }
}

/// Whether a path is that of hooks.
pub fn is_hook(path: &str) -> bool {
    path.starts_with("/hooks/")
}
