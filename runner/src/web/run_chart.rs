//! The charts of how runs ended and how long they took, over a range of time that ends now.
//!
//! Pure geometry of two drawings, made of counts by minute or hour. Not here: where the counts come from, and what is due.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use runner_core::task::{RUN_TIME_BUCKETS, RunCounts, run_time_bound};
use runner_queue::{CountedBy, CountedPeriods};
use serde::Serialize;

use super::format::Locale;
use super::page_error::PageError;
use super::urls;

/// Width of a bar with its gap, in units of the drawing.
const WIDE: usize = 10;
/// The highest bar, in units of the drawing.
const HIGH: u64 = 64;
/// Columns of the drawing of run times: more would be narrower than a finger, and twice the bytes.
const COLUMNS: usize = 30;
/// Shades of a cell, by how many of the runs of its column it has.
const SHADES: usize = 4;
/// Labels below a chart, at most.
const TICKS: usize = 8;

/// A range of time that ends now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum ChartRange {
    #[default]
    Hour,
    SixHours,
    Day,
    Week,
    Quarter,
}

impl ChartRange {
    pub(super) const ALL: [Self; 5] = [Self::Hour, Self::SixHours, Self::Day, Self::Week, Self::Quarter];

    /// The range of this word; the shortest for none.
    pub(super) fn of(word: &str) -> Result<Self, PageError> {
        if word.is_empty() {
            return Ok(Self::default());
        }
        let found = Self::ALL.into_iter().find(|range| range.as_str() == word);
        found.ok_or_else(|| PageError::BadQuery("range", Self::ALL.map(Self::as_str).join(", ")))
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::SixHours => "6h",
            Self::Day => "24h",
            Self::Week => "7d",
            Self::Quarter => "90d",
        }
    }

    /// By which periods the counts are read.
    pub(super) fn counted_by(self) -> CountedBy {
        match self {
            Self::Hour | Self::SixHours | Self::Day => CountedBy::Minute,
            Self::Week | Self::Quarter => CountedBy::Hour,
        }
    }

    /// How many bars there are.
    fn bars(self) -> i64 {
        match self {
            Self::Hour => 60,
            Self::SixHours => 72,
            Self::Day => 48,
            Self::Week => 56,
            Self::Quarter => 90,
        }
    }

    /// How long each is.
    pub(super) fn step(self) -> Duration {
        Duration::from_secs(match self {
            Self::Hour => 60,
            Self::SixHours => 300,
            Self::Day => 1800,
            Self::Week => 3 * 3600,
            Self::Quarter => 24 * 3600,
        })
    }

    /// Where bars begin and end, one more than there are bars: on steps of the clock of the zone. The last one has now in it.
    pub(super) fn edges(self, zone: &TimeZone, now: Timestamp) -> Vec<Timestamp> {
        if self == Self::Quarter {
            let today = now.to_zoned(zone.clone()).date();
            let start_of = |days: i64| {
                Some(
                    today
                        .checked_add(days.days())
                        .ok()?
                        .to_zoned(zone.clone())
                        .ok()?
                        .timestamp(),
                )
            };
            return (1 - self.bars()..=1).filter_map(start_of).collect();
        }
        let step = i64::try_from(self.step().as_secs()).unwrap_or(60);
        let offset = i64::from(zone.to_offset(now).seconds());
        let end = ((now.as_second() + offset).div_euclid(step) + 1) * step - offset;
        let edge = |n: i64| Timestamp::from_second(end - (self.bars() - n) * step).ok();
        (0..=self.bars()).filter_map(edge).collect()
    }
}

/// The counts between the edges, one for each pair of them.
pub(super) fn between(edges: &[Timestamp], periods: &CountedPeriods) -> Vec<RunCounts> {
    let mut sums = vec![RunCounts::default(); edges.len().saturating_sub(1)];
    for (start, counts) in periods {
        let after = edges.partition_point(|edge| edge <= start);
        if let Some(sum) = after.checked_sub(1).and_then(|at| sums.get_mut(at)) {
            sum.add(counts);
        }
    }
    sums
}

/// A bar: the runs that ended in a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct RunBar {
    /// Left edge in units of the drawing.
    x: usize,
    time: String,
    /// The tasks that ended then, as far as they are still there.
    url: String,
    done: u64,
    failed: u64,
    /// Heights in units of the drawing, the failed ones at the bottom.
    done_y: u64,
    done_high: u64,
    failed_y: u64,
    failed_high: u64,
}

/// A label of an axis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct ChartTick {
    x: usize,
    /// In hundredths of the width.
    percent: String,
    label: String,
}

/// A link to the same charts over another range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct RangeLink {
    word: &'static str,
    url: String,
    current: bool,
}

/// A column of the drawing of run times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct RunTimeColumn {
    x: usize,
    time: String,
    ended: u64,
    p50: String,
    p95: String,
    p99: String,
}

/// The label of a row of run times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct RowLabel {
    /// The middle of the row in hundredths of the height.
    percent: String,
    label: String,
}

/// How long runs took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct RunTimes {
    width: usize,
    height: usize,
    /// For each shade, from the lightest, a path of all its cells.
    shades: Vec<String>,
    columns: Vec<RunTimeColumn>,
    rows: Vec<RowLabel>,
    p50: String,
    p95: String,
    p99: String,
}

/// How long tasks waited before their runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Waits {
    p50: String,
    p95: String,
    p99: String,
}

/// Both charts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct RunChart {
    range: &'static str,
    ranges: Vec<RangeLink>,
    step: String,
    width: usize,
    /// Only those in which runs ended.
    bars: Vec<RunBar>,
    ticks: Vec<ChartTick>,
    done: u64,
    failed: u64,
    /// The number of runs that a bar of full height stands for, and half of it.
    top: u64,
    half: u64,
    times: Option<RunTimes>,
    waits: Option<Waits>,
}

impl RunChart {
    pub(super) fn new(locale: &Locale, range: ChartRange, periods: &CountedPeriods) -> Self {
        let edges = range.edges(&locale.zone, locale.now);
        let sums = between(&edges, periods);
        let top = round_above(sums.iter().map(RunCounts::ended).max().unwrap_or(0));
        let mut total = RunCounts::default();
        for sum in &sums {
            total.add(sum);
        }
        let spans: Vec<(Timestamp, Timestamp)> = edges.windows(2).map(|pair| (pair[0], pair[1])).collect();
        let bars = spans
            .iter()
            .zip(&sums)
            .enumerate()
            .filter(|(_, (_, sum))| sum.ended() > 0);
        Self {
            range: range.as_str(),
            ranges: ChartRange::ALL.map(|other| range_link(range, other)).into(),
            step: locale.span(range.step()),
            width: sums.len() * WIDE,
            bars: bars
                .map(|(at, (span, sum))| bar(locale, range, at, *span, sum, top))
                .collect(),
            ticks: ticks(locale, range, &edges),
            done: total.done,
            failed: total.failed,
            top,
            half: top / 2,
            times: run_times(locale, range, &spans, &sums, &total),
            waits: waits(locale, &total),
        }
    }
}

fn range_link(range: ChartRange, other: ChartRange) -> RangeLink {
    RangeLink {
        word: other.as_str(),
        url: match other == ChartRange::default() {
            true => format!("{}#runs", urls::root()),
            false => format!("{}?range={}#runs", urls::root(), other.as_str()),
        },
        current: range == other,
    }
}

fn bar(
    locale: &Locale,
    range: ChartRange,
    at: usize,
    span: (Timestamp, Timestamp),
    counts: &RunCounts,
    top: u64,
) -> RunBar {
    // One failure among thousands is still visible.
    let high = |n: u64| if n == 0 { 0 } else { (scaled(n, top)).max(1) };
    let (done_high, failed_high) = (high(counts.done), high(counts.failed));
    let failed_y = HIGH.saturating_sub(failed_high);
    let state = if counts.failed > 0 { "archived" } else { "completed" };
    RunBar {
        x: at * WIDE,
        time: time_of(locale, range, span),
        url: urls::tasks_between(state, &locale.zone, span),
        done: counts.done,
        failed: counts.failed,
        done_y: failed_y.saturating_sub(done_high),
        done_high,
        failed_y,
        failed_high,
    }
}

fn scaled(n: u64, top: u64) -> u64 {
    let units = u128::from(HIGH) * u128::from(n) / u128::from(top.max(1));
    u64::try_from(units).unwrap_or(HIGH).min(HIGH)
}

fn text(locale: &Locale, at: Timestamp, form: &str) -> String {
    at.to_zoned(locale.zone.clone()).strftime(form).to_string()
}

/// What a bar or column says of its time.
fn time_of(locale: &Locale, range: ChartRange, (from, to): (Timestamp, Timestamp)) -> String {
    let clock = |at| text(locale, at, "%H:%M");
    match range {
        ChartRange::Hour => clock(from),
        ChartRange::SixHours | ChartRange::Day => format!("{}–{}", clock(from), clock(to)),
        ChartRange::Week => format!("{} {}–{}", text(locale, from, "%m-%d"), clock(from), clock(to)),
        ChartRange::Quarter => text(locale, from, "%Y-%m-%d"),
    }
}

/// The lowest of 2, 4, 6, 8, 10, 20, 40, 60 and so on that is not lower than `n`: a number whose half is whole.
pub(super) fn round_above(n: u64) -> u64 {
    let mut power: u64 = 1;
    loop {
        for first in [2, 4, 6, 8, 10] {
            let top = power.saturating_mul(first);
            if top >= n {
                return top;
            }
        }
        power = power.saturating_mul(10);
    }
}

fn percent(x: usize, width: usize) -> String {
    let width = width.max(1);
    format!("{}.{:02}", x * 100 / width, x * 10_000 / width % 100)
}

/// Labels at full steps of the clock of the zone.
fn ticks(locale: &Locale, range: ChartRange, edges: &[Timestamp]) -> Vec<ChartTick> {
    let width = edges.len().saturating_sub(1) * WIDE;
    let full = |at: Timestamp| {
        let local = at.to_zoned(locale.zone.clone());
        let (hour, minute) = (local.hour(), local.minute());
        match range {
            ChartRange::Hour => minute % 10 == 0,
            ChartRange::SixHours => minute == 0,
            ChartRange::Day => minute < 30 && hour % 4 == 0,
            ChartRange::Week => hour < 3,
            ChartRange::Quarter => local.day() == 1 || local.day() == 15,
        }
    };
    let form = match range {
        ChartRange::Hour | ChartRange::SixHours | ChartRange::Day => "%H:%M",
        ChartRange::Week | ChartRange::Quarter => "%m-%d",
    };
    let at_edges = edges.iter().enumerate().skip(1).filter(|(_, at)| full(**at));
    let ticks = at_edges
        .filter(|(nth, _)| nth * WIDE < width)
        .map(|(nth, at)| ChartTick {
            x: nth * WIDE,
            percent: percent(nth * WIDE, width),
            label: text(locale, *at, form),
        });
    ticks.take(TICKS).collect()
}

/// The time within which `percent` per cent of the runs ended; empty if no run time is known.
pub(super) fn within(locale: &Locale, counts: &RunCounts, percent: u32) -> String {
    counts
        .took_within(percent)
        .map_or_else(String::new, |took| length(locale, took))
}

/// How long tasks waited before their runs; `None` if that is known of none.
fn waits(locale: &Locale, total: &RunCounts) -> Option<Waits> {
    let within = |percent| Some(length(locale, total.waited_within(percent)?));
    Some(Waits {
        p50: within(50)?,
        p95: within(95)?,
        p99: within(99)?,
    })
}

/// A length of time that was counted in buckets.
fn length(locale: &Locale, took: Duration) -> String {
    // How long the longest took is not known.
    let sign = if took >= run_time_bound(RUN_TIME_BUCKETS - 2) {
        "> "
    } else {
        ""
    };
    format!("{sign}{}", locale.span(took))
}

/// The drawing of run times: rows are buckets from the shortest to the longest that occur. `None` if no run time is known.
fn run_times(
    locale: &Locale,
    range: ChartRange,
    spans: &[(Timestamp, Timestamp)],
    sums: &[RunCounts],
    total: &RunCounts,
) -> Option<RunTimes> {
    let lowest = total.took.iter().position(|n| *n > 0)?;
    let highest = total.took.iter().rposition(|n| *n > 0)?;
    let rows = highest - lowest + 1;
    let each = sums.len().div_ceil(COLUMNS).max(1);
    let mut shades = vec![String::new(); SHADES];
    let mut columns = Vec::new();
    for (nth, (some, times)) in sums.chunks(each).zip(spans.chunks(each)).enumerate() {
        let mut sum = RunCounts::default();
        some.iter().for_each(|one| sum.add(one));
        let most = sum.took.iter().copied().max().filter(|most| *most > 0);
        let (Some(most), Some(first), Some(last)) = (most, times.first(), times.last()) else {
            continue;
        };
        for (bucket, n) in sum.took.iter().enumerate().filter(|(_, n)| **n > 0) {
            let shade = usize::try_from(n.saturating_mul(SHADES as u64).div_ceil(most)).unwrap_or(SHADES);
            let (x, y) = (nth * WIDE, (highest - bucket) * WIDE);
            shades[shade.clamp(1, SHADES) - 1] += &format!("M{x} {y}h9v9h-9z");
        }
        columns.push(RunTimeColumn {
            x: nth * WIDE,
            time: time_of(locale, range, (first.0, last.1)),
            ended: sum.ended(),
            p50: within(locale, &sum, 50),
            p95: within(locale, &sum, 95),
            p99: within(locale, &sum, 99),
        });
    }
    // At most six labels.
    let labelled = (lowest..=highest).filter(|bucket| (bucket - lowest) % rows.div_ceil(6) == 0);
    Some(RunTimes {
        width: sums.len().div_ceil(each) * WIDE,
        height: rows * WIDE,
        shades,
        columns,
        rows: labelled
            .map(|bucket| RowLabel {
                percent: percent((highest - bucket) * WIDE + WIDE / 2, rows * WIDE),
                label: bound(locale, bucket),
            })
            .collect(),
        p50: within(locale, total, 50),
        p95: within(locale, total, 95),
        p99: within(locale, total, 99),
    })
}

/// The label of a row of run times: about where it ends.
fn bound(locale: &Locale, bucket: usize) -> String {
    let sign = if bucket + 1 == RUN_TIME_BUCKETS { "> " } else { "" };
    let end = run_time_bound(bucket.min(RUN_TIME_BUCKETS - 2));
    let coarse = match end.as_secs() {
        0 => end,
        1..60 => Duration::from_secs(end.as_secs()),
        60..3600 => Duration::from_secs(end.as_secs() / 60 * 60),
        more => Duration::from_secs(more / 3600 * 3600),
    };
    format!("{sign}{}", locale.span(coarse))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::web::translations::Lang;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn locale(zone: &str, now: &str) -> Locale {
        Locale {
            lang: Lang::En,
            zone: TimeZone::get(zone).unwrap(),
            now: at(now),
        }
    }

    fn counts(done: u64, failed: u64, bucket: usize) -> RunCounts {
        let mut counts = RunCounts {
            done,
            failed,
            ..RunCounts::default()
        };
        counts.took[bucket] = done + failed;
        counts
    }

    #[test]
    fn bars_begin_on_steps_of_the_clock_of_the_zone() {
        let now = at("2026-11-22T12:07:30Z");
        for (range, first, last) in [
            (ChartRange::Hour, "2026-11-22T11:08:00Z", "2026-11-22T12:08:00Z"),
            (ChartRange::SixHours, "2026-11-22T06:10:00Z", "2026-11-22T12:10:00Z"),
            (ChartRange::Day, "2026-11-21T12:30:00Z", "2026-11-22T12:30:00Z"),
            // 17:37 there, which is half an hour off.
            (ChartRange::Week, "2026-11-15T12:30:00Z", "2026-11-22T12:30:00Z"),
            (ChartRange::Quarter, "2026-08-24T18:30:00Z", "2026-11-22T18:30:00Z"),
        ] {
            let edges = range.edges(&TimeZone::get("Asia/Kolkata").unwrap(), now);
            assert_eq!((edges[0], *edges.last().unwrap()), (at(first), at(last)), "{range:?}");
            assert_eq!(edges.len() as i64, range.bars() + 1);
        }
    }

    #[test]
    fn days_are_those_of_the_zone_when_clocks_change() {
        let edges = ChartRange::Quarter.edges(&TimeZone::get("Europe/Berlin").unwrap(), at("2026-11-22T12:00:00Z"));
        assert_eq!(edges.len(), 91);
        let lengths: std::collections::BTreeSet<i64> = edges
            .windows(2)
            .map(|pair| pair[1].duration_since(pair[0]).as_hours())
            .collect();
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [24, 25]);
    }

    #[test]
    fn the_legend_is_the_sum_of_the_bars() {
        let locale = locale("UTC", "2026-11-22T12:07:30Z");
        let periods = vec![
            (at("2026-11-22T11:00:00Z"), counts(99, 0, 3)),
            (at("2026-11-22T11:08:00Z"), counts(30, 0, 3)),
            (at("2026-11-22T12:07:00Z"), counts(9_000, 1, 12)),
        ];
        let chart = RunChart::new(&locale, ChartRange::Hour, &periods);
        assert_eq!((chart.done, chart.failed, chart.top), (9_030, 1, 10_000));
        let [first, last] = &chart.bars[..] else {
            panic!("{:?}", chart.bars)
        };
        assert_eq!((first.x, first.time.as_str()), (0, "11:08"));
        assert_eq!(
            (last.x, last.failed_high, last.failed_y, last.done_high),
            (590, 1, 63, 57)
        );
        assert!(
            last.url
                .contains("state=archived&from=2026-11-22T12%3A07&to=2026-11-22T12%3A08"),
            "{}",
            last.url
        );
        assert!(first.url.contains("state=completed"));
        let times = chart.times.unwrap();
        // 4 ms to 4 s: ten rows.
        assert_eq!((times.height, times.columns.len()), (100, 2));
        assert_eq!(times.shades[3], "M0 90h9v9h-9zM290 0h9v9h-9z");
        assert!(times.rows.len() <= 6, "{:?}", times.rows);
        assert!(times.p99.ends_with(" s") && times.p50.ends_with(" s"), "{times:?}");
    }

    #[test]
    fn a_chart_of_nothing_has_no_bars_and_no_run_times() {
        let locale = locale("UTC", "2026-11-22T12:07:30Z");
        for range in ChartRange::ALL {
            let chart = RunChart::new(&locale, range, &Vec::new());
            assert!(chart.bars.is_empty() && chart.times.is_none());
            assert!((3..=TICKS).contains(&chart.ticks.len()), "{range:?}: {:?}", chart.ticks);
            assert_eq!(ChartRange::of(range.as_str()).ok(), Some(range));
        }
        assert!(ChartRange::of("2h").is_err());
    }

    #[test]
    fn bounds_of_rows_are_round() {
        let locale = locale("UTC", "2026-11-22T12:07:30Z");
        let labels = [0, 10, 14, 17, 22, 23].map(|bucket| bound(&locale, bucket));
        assert_eq!(labels, ["1 ms", "1 s", "16 s", "2 min", "1 h", "> 1 h"]);
    }

    #[test]
    fn the_scale_ends_at_a_round_number() {
        let tops = [0, 1, 3, 5, 11, 21, 41, 101, 4_001].map(round_above);
        assert_eq!(tops, [2, 2, 4, 6, 20, 40, 60, 200, 6_000]);
        assert_eq!(round_above(u64::MAX), u64::MAX);
    }
}
