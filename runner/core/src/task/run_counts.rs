//! How many runs ended in a period, how long they took, and how long tasks waited for them: the numbers behind charts. Not where they are kept.

use std::time::Duration;

/// Buckets of run times. Each is twice as wide as the one before: the first ends at 1 ms, the last has everything from 70
/// minutes on.
pub const RUN_TIME_BUCKETS: usize = 24;

/// The bucket of a run time.
#[must_use]
pub fn run_time_bucket(took: Duration) -> usize {
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let doublings = u64::BITS - ms.leading_zeros();
    usize::try_from(doublings).unwrap_or(0).min(RUN_TIME_BUCKETS - 1)
}

/// Where a bucket ends, and the next one begins: `2^bucket` milliseconds. Bounds beyond the last bucket are its own.
#[must_use]
pub fn run_time_bound(bucket: usize) -> Duration {
    let doublings = u32::try_from(bucket.min(RUN_TIME_BUCKETS - 1)).unwrap_or(0);
    Duration::from_millis(1 << doublings)
}

/// Whose runs are counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunSeries {
    /// All of them.
    All,
    /// Those of a queue.
    Queue(String),
    /// Those of a task type.
    Type(String),
}

/// Runs that ended in a period. A run here is one attempt at a task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunCounts {
    /// Those that succeeded, or had nothing to do.
    pub done: u64,
    /// Those that failed, whether or not they are tried again, and those whose worker was lost.
    pub failed: u64,
    /// Run times, by [bucket](run_time_bucket). Fewer than `done` and `failed` together where a run time is not known: of a
    /// lost worker, and of workers in Go.
    pub took: [u64; RUN_TIME_BUCKETS],
    /// How long tasks were pending before runs that began in the period, by bucket; of queues and in total. Runs of workers in Go are
    /// not among them.
    pub waited: [u64; RUN_TIME_BUCKETS],
}

impl RunCounts {
    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Those that succeeded and those that failed.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.done.saturating_add(self.failed)
    }

    /// Adds the counts of another period, or of other runs.
    pub fn add(&mut self, other: &Self) {
        self.done = self.done.saturating_add(other.done);
        self.failed = self.failed.saturating_add(other.failed);
        let sums = self.took.iter_mut().chain(&mut self.waited);
        for (sum, n) in sums.zip(other.took.into_iter().chain(other.waited)) {
            *sum = sum.saturating_add(n);
        }
    }

    /// The time within which `percent` per cent of the tasks that began were claimed after they could be, as [`Self::took_within`].
    #[must_use]
    pub fn waited_within(&self, percent: u32) -> Option<Duration> {
        within(&self.waited, percent)
    }

    /// The time within which `percent` per cent of the runs ended, from 1 to 100: exact to its bucket, and between its
    /// bounds in proportion. Of the last bucket, which has no end, it is the beginning. `None` if no run time is known.
    #[must_use]
    pub fn took_within(&self, percent: u32) -> Option<Duration> {
        within(&self.took, percent)
    }
}

/// See [`RunCounts::took_within`].
fn within(buckets: &[u64; RUN_TIME_BUCKETS], percent: u32) -> Option<Duration> {
    let known: u64 = buckets.iter().fold(0, |sum, n| sum.saturating_add(*n));
    if known == 0 {
        return None;
    }
    // The rank of that one among all of them, from 1.
    let rank = u128::from(known) * u128::from(percent.clamp(1, 100));
    let rank = u64::try_from(rank.div_ceil(100)).unwrap_or(u64::MAX);
    let mut below = 0_u64;
    for (bucket, n) in buckets.iter().enumerate().filter(|(_, n)| **n > 0) {
        if below.saturating_add(*n) >= rank {
            let from = bucket.checked_sub(1).map_or(Duration::ZERO, run_time_bound);
            if bucket + 1 == RUN_TIME_BUCKETS {
                return Some(from);
            }
            let width = run_time_bound(bucket).saturating_sub(from);
            // Each is taken to be in the middle of its part of the bucket: a single one is not at the upper end.
            let parts = u128::from(rank - below) * 2 - 1;
            let share = parts * width.as_micros() / (u128::from(*n) * 2);
            return Some(from + Duration::from_micros(u64::try_from(share).unwrap_or(u64::MAX)));
        }
        below = below.saturating_add(*n);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_time_is_in_the_bucket_that_ends_above_it() {
        let ms = Duration::from_millis;
        for (took, bucket) in [
            (Duration::ZERO, 0),
            (Duration::from_micros(999), 0),
            (ms(1), 1),
            (ms(2), 2),
            (ms(3), 2),
            (ms(4), 3),
            (ms(1023), 10),
            (ms(1024), 11),
            (ms((1 << 22) - 1), 22),
            (ms(1 << 22), 23),
            (Duration::MAX, 23),
        ] {
            assert_eq!(run_time_bucket(took), bucket, "{took:?}");
            assert!(took < run_time_bound(bucket) || bucket == 23);
        }
        assert_eq!(run_time_bound(10), ms(1024));
    }

    #[test]
    fn percentiles_lie_within_their_bucket() {
        let mut counts = RunCounts::default();
        assert_eq!(counts.took_within(50), None);
        counts.took[7] = 99; // 64 to 128 ms
        counts.took[17] = 1; // 65 to 131 s
        let within = |percent| counts.took_within(percent).unwrap_or_default();
        assert!((64..128).contains(&within(50).as_millis()), "{:?}", within(50));
        assert!(within(99) <= Duration::from_millis(128));
        assert!((65..=132).contains(&within(100).as_secs()));
        assert!(within(50) < within(95));
    }

    #[test]
    fn a_single_run_is_in_the_middle_of_its_bucket_and_a_very_long_one_at_its_beginning() {
        let one = |bucket: usize| {
            let mut counts = RunCounts::default();
            counts.took[bucket] = 1;
            [1, 50, 99].map(|percent| counts.took_within(percent))
        };
        assert_eq!(one(11), [Some(Duration::from_millis(1536)); 3]);
        assert_eq!(
            one(RUN_TIME_BUCKETS - 1),
            [Some(run_time_bound(RUN_TIME_BUCKETS - 2)); 3]
        );
    }

    #[test]
    fn counts_add_up_and_do_not_overflow() {
        let mut sum = RunCounts {
            done: u64::MAX,
            failed: 1,
            ..RunCounts::default()
        };
        sum.took[0] = u64::MAX;
        sum.add(&sum.clone());
        assert_eq!((sum.done, sum.failed, sum.ended()), (u64::MAX, 2, u64::MAX));
        assert!(sum.took_within(99).is_some());
        assert!(!sum.is_empty() && RunCounts::default().is_empty());
    }
}
