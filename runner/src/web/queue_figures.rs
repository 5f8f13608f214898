//! The last hour of a queue in a row of a table: a small chart of its runs, how often and how well they ended, how long they
//! took. Pure; the counts are read elsewhere.

use std::fmt::Write as _;

use jiff::Timestamp;
use runner_core::task::RunCounts;
use runner_queue::CountedPeriods;
use serde::Serialize;

use super::format::{Locale, grouped};
use super::run_chart::{between, round_above, within};

/// Bars of the chart, of five minutes each: more would make long lists large.
const BARS: i64 = 12;
/// Seconds of a bar.
const STEP: i64 = 300;
/// Width of a bar with its gap, in units of the drawing.
const WIDE: u64 = 8;
/// The highest bar.
const HIGH: u64 = 16;
/// Bars from which the present rate is taken: a quarter of an hour.
const LATELY: i64 = 3;

/// The last hour of a queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct QueueFigures {
    width: u64,
    /// Paths of those bars that have any.
    done: String,
    failed: String,
    done_n: u64,
    failed_n: u64,
    /// Runs a minute, or an hour if there are few.
    rate: String,
    a_minute: bool,
    /// Failed runs in hundredths; empty without runs.
    errors: String,
    many_errors: bool,
    p95: String,
}

impl QueueFigures {
    /// `None` if no run ended.
    pub(super) fn new(locale: &Locale, periods: &CountedPeriods) -> Option<Self> {
        let sums = between(&edges(locale.now), periods);
        let mut hour = RunCounts::default();
        sums.iter().for_each(|sum| hour.add(sum));
        if hour.ended() == 0 {
            return None;
        }
        let top = round_above(sums.iter().map(RunCounts::ended).max().unwrap_or(0));
        let mut figures = Self {
            width: WIDE * BARS.unsigned_abs(),
            done_n: hour.done,
            failed_n: hour.failed,
            p95: within(locale, &hour, 95),
            ..Self::default()
        };
        for (place, sum) in (0_u64..).zip(&sums) {
            let x = place * WIDE;
            let high = |n: u64| if n == 0 { 0 } else { (HIGH * n / top).max(1) };
            let (failed, done) = (high(sum.failed), high(sum.done));
            // Writing to a String cannot fail.
            if failed > 0 {
                let _infallible = write!(figures.failed, "M{x} {}h7v{failed}h-7z", HIGH - failed);
            }
            if done > 0 {
                let _infallible = write!(figures.done, "M{x} {}h7v{done}h-7z", HIGH.saturating_sub(failed + done));
            }
        }
        // The last bar is not over yet.
        let since = locale.now.as_second().rem_euclid(STEP) + STEP * (LATELY - 1);
        figures.note_rates(&hour, &sums, since.unsigned_abs().max(1));
        Some(figures)
    }

    /// `seconds`: how long the last bars have lasted.
    fn note_rates(&mut self, hour: &RunCounts, sums: &[RunCounts], seconds: u64) {
        let lately = sums.iter().rev().take(usize::try_from(LATELY).unwrap_or(1));
        let ended: u64 = lately.map(RunCounts::ended).sum();
        let a_minute = (ended.saturating_mul(60) + seconds / 2) / seconds;
        self.a_minute = a_minute > 0;
        self.rate = grouped(if self.a_minute { a_minute } else { hour.ended() });
        let tenths = hour.failed.saturating_mul(1000) / hour.ended().max(1);
        self.errors = match (hour.failed, tenths) {
            (0, _) => "0 %".to_owned(),
            (_, 0) => "< 0.1 %".to_owned(),
            (_, tenths) => format!("{}.{} %", tenths / 10, tenths % 10),
        };
        self.many_errors = tenths >= 50;
    }
}

/// Where bars begin and end: the last one has now in it.
pub(super) fn edges(now: Timestamp) -> Vec<Timestamp> {
    let end = (now.as_second().div_euclid(STEP) + 1) * STEP;
    (0..=BARS)
        .filter_map(|n| Timestamp::from_second(end - (BARS - n) * STEP).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jiff::tz::TimeZone;

    use super::*;
    use crate::web::translations::Lang;

    fn figures(periods: &[(i64, u64, u64)]) -> Option<QueueFigures> {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let locale = Locale {
            lang: Lang::En,
            zone: TimeZone::UTC,
            now,
        };
        let period = |(ago, done, failed): &(i64, u64, u64)| {
            let mut counts = RunCounts {
                done: *done,
                failed: *failed,
                ..RunCounts::default()
            };
            counts.took[10] = *done;
            (Timestamp::from_second(now.as_second() - ago).unwrap(), counts)
        };
        QueueFigures::new(&locale, &periods.iter().map(period).collect())
    }

    #[test]
    fn the_last_hour_is_drawn_and_summed_up() {
        let of = figures(&[(3200, 100, 0), (0, 28, 2), (9000, 9, 9)]).unwrap();
        assert_eq!(
            (of.done_n, of.failed_n, of.rate.as_str(), of.a_minute),
            (128, 2, "3", true)
        );
        assert_eq!(of.done, "M0 0h7v16h-7zM88 11h7v4h-7z");
        assert_eq!(of.failed, "M88 15h7v1h-7z");
        assert_eq!((of.errors.as_str(), of.many_errors), ("1.5 %", false));
        assert!(of.p95.ends_with("ms") || of.p95.ends_with(" s"), "{}", of.p95);
    }

    #[test]
    fn few_runs_are_counted_by_the_hour() {
        let of = figures(&[(3000, 3, 1)]).unwrap();
        assert_eq!(
            (of.rate.as_str(), of.a_minute, of.errors.as_str()),
            ("4", false, "25.0 %")
        );
        assert!(of.many_errors && of.failed.starts_with('M'));
        assert_eq!(figures(&[]), None);
        assert_eq!(figures(&[(7200, 5, 0)]), None);
    }
}
