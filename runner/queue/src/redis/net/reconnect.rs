//! A shared resource that takes connecting to make: made at the first use, made again after it broke.
//!
//! While connecting fails, each use fails at once and new attempts are spaced out with a random share, so that many
//! programs that lost the same server do not come back in the same instant.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::redis::net::dial::DialError;

/// The pause after the first failed attempt; doubled with each further failure.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The resource and the state of its attempts. One lock covers both: while one caller connects, all others wait for
/// that attempt instead of starting their own.
pub(in crate::redis) struct Reconnecting<T>(Mutex<Inner<T>>);

struct Inner<T> {
    /// With its number, which [`Reconnecting::discard`] takes.
    live: Option<(T, u64)>,
    /// Number of connections made so far.
    made: u64,
    failure: Option<Failure>,
}

struct Failure {
    error: DialError,
    pause: Duration,
    until: Instant,
}

impl<T> Default for Reconnecting<T> {
    fn default() -> Self {
        Self(Mutex::new(Inner {
            live: None,
            made: 0,
            failure: None,
        }))
    }
}

impl<T: Clone> Reconnecting<T> {
    /// The live connection and its number; calls `make` if there is none and no pause is running.
    pub(in crate::redis) async fn get<F>(&self, make: impl FnOnce() -> F) -> Result<(T, u64), DialError>
    where
        F: Future<Output = Result<T, DialError>>,
    {
        let mut inner = self.0.lock().await;
        if let Some(live) = &inner.live {
            return Ok(live.clone());
        }
        // Fail with the last error instead of waiting: callers have their own deadlines.
        if let Some(failure) = &inner.failure
            && Instant::now() < failure.until
        {
            return Err(failure.error.clone());
        }
        // The lock is held meanwhile. If this caller stops waiting, the attempt ends without a result: neither a
        // connection nor a failure is stored, and the next caller in the queue of the lock makes its own.
        match make().await {
            Ok(made) => {
                inner.made += 1;
                inner.failure = None;
                let live = (made, inner.made);
                inner.live = Some(live.clone());
                Ok(live)
            }
            Err(error) => {
                // The previous failure is still stored, because its pause has only just ended: double it.
                let pause = inner
                    .failure
                    .as_ref()
                    .map_or(FIRST_PAUSE, |f| (f.pause * 2).min(LONGEST_PAUSE));
                inner.failure = Some(Failure {
                    error: error.clone(),
                    pause,
                    until: Instant::now() + spread(pause, uuid::Uuid::new_v4().as_u64_pair().0),
                });
                Err(error)
            }
        }
    }

    /// Discards the connection with this number. Does nothing if it was replaced meanwhile: of many callers that saw
    /// the same connection break, a late one must not discard its successor.
    pub(in crate::redis) async fn discard(&self, number: u64) {
        let mut inner = self.0.lock().await;
        if inner.live.as_ref().is_some_and(|(_, live)| *live == number) {
            inner.live = None;
        }
    }
}

/// A pause between half of `pause` and all of it, chosen by `chance`.
fn spread(pause: Duration, chance: u64) -> Duration {
    let half = pause / 2;
    let steps = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
    half + Duration::from_micros(chance % steps)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pauses_are_spread_over_their_second_half() {
        for pause in [FIRST_PAUSE, LONGEST_PAUSE] {
            let all: Vec<Duration> = (0..1000_u64)
                .map(|n| spread(pause, n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
                .collect();
            assert!(all.iter().all(|one| (pause / 2..=pause).contains(one)));
            let (first, last) = (all.iter().min().unwrap(), all.iter().max().unwrap());
            assert!(*last - *first > pause / 3, "{first:?} to {last:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_are_spaced_out_up_to_the_longest_pause() {
        let connection = Reconnecting::<u8>::default();
        let mut tried = 0_u32;
        for _ in 0..60_000 {
            let make = || {
                tried += 1;
                std::future::ready(Err(DialError::Unreachable("gone".to_owned())))
            };
            assert!(connection.get(make).await.is_err());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        // A minute: seven doublings to 5 s within 10 s at most, then one each 2.5 to 5 s.
        assert!((15..=32).contains(&tried), "{tried}");
        tokio::time::advance(LONGEST_PAUSE).await;
        let made = connection.get(|| std::future::ready(Ok(7))).await;
        assert_eq!(made.unwrap_or_default(), (7, 1));
    }
}
