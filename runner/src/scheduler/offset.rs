//! The offset between the broker's clock and this machine's, estimated from calls that return the broker's time.
//!
//! Does not judge which clock is right: the broker's counts.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Maximum number of calls per measurement.
pub(super) const READINGS: usize = 4;

/// A call at most this long is precise enough. The first one after an outage may include connecting.
const QUICK: Duration = Duration::from_millis(2);

/// One call that returned the broker's time.
#[derive(Debug, Clone, Copy)]
pub(super) struct OffsetSample {
    /// On this machine's clock, before the call.
    pub(super) asked: Timestamp,
    /// On the broker's clock.
    pub(super) theirs: Timestamp,
    /// On this machine's clock, after the call.
    pub(super) answered: Timestamp,
}

impl OffsetSample {
    /// Whether another sample would be no more precise.
    pub(super) fn is_quick(self) -> bool {
        self.answered.duration_since(self.asked) <= SignedDuration::try_from(QUICK).unwrap_or_default()
    }

    /// The minimum lead of the broker's clock: it read its time before the answer arrived, by anything up to the whole call.
    fn least(self) -> SignedDuration {
        self.theirs.duration_since(self.answered)
    }
}

/// How far the broker's clock is ahead. Never overestimated, so that nothing fires early; underestimated by the travel
/// time of the quickest answer.
pub(super) fn offset(readings: &[OffsetSample]) -> SignedDuration {
    readings.iter().map(|reading| reading.least()).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(asked: i64, read: i64, answered: i64) -> OffsetSample {
        /// The broker's clock is this far ahead, in milliseconds.
        const AHEAD: i64 = 5000;
        let at = |ms| Timestamp::from_millisecond(ms).unwrap_or_default();
        OffsetSample {
            asked: at(asked),
            theirs: at(read + AHEAD),
            answered: at(answered),
        }
    }

    #[test]
    fn the_lead_of_the_brokers_clock_is_never_overestimated() {
        let ms = SignedDuration::from_millis;
        // Connecting took 18 ms, then the answer came at once.
        let slow = reading(0, 18, 18);
        assert_eq!((offset(&[slow]), slow.is_quick()), (ms(5000), false));
        // The answer was late.
        let late = reading(100, 100, 140);
        assert_eq!(offset(&[late]), ms(4960));
        let quick = reading(200, 201, 202);
        assert_eq!((offset(&[late, quick]), quick.is_quick()), (ms(4999), true));
        assert_eq!(offset(&[]), ms(0));
    }
}
