//! Something that takes connecting to make: made at the first use, shared by all, made anew when it broke.
//!
//! While it cannot be made each use fails at once, and new attempts are spaced out, by chance too: many programs that
//! lost the same server do not come back at the same instant.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::redis::net::dial::DialError;

/// The pause after the first failed attempt; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// See the head of this file.
pub(in crate::redis) struct Reconnecting<T>(Mutex<Inner<T>>);

struct Inner<T> {
    /// With its number, by which it is thrown away.
    live: Option<(T, u64)>,
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
    /// What is there, or what `make` gives, and its number.
    pub(in crate::redis) async fn get<F>(&self, make: impl FnOnce() -> F) -> Result<(T, u64), DialError>
    where
        F: Future<Output = Result<T, DialError>>,
    {
        let mut inner = self.0.lock().await;
        if let Some(live) = &inner.live {
            return Ok(live.clone());
        }
        if let Some(failure) = &inner.failure
            && Instant::now() < failure.until
        {
            return Err(failure.error.clone());
        }
        match make().await {
            Ok(made) => {
                inner.made += 1;
                inner.failure = None;
                let live = (made, inner.made);
                inner.live = Some(live.clone());
                Ok(live)
            }
            Err(error) => {
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

    /// Throws what has this number away, unless somebody did already.
    pub(in crate::redis) async fn discard(&self, number: u64) {
        let mut inner = self.0.lock().await;
        if inner.live.as_ref().is_some_and(|(_, live)| *live == number) {
            inner.live = None;
        }
    }
}

/// Between half of the pause and all of it, by `chance`.
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
        let kept = Reconnecting::<u8>::default();
        let mut tried = 0_u32;
        for _ in 0..60_000 {
            let make = || {
                tried += 1;
                std::future::ready(Err(DialError::Unreachable("gone".to_owned())))
            };
            assert!(kept.get(make).await.is_err());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        // A minute: seven doublings to 5 s within 10 s at most, then one each 2.5 to 5 s.
        assert!((15..=32).contains(&tried), "{tried}");
        tokio::time::advance(LONGEST_PAUSE).await;
        let made = kept.get(|| std::future::ready(Ok(7))).await;
        assert_eq!(made.unwrap_or_default(), (7, 1));
    }
}
