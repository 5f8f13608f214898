//! Wake-ups within this process: something may be claimable, is due later, or was asked to stop.
//!
//! Not here: writes of other processes, which are found by checking the file (`wait`, `cancel`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, broadcast};

/// The longest time between two real looks: a check of the file's time may miss what was written in the same tick of the
/// file system's clock.
pub(super) const SLOWEST_LOOK: Duration = Duration::from_secs(1);

/// Wake-ups buffered for one waiter; a slow waiter looks for itself.
const WAKES_WAITING: usize = 64;

/// Sends and receives the wake-ups.
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
    /// Announces queues that may have something to claim.
    pub(super) fn wake(&self, queues: Vec<String>) {
        if !queues.is_empty() {
            // Fails if there is no waiter.
            self.work.send(queues.into()).map(drop).unwrap_or(());
        }
    }

    /// Announces a task that is due later.
    pub(super) fn delayed(&self) {
        self.delayed.notify_waiters();
    }

    /// Waits for such a task of this process, at most as long as one of another process may take to be noticed.
    pub(super) async fn wait_for_delayed(&self, at_most: Duration) {
        // A timeout is as good an answer.
        drop(tokio::time::timeout(at_most.min(SLOWEST_LOOK), self.delayed.notified()).await);
    }

    /// Announces a request to stop an attempt.
    pub(super) fn cancelled(&self) {
        self.cancel.notify_waiters();
    }

    /// Receives the names of claimable queues from now on.
    pub(super) fn listen(&self) -> broadcast::Receiver<Arc<[String]>> {
        self.work.subscribe()
    }

    /// The next request to stop; once the future is enabled it misses no request written after this call.
    pub(super) fn next_cancel(&self) -> Notified<'_> {
        self.cancel.notified()
    }
}
