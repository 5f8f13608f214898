//! How a running handler learns that it must stop, and why. Not here: when it must (the worker).

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Why a running task must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// This attempt was cancelled; the task is retried if retries are left.
    Cancelled,
    /// The task was ended for good.
    Ended,
    /// Its time limit or its deadline is over.
    Deadline,
    /// It gave no sign of life for as long as its handler allows.
    Stalled,
    /// The process is shutting down; the task goes back to its queue.
    Shutdown,
    /// The broker gave the task to another worker; the work of this attempt no longer counts.
    LeaseLost,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cancelled => "cancelled",
            Self::Ended => "ended",
            Self::Deadline => "timeout",
            Self::Stalled => "stalled",
            Self::Shutdown => "shutdown",
            Self::LeaseLost => "lease lost",
        })
    }
}

/// How long a running task may continue unless its lease is extended: for work in another process, which must end by itself
/// if this one is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseLimits {
    /// When it must be asked to end.
    pub ask: Instant,
    /// When it must be gone.
    pub kill: Instant,
}

/// The stop switch of one running task. Clones share it; it can be triggered once, and after that the lease can still be
/// lost.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    reason: OnceLock<StopReason>,
    /// Who ended the task for good, and why.
    ended: OnceLock<String>,
    thrown: Signal,
    lease_lost: Signal,
    hold: Mutex<Holding>,
}

#[derive(Debug, Default)]
struct Holding {
    last: Option<LeaseLimits>,
    /// Created by the first listener: most tasks end without one.
    updates: Option<watch::Sender<Option<LeaseLimits>>>,
}

/// Something that happens at most once.
#[derive(Debug, Default)]
struct Signal {
    triggered: AtomicBool,
    /// Created by the first waiter: most tasks end without one.
    token: OnceLock<CancellationToken>,
}

impl Signal {
    fn trigger(&self) {
        self.triggered.store(true, Ordering::Release);
        // The fences order flag and token: either this sees the token, or its creator sees the flag.
        fence(Ordering::SeqCst);
        if let Some(token) = self.token.get() {
            token.cancel();
        }
    }

    fn is_triggered(&self) -> bool {
        self.triggered.load(Ordering::Acquire)
    }

    fn listen(&self) -> &CancellationToken {
        let token = self.token.get_or_init(CancellationToken::new);
        fence(Ordering::SeqCst);
        if self.is_triggered() {
            token.cancel();
        }
        token
    }
}

impl Stop {
    /// A switch that has not been triggered.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Triggers the switch. The first reason stays; later ones are ignored, except that a lost lease is recorded in addition: it
    /// shortens the remaining time.
    pub fn stop(&self, reason: StopReason) {
        self.0.reason.get_or_init(|| reason);
        self.0.thrown.trigger();
        if reason == StopReason::LeaseLost {
            self.0.lease_lost.trigger();
        }
    }

    /// Sets how long the task may continue unless this is called again.
    pub fn hold(&self, hold: LeaseLimits) {
        let mut holding = self.0.hold.lock().unwrap_or_else(PoisonError::into_inner);
        holding.last = Some(hold);
        if let Some(updates) = &holding.updates {
            updates.send_replace(Some(hold));
        }
    }

    /// How long the task may continue, kept up to date; `None` until it is set.
    #[must_use]
    pub fn held(&self) -> watch::Receiver<Option<LeaseLimits>> {
        let mut holding = self.0.hold.lock().unwrap_or_else(PoisonError::into_inner);
        let last = holding.last;
        holding
            .updates
            .get_or_insert_with(|| watch::Sender::new(last))
            .subscribe()
    }

    /// Triggers the switch because the task was ended for good. `words` names who and why, and is recorded in addition to any
    /// earlier reason.
    pub fn end(&self, words: String) {
        self.0.ended.get_or_init(|| words);
        self.stop(StopReason::Ended);
    }

    /// Who ended the task for good, and why; `None` if no one did.
    #[must_use]
    pub fn ended(&self) -> Option<&str> {
        self.0.ended.get().map(String::as_str)
    }

    /// The reason, once triggered.
    #[must_use]
    pub fn reason(&self) -> Option<StopReason> {
        self.0.reason.get().copied()
    }

    /// Whether the switch was triggered.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.reason().is_some()
    }

    /// A token that is cancelled with this switch, for libraries that take one. Cancelling it does not trigger the switch.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.0.thrown.listen().child_token()
    }

    /// Whether the lease is lost, whatever the reason of the stop was.
    #[must_use]
    pub fn is_lease_lost(&self) -> bool {
        self.0.lease_lost.is_triggered()
    }

    /// Waits until the lease is lost, whatever the reason of the stop was.
    pub fn lease_lost(&self) -> impl Future<Output = ()> + Send + 'static {
        let this = self.clone();
        async move { this.0.lease_lost.listen().cancelled().await }
    }

    /// Waits until the switch is triggered.
    pub fn stopped(&self) -> impl Future<Output = StopReason> + Send + 'static {
        let this = self.clone();
        async move {
            this.0.thrown.listen().cancelled().await;
            this.reason().unwrap_or(StopReason::Cancelled)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn the_first_reason_stays() {
        let stop = Stop::new();
        let seen = stop.clone();
        assert!(!seen.is_stopped() && seen.reason().is_none());
        stop.stop(StopReason::Deadline);
        stop.stop(StopReason::Shutdown);
        assert_eq!(seen.stopped().await, StopReason::Deadline);
        assert!(seen.token().is_cancelled() && !seen.is_lease_lost());
    }

    #[tokio::test]
    async fn a_lost_lease_is_reported_even_after_another_reason() {
        let stop = Stop::new();
        stop.stop(StopReason::Deadline);
        let waiting = tokio::spawn(stop.lease_lost());
        stop.stop(StopReason::LeaseLost);
        waiting.await.unwrap();
        assert_eq!(
            (stop.reason(), stop.is_lease_lost()),
            (Some(StopReason::Deadline), true)
        );
    }

    #[test]
    fn an_end_for_good_is_remembered_beside_an_earlier_reason() {
        let stop = Stop::new();
        stop.stop(StopReason::Cancelled);
        stop.end("by a".to_owned());
        stop.end("by b".to_owned());
        assert_eq!(
            (stop.reason(), stop.ended()),
            (Some(StopReason::Cancelled), Some("by a"))
        );
        let stop = Stop::new();
        stop.end("by a".to_owned());
        assert_eq!(stop.reason(), Some(StopReason::Ended));
    }

    #[test]
    fn a_child_token_stops_nothing_else() {
        let stop = Stop::new();
        stop.token().cancel();
        assert!(!stop.is_stopped());
    }

    #[tokio::test]
    async fn listeners_learn_how_long_the_task_may_continue() {
        #[allow(clippy::disallowed_methods)] // two instants that differ
        let now = Instant::now();
        let hold = |seconds| LeaseLimits {
            ask: now + std::time::Duration::from_secs(seconds),
            kill: now + std::time::Duration::from_secs(seconds + 1),
        };
        let stop = Stop::new();
        assert_eq!(*stop.held().borrow(), None);
        stop.hold(hold(1));
        let mut held = stop.held();
        assert_eq!(*held.borrow_and_update(), Some(hold(1)));
        stop.hold(hold(2));
        held.changed().await.unwrap();
        assert_eq!(*held.borrow(), Some(hold(2)));
    }
}
