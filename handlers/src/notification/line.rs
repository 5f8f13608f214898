//! How many calls to one channel are under way at once: a receiver that does not answer must leave slots for the other channels.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

/// Calls at once.
const AT_ONCE: usize = 4;

/// How long one waits for the calls before it, as long as these end.
const PATIENCE: Duration = Duration::from_millis(500);

/// After this long without an end of a call the receiver does not answer: then nothing waits.
const SILENT: Duration = Duration::from_secs(1);

/// The calls to one channel.
pub(super) struct ChannelLine {
    calls: Semaphore,
    /// When one ended last.
    ended: Mutex<Instant>,
}

/// The right to make a call; given back when it is dropped.
pub(super) struct CallPermit<'a> {
    line: &'a ChannelLine,
    /// Held for its drop.
    _permit: SemaphorePermit<'a>,
}

impl Drop for CallPermit<'_> {
    fn drop(&mut self) {
        *self.line.ended.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl Default for ChannelLine {
    fn default() -> Self {
        Self {
            calls: Semaphore::new(AT_ONCE),
            ended: Mutex::new(Instant::now()),
        }
    }
}

impl ChannelLine {
    /// Waits a little for its turn; `None`: there is none now.
    pub(super) async fn enter(&self) -> Option<CallPermit<'_>> {
        let ended = *self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let permit = match self.calls.try_acquire() {
            Ok(permit) => permit,
            Err(_) if ended.elapsed() > SILENT => return None,
            Err(_) => timeout(PATIENCE, self.calls.acquire()).await.ok()?.ok()?,
        };
        Some(CallPermit {
            line: self,
            _permit: permit,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_comes_waits_for_calls_that_end_and_not_for_a_silent_receiver() {
        let line = ChannelLine::default();
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            held.extend(line.enter().await);
        }
        assert_eq!(held.len(), AT_ONCE);
        let began = Instant::now();
        assert!(line.enter().await.is_none());
        assert_eq!(began.elapsed(), PATIENCE);
        tokio::time::advance(SILENT).await;
        let began = Instant::now();
        assert!(line.enter().await.is_none());
        assert_eq!(began.elapsed(), Duration::ZERO);
        held.pop();
        assert!(line.enter().await.is_some());
    }
}
