//! The timeline: twelve hours of decisions to the left of now, twelve hours of occurrences to the right.
//!
//! Pure geometry of one drawing; the same data is in tables beside it.

use std::time::Duration;

use jiff::Timestamp;
use runner_core::schedule::Plan;
use runner_queue::{Decision, DecisionKind};
use serde::Serialize;

use super::format::Locale;

/// How far the timeline reaches to either side.
const REACH: Duration = Duration::from_secs(12 * 3600);
/// Columns: a quarter of an hour each.
const COLUMNS: usize = 96;
/// Occurrences of one schedule counted in one column; a busier column is extrapolated from the first ones.
const PER_COLUMN: u32 = 64;
/// Occurrences examined in total, so that a page with thousands of schedules stays fast.
const IN_ALL: usize = 50_000;

/// One quarter of an hour.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TimelineColumn {
    /// Left edge in units of the drawing.
    pub x: usize,
    /// Fires, drawn upwards: height out of 40.
    pub fired: u32,
    /// Skipped or missed, drawn downwards: out of 14.
    pub lost: u32,
    /// Future occurrences.
    pub due: u32,
    /// The number of fires behind the height.
    pub fired_n: u32,
    /// The number of skipped or missed.
    pub lost_n: u32,
    /// The number of future occurrences.
    pub due_n: u32,
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

/// The drawing: 960 units wide, 10 for each column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Timeline {
    /// Only columns with content.
    pub columns: Vec<TimelineColumn>,
    /// Every three hours.
    pub ticks: Vec<TimelineTick>,
    /// Fires in range.
    pub fired: u32,
    /// Skipped or missed in range.
    pub lost: u32,
    /// Future occurrences in range.
    pub due: u32,
}

impl Timeline {
    /// Draws decisions and the plan around the locale's now.
    #[must_use]
    pub fn new(locale: &Locale, plan: &Plan, decisions: &[Decision]) -> Self {
        let mut columns = vec![TimelineColumn::default(); COLUMNS];
        let start = locale.now.checked_sub(REACH).unwrap_or(Timestamp::MIN);
        for decision in decisions {
            if let Some(column) = column_of(start, decision.nominal).and_then(|at| columns.get_mut(at)) {
                if matches!(
                    decision.kind,
                    DecisionKind::Corrected | DecisionKind::Manual | DecisionKind::Paused
                ) {
                    // Not about an occurrence.
                } else if decision.kind == DecisionKind::Fired {
                    column.fired_n = column.fired_n.saturating_add(decision.count.max(1));
                } else {
                    column.lost_n = column.lost_n.saturating_add(decision.count.max(1));
                }
            }
        }
        count_coming(plan, locale.now, start, &mut columns);
        let sum = |of: fn(&TimelineColumn) -> u32| columns.iter().map(of).fold(0, u32::saturating_add);
        let (fired, lost, due) = (sum(|c| c.fired_n), sum(|c| c.lost_n), sum(|c| c.due_n));
        for (index, column) in columns.iter_mut().enumerate() {
            column.x = index * 10;
            column.fired = height(column.fired_n);
            column.lost = height(column.lost_n).div_ceil(3);
            column.due = height(column.due_n);
        }
        columns.retain(|c| c.fired_n + c.lost_n + c.due_n > 0);
        Self {
            columns,
            ticks: ticks(locale, start),
            fired,
            lost,
            due,
        }
    }
}

/// Counts future occurrences, column by column.
fn count_coming(plan: &Plan, now: Timestamp, start: Timestamp, columns: &mut [TimelineColumn]) {
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
                column.due_n = column.due_n.saturating_add(count);
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

/// The left edge of a column.
fn edge_of(start: Timestamp, index: usize) -> Timestamp {
    let width = REACH.as_secs() * 2 / COLUMNS as u64;
    start
        .checked_add(Duration::from_secs(width * index as u64))
        .unwrap_or(Timestamp::MAX)
}

fn column_of(start: Timestamp, at: Timestamp) -> Option<usize> {
    let seconds = u64::try_from(at.duration_since(start).as_secs()).ok()?;
    let width = REACH.as_secs() * 2 / 96;
    let index = usize::try_from(seconds / width).ok()?;
    (index < COLUMNS).then_some(index)
}

/// 4 units for one, and 4 more for each doubling: a busy column must not flatten the others.
fn height(n: u32) -> u32 {
    if n == 0 { 0 } else { (4 + 4 * n.ilog2()).min(40) }
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
        .filter_map(|at| {
            let seconds = usize::try_from(at.duration_since(start).as_secs()).ok()?;
            Some(TimelineTick {
                x: seconds * 960 / 86_400,
                percent: format!("{}.{:02}", seconds * 100 / 86_400, seconds * 10_000 / 86_400 % 100),
                label: at.to_zoned(zone.clone()).strftime("%H:%M").to_string(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::web::translations::Lang;

    #[test]
    fn the_middle_is_now_and_the_ends_are_twelve_hours_away() {
        let start = Timestamp::from_second(0).unwrap();
        let at = |s: i64| column_of(start, Timestamp::from_second(s).unwrap());
        assert_eq!(at(-1), None);
        assert_eq!(at(0), Some(0));
        assert_eq!(at(12 * 3600), Some(48));
        assert_eq!(at(24 * 3600 - 1), Some(95));
        assert_eq!(at(24 * 3600), None);
    }

    #[test]
    fn ticks_are_full_hours_of_the_zone() {
        let locale = Locale {
            lang: Lang::En,
            zone: jiff::tz::TimeZone::get("Asia/Kolkata").unwrap(),
            now: "2026-11-22T12:10:00Z".parse().unwrap(),
        };
        let timeline = Timeline::new(&locale, &Plan::default(), &[]);
        assert_eq!(timeline.ticks.len(), 8);
        assert!(
            timeline.ticks.iter().all(|t| t.label.ends_with(":00")),
            "{:?}",
            timeline.ticks
        );
        assert!(timeline.columns.is_empty());
    }

    #[test]
    fn a_busy_quarter_is_reckoned_from_its_first_occurrences() {
        assert_eq!(extrapolated(64, 63, 900), 900);
        assert_eq!(extrapolated(64, 63 * 5, 900), 180);
    }

    fn decision(at: Timestamp, kind: DecisionKind, count: u32) -> Decision {
        Decision {
            schedule: runner_core::schedule::ScheduleId::code("a"),
            nominal: at,
            kind,
            reason: String::new(),
            task: None,
            queue: None,
            end: None,
            count,
            decided_at: at,
            instance: String::new(),
        }
    }

    #[test]
    fn decisions_are_counted_in_their_quarter_of_an_hour() {
        let now = Timestamp::from_second(100 * 3600).unwrap();
        let locale = Locale {
            lang: Lang::En,
            zone: jiff::tz::TimeZone::UTC,
            now,
        };
        let ago = |minutes: i64| Timestamp::from_second(100 * 3600 - minutes * 60).unwrap();
        let decisions = [
            decision(ago(1), DecisionKind::Fired, 1),
            decision(ago(14), DecisionKind::Fired, 1),
            decision(ago(15), DecisionKind::Skipped, 1),
            decision(ago(16), DecisionKind::Missed, 7),
            decision(ago(2), DecisionKind::Manual, 1),
            decision(ago(2), DecisionKind::Paused, 9),
            decision(ago(12 * 60 + 1), DecisionKind::Fired, 1),
        ];
        let timeline = Timeline::new(&locale, &Plan::default(), &decisions);
        assert_eq!((timeline.fired, timeline.lost, timeline.due), (2, 8, 0));
        let counted: Vec<(usize, u32, u32)> = timeline.columns.iter().map(|c| (c.x, c.fired_n, c.lost_n)).collect();
        assert_eq!(counted, [(460, 0, 7), (470, 2, 1)]);
    }

    #[test]
    fn a_busy_column_does_not_flatten_the_others() {
        assert_eq!(
            [height(0), height(1), height(2), height(3), height(4)],
            [0, 4, 8, 8, 12]
        );
        assert_eq!(height(u32::MAX), 40);
    }
}
