//! How many runs ended when, and how long they took: kept by minute for two days and by hour for ninety, for charts.
//!
//! Not here: the records of single runs (`runs`), and the counters of a queue by day (`inspect_queues`).

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::task::{RunCounts, RunSeries};

use super::BrokerResult;

/// Series that are counted on one UTC day, beside [`RunSeries::All`]. Of more, only the total is.
pub const MAX_RUN_SERIES: usize = 1_000;

/// How long counts are kept by minute.
pub const MINUTES_KEPT_FOR: Duration = Duration::from_secs(48 * 3600);

/// How long counts are kept by hour.
pub const HOURS_KEPT_FOR: Duration = Duration::from_secs(90 * 86_400);

/// The longest name of a queue or type that is counted, in bytes. A longer one counts in the total only.
pub const MAX_RUN_SERIES_NAME: usize = 512;

/// The length of the periods by which counts are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountedBy {
    /// A minute.
    Minute,
    /// An hour of UTC.
    Hour,
}

impl CountedBy {
    /// Its length in seconds.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3600,
        }
    }

    /// How long counts of such periods are kept.
    #[must_use]
    pub const fn kept_for(self) -> Duration {
        match self {
            Self::Minute => MINUTES_KEPT_FOR,
            Self::Hour => HOURS_KEPT_FOR,
        }
    }

    /// The numbers since 1970 of the first and last of the periods from `from` to `to`: never more than are kept.
    #[cfg_attr(not(any(feature = "redis", feature = "embedded")), allow(dead_code))]
    pub(crate) fn span(self, from: Timestamp, to: Timestamp) -> (i64, i64) {
        let last = to.as_second().div_euclid(self.seconds());
        let kept = i64::try_from(self.kept_for().as_secs()).unwrap_or(i64::MAX) / self.seconds();
        let first = from.as_second().div_euclid(self.seconds());
        (first.max(last.saturating_sub(kept)), last)
    }

    /// When the period with this number begins.
    #[cfg_attr(not(any(feature = "redis", feature = "embedded")), allow(dead_code))]
    pub(crate) fn start(self, number: i64) -> Option<Timestamp> {
        Timestamp::from_second(number.checked_mul(self.seconds())?).ok()
    }
}

/// The counts of the periods in which any run ended, by when each begins, in order.
pub type CountedPeriods = Vec<(Timestamp, RunCounts)>;

/// Counts of runs over time.
#[async_trait]
pub trait Statistics: Send + Sync {
    /// Adds counts to the minute and the hour that were `ago` by the clock of the store, at most an hour: what a process has
    /// counted since the last call. A call whose answer is lost must not be repeated: the counts may have been added.
    async fn add_run_counts(&self, added: &[(RunSeries, RunCounts)], ago: Duration) -> BrokerResult<()>;

    /// The counts of each series from the period of `from` to that of `to`; one list for each, in the order asked for.
    async fn run_counts(
        &self,
        series: &[RunSeries],
        by: CountedBy,
        (from, to): (Timestamp, Timestamp),
    ) -> BrokerResult<Vec<CountedPeriods>>;
}

/// The form in which counts are stored: a letter and a number for each that is not zero. `Y` is `done`, `Z` is `failed`,
/// `a` to `x` are the buckets of run times, and `A` to `X` those of waits, which earlier versions do not read.
#[cfg(any(feature = "redis", feature = "embedded"))]
pub(crate) mod packed {
    use std::fmt::Write as _;

    use runner_core::task::{RUN_TIME_BUCKETS, RunCounts, RunSeries};

    use super::MAX_RUN_SERIES_NAME;

    const _: () = assert!(RUN_TIME_BUCKETS <= 24, "the buckets need more letters");

    /// A larger number is no count: adding to it might leave the range of the stores' numbers.
    const LARGEST: u64 = 1 << 52;

    fn bucket_letter(first: u8, bucket: usize) -> char {
        char::from(first + u8::try_from(bucket).unwrap_or(0))
    }

    pub(crate) fn pack(counts: &RunCounts) -> String {
        let buckets = |first, of: &[u64; RUN_TIME_BUCKETS]| {
            let of = *of;
            (0..).zip(of).map(move |(at, n)| (bucket_letter(first, at), n))
        };
        let all = [('Y', counts.done), ('Z', counts.failed)]
            .into_iter()
            .chain(buckets(b'a', &counts.took))
            .chain(buckets(b'A', &counts.waited));
        let mut text = String::new();
        for (letter, n) in all.filter(|(_, n)| *n > 0) {
            // Writing to a String cannot fail.
            let _infallible = write!(text, "{letter}{}", n.min(LARGEST));
        }
        text
    }

    /// Lenient: what is no count reads as nothing.
    pub(crate) fn unpack(text: &str) -> RunCounts {
        let mut counts = RunCounts::default();
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| c.is_ascii_alphabetic()) {
            let (letter, after) = (rest.as_bytes()[at], &rest[at + 1..]);
            let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
            let n = after[..end].parse().ok().filter(|n| *n <= LARGEST).unwrap_or(0);
            match letter {
                b'Y' => counts.done = n,
                b'Z' => counts.failed = n,
                letter => {
                    let (of, first) = match letter.is_ascii_lowercase() {
                        true => (&mut counts.took, b'a'),
                        false => (&mut counts.waited, b'A'),
                    };
                    if let Some(bucket) = of.get_mut(usize::from(letter - first)) {
                        *bucket = n;
                    }
                }
            }
            rest = &after[end..];
        }
        counts
    }

    /// The name under which a series is stored; `None` if its own is too long.
    pub(crate) fn name_of(series: &RunSeries) -> Option<String> {
        let (kind, name) = match series {
            RunSeries::All => return Some("a".to_owned()),
            RunSeries::Queue(name) => ('q', name),
            RunSeries::Type(name) => ('t', name),
        };
        (name.len() <= MAX_RUN_SERIES_NAME).then(|| format!("{kind}:{name}"))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn what_is_packed_comes_back() {
            let mut counts = RunCounts {
                done: 120,
                failed: 3,
                ..RunCounts::default()
            };
            (counts.took[0], counts.took[10], counts.took[23]) = (100, 22, 1);
            (counts.waited[0], counts.waited[23]) = (7, 2);
            assert_eq!(pack(&counts), "Y120Z3a100k22x1A7X2");
            assert_eq!(unpack(&pack(&counts)), counts);
            assert_eq!(pack(&RunCounts::default()), "");
        }

        #[test]
        fn what_is_no_count_reads_as_nothing() {
            for odd in [
                "",
                "x",
                "-7",
                "99999999999999999999",
                "\u{fffd}",
                "空",
                "z5",
                "Y-3",
                "Y99999999999999999999",
            ] {
                assert!(unpack(odd).is_empty(), "{odd}");
            }
            assert_eq!(unpack("空Y5 Z!2").done, 5);
        }
    }
}
