//! Something that takes connecting to make: made at the first use, shared by all, made anew when it broke.
//!
//! While it cannot be made each use fails at once, and new attempts are spaced out.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::dial::DialError;

/// The pause after the first failed attempt; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// See the head of this file.
pub(super) struct Kept<T>(Mutex<Inner<T>>);

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

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::new(Inner {
            live: None,
            made: 0,
            failure: None,
        }))
    }
}

impl<T: Clone> Kept<T> {
    /// What is there, or what `make` gives, and its number.
    pub(super) async fn get<F>(&self, make: impl FnOnce() -> F) -> Result<(T, u64), DialError>
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
                    until: Instant::now() + pause,
                });
                Err(error)
            }
        }
    }

    /// Throws what has this number away, unless somebody did already.
    pub(super) async fn discard(&self, number: u64) {
        let mut inner = self.0.lock().await;
        if inner.live.as_ref().is_some_and(|(_, live)| *live == number) {
            inner.live = None;
        }
    }
}
