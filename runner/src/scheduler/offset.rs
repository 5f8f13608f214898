//! How the broker's clock stands to this machine's, from calls that ask for it.
//!
//! Says nothing about who is right: the broker's clock counts.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Calls for one measurement, at most.
pub(super) const READINGS: usize = 4;

/// A call that takes no longer says enough. The first one after an outage may take as long as a connection.
const QUICK: Duration = Duration::from_millis(2);

/// One call that asked the broker for its time.
#[derive(Debug, Clone, Copy)]
pub(super) struct OffsetSample {
    /// On this machine's clock.
    pub(super) asked: Timestamp,
    /// On the broker's clock.
    pub(super) theirs: Timestamp,
    /// On this machine's clock.
    pub(super) answered: Timestamp,
}

impl OffsetSample {
    /// Whether another one would say no more.
    pub(super) fn is_quick(self) -> bool {
        self.answered.duration_since(self.asked) <= SignedDuration::try_from(QUICK).unwrap_or_default()
    }

    /// The least that the broker's clock is ahead of this machine's: it had said its time when the answer came, and the
    /// answer may have been on its way for anything up to the whole call.
    fn least(self) -> SignedDuration {
        self.theirs.duration_since(self.answered)
    }
}

/// How far the broker's clock is ahead. Never more than it is, so that nothing fires early; less by the way of the
/// quickest answer.
pub(super) fn offset(readings: &[OffsetSample]) -> SignedDuration {
    readings.iter().map(|reading| reading.least()).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(asked: i64, told: i64, answered: i64) -> OffsetSample {
        /// The broker's clock is so far ahead, in milliseconds.
        const AHEAD: i64 = 5000;
        let at = |ms| Timestamp::from_millisecond(ms).unwrap_or_default();
        OffsetSample {
            asked: at(asked),
            theirs: at(told + AHEAD),
            answered: at(answered),
        }
    }

    #[test]
    fn the_brokers_clock_is_never_thought_to_be_ahead_of_where_it_is() {
        let ms = SignedDuration::from_millis;
        // Connected for 18 ms, then told at once.
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
