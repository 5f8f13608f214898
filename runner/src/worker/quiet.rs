//! Whether a worker claims new tasks: an operator may want it to finish what it has and take no more. Notifications are
//! sent nevertheless.
//!
//! Three switches, because each has its own end: a signal to the process, an order from anywhere, and the start, until
//! the orders were read once.

use std::sync::Arc;

use tokio::sync::watch;

/// What keeps a worker from claiming.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reasons {
    signal: bool,
    order: bool,
    start: bool,
}

/// The switches of one worker.
#[derive(Debug, Clone)]
pub struct Quiet(Arc<watch::Sender<Reasons>>);

impl Default for Quiet {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Reasons::default())))
    }
}

impl Quiet {
    /// Begins or ends the quiet time of a signal. Returns whether that changes anything.
    pub fn set(&self, on: bool) -> bool {
        self.change(|reasons| reasons.signal = on)
    }

    /// Begins or ends the pause of an order. Returns whether that changes anything.
    pub(super) fn set_by_order(&self, on: bool) -> bool {
        self.change(|reasons| reasons.order = on)
    }

    /// Claims nothing until the orders were read: a worker that starts on a paused host takes no task.
    pub(super) fn set_starting(&self, on: bool) -> bool {
        self.change(|reasons| reasons.start = on)
    }

    fn change(&self, change: impl FnOnce(&mut Reasons)) -> bool {
        self.0.send_if_modified(|reasons| {
            let before = *reasons;
            change(reasons);
            *reasons != before
        })
    }

    /// Whether a signal made the process quiet.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.borrow().signal
    }

    /// Whether a signal or an order paused this worker.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        let reasons = *self.0.borrow();
        reasons.signal || reasons.order
    }

    /// Whether new tasks are claimed.
    pub(super) fn allows_claims(&self) -> bool {
        *self.0.borrow() == Reasons::default()
    }

    /// Waits for changes from now on.
    pub(super) fn listen(&self) -> watch::Receiver<Reasons> {
        self.0.subscribe()
    }
}
