//! How a running handler learns that it is to stop, and why. Who decides that is the worker's affair.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Why a running task is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// Someone cancelled this attempt; the task is tried again if retries are left.
    Cancelled,
    /// Someone ended this task for good.
    Ended,
    /// Its time limit or its deadline is over.
    Deadline,
    /// The process is shutting down; the task goes back to its queue.
    Shutdown,
    /// The broker gave the task to another worker; nothing done from now on counts.
    LeaseLost,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cancelled => "cancelled",
            Self::Ended => "ended",
            Self::Deadline => "timeout",
            Self::Shutdown => "shutdown",
            Self::LeaseLost => "lease lost",
        })
    }
}

/// How long a running task may go on if nothing more is heard of its lease: for what runs it in another process, which
/// must end by itself when this one is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseLimits {
    /// When it must be asked to end.
    pub ask: Instant,
    /// When it must be gone.
    pub kill: Instant,
}

/// The switch of one running task. Clones share it; it can be thrown once, and after that the lease can still be lost.
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
    /// Made by the first who listens: most tasks end before anybody does.
    told: Option<watch::Sender<Option<LeaseLimits>>>,
}

/// Something that happens at most once.
#[derive(Debug, Default)]
struct Signal {
    given: AtomicBool,
    /// Made by the first who waits: most tasks end before anybody does.
    token: OnceLock<CancellationToken>,
}

impl Signal {
    fn give(&self) {
        self.given.store(true, Ordering::Release);
        // Either this sees the token, or whoever makes it sees that the signal was given.
        fence(Ordering::SeqCst);
        if let Some(token) = self.token.get() {
            token.cancel();
        }
    }

    fn is_given(&self) -> bool {
        self.given.load(Ordering::Acquire)
    }

    fn listen(&self) -> &CancellationToken {
        let token = self.token.get_or_init(CancellationToken::new);
        fence(Ordering::SeqCst);
        if self.is_given() {
            token.cancel();
        }
        token
    }
}

impl Stop {
    /// A switch that is not thrown.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Throws the switch. The first reason stays; later ones are ignored, except that a lost lease is remembered
    /// beside it: it shortens the time that is left.
    pub fn stop(&self, reason: StopReason) {
        self.0.reason.get_or_init(|| reason);
        self.0.thrown.give();
        if reason == StopReason::LeaseLost {
            self.0.lease_lost.give();
        }
    }

    /// Says how long the task may go on unless this is said again.
    pub fn hold(&self, hold: LeaseLimits) {
        let mut holding = self.0.hold.lock().unwrap_or_else(PoisonError::into_inner);
        holding.last = Some(hold);
        if let Some(told) = &holding.told {
            told.send_replace(Some(hold));
        }
    }

    /// How long the task may go on, kept up to date; nothing if nobody ever said so.
    #[must_use]
    pub fn held(&self) -> watch::Receiver<Option<LeaseLimits>> {
        let mut holding = self.0.hold.lock().unwrap_or_else(PoisonError::into_inner);
        let last = holding.last;
        holding.told.get_or_insert_with(|| watch::Sender::new(last)).subscribe()
    }

    /// Throws the switch because someone ended the task for good, and says who, and why. That is remembered beside
    /// any reason that was there before.
    pub fn end(&self, words: String) {
        self.0.ended.get_or_init(|| words);
        self.stop(StopReason::Ended);
    }

    /// Who ended the task for good, and why, if someone did.
    #[must_use]
    pub fn ended(&self) -> Option<&str> {
        self.0.ended.get().map(String::as_str)
    }

    /// The reason, once thrown.
    #[must_use]
    pub fn reason(&self) -> Option<StopReason> {
        self.0.reason.get().copied()
    }

    /// Whether the switch was thrown.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.reason().is_some()
    }

    /// A token that falls with this switch, for libraries that take one. Cancelling it stops nothing else.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.0.thrown.listen().child_token()
    }

    /// Whether the lease is lost, whatever the reason of the stop was.
    #[must_use]
    pub fn is_lease_lost(&self) -> bool {
        self.0.lease_lost.is_given()
    }

    /// Waits until the lease is lost, whatever the reason of the stop was.
    pub fn lease_lost(&self) -> impl Future<Output = ()> + Send + 'static {
        let this = self.clone();
        async move { this.0.lease_lost.listen().cancelled().await }
    }

    /// Waits until the switch is thrown.
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
    async fn a_lost_lease_is_told_also_after_another_reason() {
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
    async fn whoever_listens_hears_how_long_it_may_go_on() {
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
