//! Wake-ups within this process: that something may be claimable, is due later, or was asked to stop.
//!
//! Not here: what other processes write, which is found by looking at the file (`wait`, `cancel`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, broadcast};

/// The longest time between two looks into the store: a glance at the file may overlook what was written in the same tick
/// of the file system's clock.
pub(super) const SLOWEST_LOOK: Duration = Duration::from_secs(1);

/// Wake-ups on their way to one waiter; one that is behind looks for itself.
const WAKES_WAITING: usize = 64;

/// The wake-ups.
#[derive(Debug)]
pub(super) struct Wakeups {
    /// Queues that may have become claimable.
    work: broadcast::Sender<Arc<[String]>>,
    cancel: Notify,
    delayed: Notify,
}

impl Default for Wakeups {
    fn default() -> Self {
        Self {
            work: broadcast::Sender::new(WAKES_WAITING),
            cancel: Notify::new(),
            delayed: Notify::new(),
        }
    }
}

impl Wakeups {
    /// These queues may have something to claim.
    pub(super) fn wake(&self, queues: Vec<String>) {
        if !queues.is_empty() {
            // It fails when none waits.
            self.work.send(queues.into()).map(drop).unwrap_or(());
        }
    }

    /// A task that is due later was written.
    pub(super) fn delayed(&self) {
        self.delayed.notify_waiters();
    }

    /// Waits for such a task of this process, and no longer than others may take to be seen.
    pub(super) async fn wait_for_delayed(&self, at_most: Duration) {
        // Its end by time is as good an answer.
        drop(tokio::time::timeout(at_most.min(SLOWEST_LOOK), self.delayed.notified()).await);
    }

    /// A request to stop an attempt was written.
    pub(super) fn cancelled(&self) {
        self.cancel.notify_waiters();
    }

    /// Hears of queues from now on.
    pub(super) fn listen(&self) -> broadcast::Receiver<Arc<[String]>> {
        self.work.subscribe()
    }

    /// The next request to stop; one that is written after this call is not missed once the future is enabled.
    pub(super) fn next_cancel(&self) -> Notified<'_> {
        self.cancel.notified()
    }
}
