//! Since when this worker is listed without a gap, and whether that is long enough to take back tasks of other workers.
//!
//! In a store on one host a worker that is alone keeps its tasks while nothing can be written, however long that takes.
//! Another one that starts meanwhile, or wakes, must be seen by it before it takes anything back.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The first and the last heartbeat that the store accepted since the last gap.
#[derive(Default)]
pub(super) struct Listed(Mutex<Option<(Instant, Instant)>>);

impl Listed {
    fn lock(&self) -> MutexGuard<'_, Option<(Instant, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store accepted a heartbeat. `remembered`: for how long it lists this worker after each.
    pub(super) fn heard(&self, remembered: Duration) {
        let mut listed = self.lock();
        let now = Instant::now();
        let first = listed.filter(|(_, last)| last.elapsed() < remembered);
        *listed = Some((first.map_or(now, |(first, _)| first), now));
    }

    /// For tests: as if it had been listed for this time.
    #[cfg(test)]
    pub(super) fn was_listed_for(&self, time: Duration) {
        let now = Instant::now();
        *self.lock() = Some((now.checked_sub(time).unwrap_or(now), now));
    }

    /// Whether this worker is listed now, and was for all of this time.
    pub(super) fn for_long(&self, time: Duration, remembered: Duration) -> bool {
        self.lock()
            .is_some_and(|(first, last)| last.elapsed() < remembered && first.elapsed() >= time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_gap_restarts_the_time() {
        let (listed, remembered, wanted) = (Listed::default(), Duration::from_secs(10), Duration::from_secs(11));
        assert!(!listed.for_long(Duration::ZERO, remembered));
        for _ in 0..3 {
            listed.heard(remembered);
            assert!(!listed.for_long(wanted, remembered));
            tokio::time::advance(Duration::from_secs(5)).await;
        }
        assert!(listed.for_long(wanted, remembered));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(!listed.for_long(wanted, remembered), "it is listed no longer");
        listed.heard(remembered);
        assert!(!listed.for_long(wanted, remembered), "others have to see it first");
        assert!(listed.for_long(Duration::ZERO, remembered));
    }
}
