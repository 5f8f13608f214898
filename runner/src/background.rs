//! The one background loop: take a turn periodically, or sooner when woken, until stopped.
//!
//! Knows neither tasks nor schedules. A turn takes no input: it looks at the whole state and repairs what it finds, so
//! a missed wake-up costs time and never correctness.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// One kind of background work.
#[async_trait]
pub trait BackgroundLoop: Send {
    /// The name in log lines.
    fn name(&self) -> &'static str;

    /// The longest time between two turns.
    fn every(&self) -> Duration;

    /// Takes one turn. Returns when to take the next at the latest, if sooner than [`BackgroundLoop::every`].
    async fn turn(&mut self) -> Option<Duration>;
}

#[async_trait]
impl BackgroundLoop for Box<dyn BackgroundLoop> {
    fn name(&self) -> &'static str {
        self.as_ref().name()
    }

    fn every(&self) -> Duration {
        self.as_ref().every()
    }

    async fn turn(&mut self) -> Option<Duration> {
        self.as_mut().turn().await
    }
}

/// Takes turns until stopped, the first one immediately. A stop lets the current turn finish; a panic ends only its own
/// turn.
pub async fn run(mut role: impl BackgroundLoop, wake: &Notify, stop: &CancellationToken) {
    let mut tick = interval(role.every());
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sooner = None;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = wake.notified() => (),
            _ = tick.tick() => (),
            () = after(sooner) => (),
        }
        // The next turn looks at the whole state again, so the interrupted work is not lost.
        sooner = match AssertUnwindSafe(role.turn()).catch_unwind().await {
            Ok(sooner) => sooner,
            Err(panic) => {
                let (role, panic) = (role.name(), panic_text(panic.as_ref()));
                tracing::error!(role, panic, "a turn panicked; the next one follows as usual");
                None
            }
        };
    }
    tracing::debug!(role = role.name(), "stopped");
}

/// The message of a panic.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "of unknown kind".to_owned())
}

#[allow(clippy::disallowed_methods)] // the only place that may create ticks
async fn after(delay: Option<Duration>) {
    match delay {
        Some(delay) => tokio::time::sleep(delay).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use std::sync::Arc;
    use tokio::sync::mpsc;

    struct Reporting(mpsc::Sender<()>);

    #[async_trait]
    impl BackgroundLoop for Reporting {
        fn name(&self) -> &'static str {
            "telling"
        }
        fn every(&self) -> Duration {
            Duration::from_secs(10)
        }
        async fn turn(&mut self) -> Option<Duration> {
            self.0.send(()).await.unwrap();
            None
        }
    }

    #[tokio::test(start_paused = true)]
    async fn turns_come_at_once_by_time_and_by_wake() {
        let (turned, mut turns) = mpsc::channel(1);
        let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let running = tokio::spawn({
            let (wake, stop) = (wake.clone(), stop.clone());
            async move { run(Reporting(turned), &wake, &stop).await }
        });
        let start = tokio::time::Instant::now();
        turns.recv().await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO, "the first turn comes at once");
        turns.recv().await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 10, "the second one by time");
        wake.notify_one();
        turns.recv().await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 10, "the third one by the wake");
        stop.cancel();
        running.await.unwrap();
    }

    struct Stumbling(u32, CancellationToken);

    #[async_trait]
    impl BackgroundLoop for Stumbling {
        fn name(&self) -> &'static str {
            "stumbling"
        }
        fn every(&self) -> Duration {
            Duration::from_secs(1)
        }
        async fn turn(&mut self) -> Option<Duration> {
            self.0 += 1;
            assert!(self.0 > 2, "not yet");
            self.1.cancel();
            None
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_panics_is_followed_by_the_next() {
        let stop = CancellationToken::new();
        run(Stumbling(0, stop.clone()), &Notify::new(), &stop).await;
        assert!(stop.is_cancelled());
    }
}
