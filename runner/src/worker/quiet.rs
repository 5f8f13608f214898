//! A switch for a quiet time: running tasks continue, no new ones are claimed. Signals and pages set it.

use std::sync::Arc;

use tokio::sync::watch;

/// The switch. Clones share it.
#[derive(Debug, Clone)]
pub struct Quiet(Arc<watch::Sender<bool>>);

impl Default for Quiet {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Quiet {
    /// Begins or ends the quiet time. Returns whether that changes anything.
    pub fn set(&self, on: bool) -> bool {
        self.0.send_if_modified(|was| std::mem::replace(was, on) != on)
    }

    /// Whether it is quiet.
    #[must_use]
    pub fn is_on(&self) -> bool {
        *self.0.borrow()
    }

    /// A receiver of changes from now on.
    #[must_use]
    pub fn listen(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }
}
