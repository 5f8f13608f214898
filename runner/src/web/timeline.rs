//! The chart of the overview: twelve hours of occurrences and how their tasks ended to the left of now, twelve hours of
//! occurrences that are due to the right.
//!
//! Pure geometry of one drawing, on a linear scale; the list of decisions has the same data.

use std::time::Duration;

use jiff::Timestamp;
use runner_core::schedule::Plan;
use runner_queue::{Decision, DecisionKind};
use serde::Serialize;

use super::format::Locale;
use super::recent_decisions::RecentDecisions;
use super::run_chart::round_above;
use super::urls;
use crate::diagnose::{Fate, fate};

/// Width of a column in seconds: columns begin on the quarters of an hour, in every zone.
const STEP: i64 = 15 * 60;
/// Columns; the one in the middle has both past and future.
const COLUMNS: usize = 97;
/// The column that has now in it.
const MIDDLE: usize = 48;
/// Width of a column in units of the drawing.
const WIDE: usize = 10;
/// The highest bar, in units of the drawing.
const HIGH: u64 = 64;
/// Occurrences of one schedule counted in one column; a busier column is extrapolated from the first ones.
const PER_COLUMN: u32 = 64;
/// Occurrences examined in total, so that a page with thousands of schedules stays fast.
const IN_ALL: usize = 50_000;

/// Numbers of occurrences by what happened to them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct OccurrenceCounts {
    /// Their tasks succeeded.
    pub good: u64,
    /// Their tasks wait or run, are to be tried again, or ended where nothing is remembered.
    pub open: u64,
    /// Their tasks failed for good.
    pub bad: u64,
    /// Skipped or missed.
    pub lost: u64,
    /// Future ones.
    pub due: u64,
}

impl OccurrenceCounts {
    /// In the order in which they are stacked.
    fn stacked(self) -> [(&'static str, u64); 5] {
        [
            ("good", self.good),
            ("open", self.open),
            ("bad", self.bad),
            ("lost", self.lost),
            ("due", self.due),
        ]
    }

    fn sum(self) -> u64 {
        self.stacked().iter().map(|(_, n)| n).sum()
    }

    fn add(&mut self, decision: &Decision) {
        let count = u64::from(decision.count.max(1));
        match (decision.kind, fate(decision)) {
            // Not about an occurrence.
            (DecisionKind::Corrected | DecisionKind::Manual | DecisionKind::Paused, _) => (),
            (DecisionKind::Fired, Some(Fate::Good)) => self.good += count,
            (DecisionKind::Fired, Some(Fate::Bad)) => self.bad += count,
            (DecisionKind::Fired, _) => self.open += count,
            (DecisionKind::Skipped | DecisionKind::Missed, _) => self.lost += count,
        }
    }
}

/// A part of a bar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Segment {
    of: &'static str,
    y: u64,
    height: u64,
}

/// One quarter of an hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimelineColumn {
    /// Left edge in units of the drawing.
    x: usize,
    /// Begin and end in the zone of the page: `14:00–14:15`.
    time: String,
    /// The list of its decisions, of past ones.
    url: Option<String>,
    counts: OccurrenceCounts,
    segments: Vec<Segment>,
}

/// A mark on the axis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimelineTick {
    /// In units of the drawing.
    pub x: usize,
    /// The same in hundredths of its width.
    pub percent: String,
    /// `06:00` in the zone of the page.
    pub label: String,
}

/// The drawing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Timeline {
    width: usize,
    /// Only columns with content.
    columns: Vec<TimelineColumn>,
    /// Every three hours.
    pub ticks: Vec<TimelineTick>,
    /// What the columns show, added up.
    counts: OccurrenceCounts,
    /// The number of occurrences that a bar of full height stands for, and half of it.
    top: u64,
    half: u64,
    /// Where now is, in units of the drawing.
    now: usize,
    /// The first instant that is shown, if there are too many decisions to show all.
    since: Option<String>,
    /// Lists of decisions by what happened to them.
    bad_url: String,
    lost_url: String,
}

impl Timeline {
    /// Draws decisions and the plan around the locale's now.
    #[must_use]
    pub(super) fn new(locale: &Locale, plan: &Plan, recent: &RecentDecisions) -> Self {
        let start = start_of(locale.now);
        let mut counts = vec![OccurrenceCounts::default(); COLUMNS];
        for decision in &recent.decisions {
            let column = column_of(start, decision.nominal).filter(|_| decision.nominal <= locale.now);
            if let Some(counts) = column.and_then(|at| counts.get_mut(at)) {
                counts.add(decision);
            }
        }
        count_coming(plan, locale.now, start, &mut counts);
        let top = round_above(counts.iter().map(|c| c.sum()).max().unwrap_or(0));
        let mut sum = OccurrenceCounts::default();
        for c in &counts {
            sum.good += c.good;
            sum.open += c.open;
            sum.bad += c.bad;
            sum.lost += c.lost;
            sum.due += c.due;
        }
        let columns = counts.into_iter().enumerate().filter(|(_, counts)| counts.sum() > 0);
        let first = edge_of(start, 0);
        Self {
            width: COLUMNS * WIDE,
            columns: columns
                .map(|(at, counts)| column(locale, start, at, counts, top))
                .collect(),
            ticks: ticks(locale, start),
            counts: sum,
            top,
            half: top / 2,
            now: position(start, locale.now),
            since: (recent.since > first).then(|| locale.moment(recent.since).short),
            bad_url: urls::decisions(Some("failed"), Some((first, locale.now))),
            lost_url: urls::decisions(Some("lost"), Some((first, locale.now))),
        }
    }
}

fn column(locale: &Locale, start: Timestamp, at: usize, counts: OccurrenceCounts, top: u64) -> TimelineColumn {
    let (from, to) = (edge_of(start, at), edge_of(start, at + 1));
    let clock = |at: Timestamp| at.to_zoned(locale.zone.clone()).strftime("%H:%M").to_string();
    let (mut below, mut segments) = (0, Vec::new());
    for (of, n) in counts.stacked().into_iter().filter(|(_, n)| *n > 0) {
        let (from, to) = (HIGH * below / top, HIGH * (below + n) / top);
        // One failure among thousands is still visible.
        let height = (to - from).max(1);
        segments.push(Segment {
            of,
            y: HIGH.saturating_sub(from + height),
            height,
        });
        below += n;
    }
    TimelineColumn {
        x: at * WIDE,
        time: format!("{}–{}", clock(from), clock(to)),
        url: (at <= MIDDLE).then(|| urls::decisions(None, Some((from, to)))),
        counts,
        segments,
    }
}

/// Counts future occurrences, column by column.
fn count_coming(plan: &Plan, now: Timestamp, start: Timestamp, columns: &mut [OccurrenceCounts]) {
    let mut budget = IN_ALL;
    for definition in plan.schedules.values().filter(|d| d.enabled) {
        let mut next = definition.timing.next(now);
        while let Some((first, index)) = next.and_then(|at| Some((at, column_of(start, at)?))) {
            let edge = edge_of(start, index + 1);
            let mut last = first;
            let mut count: u32 = 1;
            next = definition.timing.next(first);
            while let Some(at) = next.filter(|at| *at < edge && count < PER_COLUMN) {
                (last, count) = (at, count + 1);
                next = definition.timing.next(at);
            }
            budget = budget.saturating_sub(count as usize);
            if count == PER_COLUMN && next.is_some_and(|at| at < edge) {
                count = extrapolated(count, seconds(first, last), seconds(first, edge));
                next = definition
                    .timing
                    .next(edge.checked_sub(Duration::from_nanos(1)).unwrap_or(edge));
            }
            if let Some(column) = columns.get_mut(index) {
                column.due += u64::from(count);
            }
            if budget == 0 {
                return;
            }
        }
    }
}

/// Extrapolates from `count` in the first `part` seconds to `whole` seconds.
fn extrapolated(count: u32, part: u64, whole: u64) -> u32 {
    let gaps = u64::from(count.saturating_sub(1));
    u32::try_from(gaps.saturating_mul(whole) / part.max(1))
        .unwrap_or(u32::MAX)
        .max(count)
}

fn seconds(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_secs()).unwrap_or(0)
}

/// The quarter of an hour in which the drawing begins.
fn start_of(now: Timestamp) -> Timestamp {
    let quarter = now.as_second().div_euclid(STEP) * STEP;
    let reach = i64::try_from(MIDDLE).unwrap_or_default() * STEP;
    Timestamp::from_second(quarter - reach).unwrap_or(Timestamp::MIN)
}

/// The first instant of the drawing.
#[must_use]
pub(super) fn first_instant(now: Timestamp) -> Timestamp {
    start_of(now)
}

/// The left edge of a column.
fn edge_of(start: Timestamp, index: usize) -> Timestamp {
    let seconds = STEP.saturating_mul(i64::try_from(index).unwrap_or(i64::MAX));
    Timestamp::from_second(start.as_second().saturating_add(seconds)).unwrap_or(Timestamp::MAX)
}

fn column_of(start: Timestamp, at: Timestamp) -> Option<usize> {
    let seconds = at.duration_since(start).as_secs();
    let index = usize::try_from(seconds.div_euclid(STEP)).ok()?;
    (index < COLUMNS && at >= start).then_some(index)
}

/// In units of the drawing.
fn position(start: Timestamp, at: Timestamp) -> usize {
    let seconds = usize::try_from(at.duration_since(start).as_secs()).unwrap_or(0);
    seconds * WIDE / usize::try_from(STEP).unwrap_or(1)
}

fn ticks(locale: &Locale, start: Timestamp) -> Vec<TimelineTick> {
    const EVERY: i64 = 3 * 3600;
    let zone = &locale.zone;
    // Ticks are on full hours of the zone, whose offset may be half an hour.
    let offset = i64::from(zone.to_offset(start).seconds());
    let local = start.as_second() + offset;
    let first = (local.div_euclid(EVERY) + 1) * EVERY - offset;
    (0..8)
        .filter_map(|n| Timestamp::from_second(first + n * EVERY).ok())
        .map(|at| {
            let x = position(start, at);
            let width = COLUMNS * WIDE;
            TimelineTick {
                x,
                percent: format!("{}.{:02}", x * 100 / width, x * 10_000 / width % 100),
                label: at.to_zoned(zone.clone()).strftime("%H:%M").to_string(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use runner_core::task::AttemptOutcome;
    use runner_queue::RunEnd;

    use super::*;
    use crate::web::translations::Lang;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn locale(zone: &str, now: &str) -> Locale {
        Locale {
            lang: Lang::En,
            zone: jiff::tz::TimeZone::get(zone).unwrap(),
            now: at(now),
        }
    }

    fn recent(decisions: Vec<Decision>) -> RecentDecisions {
        RecentDecisions {
            decisions,
            since: Timestamp::MIN,
        }
    }

    #[test]
    fn columns_are_the_quarters_of_the_clock() {
        let now = at("2026-11-22T12:07:30Z");
        let start = start_of(now);
        assert_eq!(start, at("2026-11-22T00:00:00Z"));
        assert_eq!(start_of(at("2026-11-22T12:14:59Z")), start);
        assert_eq!(column_of(start, now), Some(MIDDLE));
        assert_eq!(column_of(start, at("2026-11-21T23:59:59Z")), None);
        assert_eq!(column_of(start, at("2026-11-23T00:14:59Z")), Some(COLUMNS - 1));
        assert_eq!(column_of(start, at("2026-11-23T00:15:00Z")), None);
        assert_eq!(position(start, now), MIDDLE * WIDE + WIDE / 2);
    }

    #[test]
    fn ticks_are_full_hours_of_the_zone() {
        let locale = locale("Asia/Kolkata", "2026-11-22T12:10:00Z");
        let timeline = Timeline::new(&locale, &Plan::default(), &recent(Vec::new()));
        assert_eq!(timeline.ticks.len(), 8);
        let full = timeline.ticks.iter().all(|t| t.label.ends_with(":00"));
        assert!(full, "{:?}", timeline.ticks);
        assert!(timeline.columns.is_empty());
    }

    #[test]
    fn a_busy_quarter_is_reckoned_from_its_first_occurrences() {
        assert_eq!(extrapolated(64, 63, 900), 900);
        assert_eq!(extrapolated(64, 63 * 5, 900), 180);
    }

    fn decision(nominal: &str, kind: DecisionKind, outcome: Option<AttemptOutcome>, count: u32) -> Decision {
        let nominal = at(nominal);
        Decision {
            schedule: runner_core::schedule::ScheduleId::code("a"),
            nominal,
            kind,
            reason: String::new(),
            task: None,
            queue: None,
            end: outcome.map(|outcome| RunEnd {
                outcome,
                started_at: nominal,
                ended_at: nominal,
            }),
            count,
            decided_at: nominal,
            instance: String::new(),
        }
    }

    #[test]
    fn the_legend_is_the_sum_of_the_columns() {
        use AttemptOutcome::{Archived, Lost, Retry, Success};
        use DecisionKind::{Fired, Manual, Missed, Paused, Skipped};
        let locale = locale("UTC", "2026-11-22T12:07:30Z");
        let decisions = vec![
            decision("2026-11-22T12:06:00Z", Fired, Some(Success), 1),
            decision("2026-11-22T12:05:00Z", Fired, Some(Archived), 1),
            decision("2026-11-22T12:04:00Z", Fired, None, 1),
            decision("2026-11-22T12:03:00Z", Manual, Some(Lost), 1),
            decision("2026-11-22T12:02:00Z", Paused, None, 9),
            decision("2026-11-22T11:50:00Z", Fired, Some(Retry), 1),
            decision("2026-11-22T11:50:00Z", Skipped, None, 1),
            decision("2026-11-22T11:45:00Z", Missed, None, 7),
            decision("2026-11-21T23:59:00Z", Fired, Some(Success), 1),
        ];
        let timeline = Timeline::new(&locale, &Plan::default(), &recent(decisions));
        let expected = OccurrenceCounts {
            good: 1,
            open: 2,
            bad: 1,
            lost: 8,
            due: 0,
        };
        assert_eq!((timeline.counts, timeline.top, timeline.half), (expected, 10, 5));
        assert_eq!(timeline.columns.iter().map(|c| c.counts.sum()).sum::<u64>(), 12);
        let [earlier, last] = &timeline.columns[..] else {
            panic!("{:?}", timeline.columns)
        };
        assert_eq!((earlier.x, earlier.time.as_str()), (470, "11:45–12:00"));
        let heights: Vec<_> = earlier.segments.iter().map(|s| (s.of, s.y, s.height)).collect();
        assert_eq!(heights, [("open", 58, 6), ("lost", 7, 51)]);
        let url = last.url.as_deref().unwrap();
        assert!(
            url.ends_with("/decisions?from=2026-11-22T12%3A00%3A00Z&to=2026-11-22T12%3A15%3A00Z"),
            "{url}"
        );
        assert_eq!(timeline.since, None);
    }

    #[test]
    fn a_chart_that_lacks_its_beginning_says_so() {
        let locale = locale("UTC", "2026-11-22T12:07:30Z");
        let recent = RecentDecisions {
            decisions: vec![decision("2026-11-22T11:00:00Z", DecisionKind::Missed, None, 10_000)],
            since: at("2026-11-22T10:00:00Z"),
        };
        let timeline = Timeline::new(&locale, &Plan::default(), &recent);
        assert_eq!(timeline.since.as_deref(), Some("2026-11-22 10:00:00"));
        // Smaller than a unit of the drawing, and visible.
        let counts = OccurrenceCounts {
            bad: 1,
            good: 9_999,
            ..OccurrenceCounts::default()
        };
        let bar = column(&locale, locale.now, 0, counts, 10_000);
        assert!(bar.segments.iter().all(|segment| segment.height >= 1), "{bar:?}");
    }
}
