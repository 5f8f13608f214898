//! Waiting for a condition, with a deadline and a reason.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// Between two checks: short enough not to be noticed, long enough to leave the processor to the program.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Calls `look` repeatedly until it returns `Ok`, and returns its value.
///
/// # Panics
///
/// After `deadline`, with `what` and the last `Err`.
pub async fn eventually_within<T, E, F, Fut>(deadline: Duration, what: &str, mut look: F) -> T
where
    E: Display,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let end = Instant::now() + deadline;
    loop {
        let reason = match look().await {
            Ok(found) => return found,
            Err(reason) => reason,
        };
        assert!(
            Instant::now() < end,
            "not within {deadline:?}: {what}\nlast look: {reason}"
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// [`eventually_within`] 10 s, which is long for anything that should be immediate.
pub async fn eventually<T, E, F, Fut>(what: &str, look: F) -> T
where
    E: Display,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    eventually_within(Duration::from_secs(10), what, look).await
}
