//! How many calls to one channel are under way at once: a receiver that does not answer must leave slots for the other channels.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

/// Calls at once.
const AT_ONCE: usize = 4;

/// Those that wait for them.
const WAITING: usize = 4;

/// How long one waits for the calls before it, as long as these end.
const PATIENCE: Duration = Duration::from_secs(2);

/// After this long without an end of a call the receiver does not answer: then nothing waits.
const SILENT: Duration = Duration::from_secs(3);

/// Why there is no turn now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoTurn {
    /// Others are before it.
    Busy,
    /// The receiver does not answer.
    Silent,
}

/// The calls to one channel.
pub(super) struct ChannelLine {
    calls: Semaphore,
    waiting: Semaphore,
    /// When one ended last, or began while there was no other.
    moved: Mutex<Instant>,
}

/// The right to make a call; given back when it is dropped.
pub(super) struct CallPermit<'a> {
    line: &'a ChannelLine,
    /// Held for its drop.
    _permit: SemaphorePermit<'a>,
}

impl Drop for CallPermit<'_> {
    fn drop(&mut self) {
        self.line.has_moved();
    }
}

impl Default for ChannelLine {
    fn default() -> Self {
        Self {
            calls: Semaphore::new(AT_ONCE),
            waiting: Semaphore::new(WAITING),
            moved: Mutex::new(Instant::now()),
        }
    }
}

impl ChannelLine {
    fn has_moved(&self) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Waits a little for its turn.
    pub(super) async fn enter(&self) -> Result<CallPermit<'_>, NoTurn> {
        if self.calls.available_permits() == AT_ONCE {
            self.has_moved();
        }
        let moved = *self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        let permit = match self.calls.try_acquire() {
            Ok(permit) => permit,
            Err(_) if moved.elapsed() > SILENT => return Err(NoTurn::Silent),
            Err(_) => {
                let _waits = self.waiting.try_acquire().map_err(|_| NoTurn::Busy)?;
                match timeout(PATIENCE, self.calls.acquire()).await {
                    Ok(Ok(permit)) => permit,
                    _ => return Err(NoTurn::Busy),
                }
            }
        };
        Ok(CallPermit {
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
        tokio::time::advance(SILENT * 2).await;
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            held.extend(line.enter().await);
        }
        assert_eq!(held.len(), AT_ONCE);
        let began = Instant::now();
        assert_eq!(line.enter().await.err(), Some(NoTurn::Busy));
        assert_eq!(began.elapsed(), PATIENCE);
        tokio::time::advance(SILENT).await;
        let began = Instant::now();
        assert_eq!(line.enter().await.err(), Some(NoTurn::Silent));
        assert_eq!(began.elapsed(), Duration::ZERO);
        held.pop();
        assert!(line.enter().await.is_ok());
    }
}
