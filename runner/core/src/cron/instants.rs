//! From civil times to instants, including times at which a zone's clock jumps or repeats.
//!
//! Two families of rules. *Real*: an occurrence is every real instant whose local clock matches.
//! *Wall*: every matching civil time is one occurrence, at the first pass where the clock repeats
//! and at the end of the gap where it jumps. Both are found by one or two calendar searches plus
//! a bounded number of look-ups in the zone, however rare the occurrences are.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::calendar::Calendar;

/// The treatment of local times that do not exist, or exist twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DstRule {
    /// Expressions of certain hours fire once: repeated times at the first pass, all missing times
    /// together at the first instant after the gap. Expressions of all 24 hours keep their rhythm:
    /// missing times do not occur, repeated ones occur twice.
    #[default]
    Vixie,
    /// As Go schedulers do: missing times do not occur, repeated times occur twice.
    Go,
}

/// Longer than any zone ever turned its clock back (26 h twice over): beyond this, no instant can show a local time that
/// has already passed.
const SETTLED: SignedDuration = SignedDuration::from_hours(3 * 24);

/// Changes of a zone's offset examined one by one, when they come less than [`SETTLED`] apart.
const CLOSE_CHANGES: usize = 16;

/// Gaps that may swallow the whole of an expression one after the other (one or two a year).
const SWALLOWED: usize = 128;

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// The first occurrence at or after `from`, which is a whole second.
pub(super) fn at_or_after(calendar: &Calendar, zone: &TimeZone, dst: DstRule, from: Timestamp) -> Option<Timestamp> {
    if is_real(calendar, dst) {
        real_at_or_after(calendar, zone, from)
    } else {
        let civil = calendar.at_or_after(wall_bound(zone, from))?;
        wall_instant(zone, civil)
    }
}

/// The last occurrence before `until`, which is a whole second.
pub(super) fn before(calendar: &Calendar, zone: &TimeZone, dst: DstRule, until: Timestamp) -> Option<Timestamp> {
    if is_real(calendar, dst) {
        real_before(calendar, zone, until)
    } else {
        let civil = calendar.before(wall_bound(zone, until))?;
        wall_instant(zone, civil)
    }
}

fn is_real(calendar: &Calendar, dst: DstRule) -> bool {
    match dst {
        DstRule::Go => true,
        DstRule::Vixie => calendar.every_hour(),
    }
}

/// The instant that represents a civil time. Monotonic.
fn wall_instant(zone: &TimeZone, civil: DateTime) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(civil).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(civil).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(civil).ok(),
        AmbiguousOffset::Gap { after, .. } => gap_end(zone, civil, after),
    }
}

/// The lowest civil time whose [`wall_instant`] is not before `instant`.
fn wall_bound(zone: &TimeZone, instant: Timestamp) -> DateTime {
    let offset = zone.to_offset(instant);
    let local = offset.to_datetime(instant);
    if let AmbiguousOffset::Fold { before, after } = zone.to_ambiguous_timestamp(local).offset()
        && offset == after
    {
        // The second pass: all times of the fold have occurred already.
        return before.to_datetime(run_start(zone, instant, after));
    }
    let earlier = offset_before(zone, instant);
    if earlier < offset {
        // The end of a gap represents all missing times.
        return earlier.to_datetime(instant);
    }
    local
}

fn real_at_or_after(calendar: &Calendar, zone: &TimeZone, from: Timestamp) -> Option<Timestamp> {
    let mut start = from;
    let mut civil = None;
    for _ in 0..CLOSE_CHANGES {
        let offset = zone.to_offset(start);
        let found = calendar.at_or_after(offset.to_datetime(start))?;
        let hit = offset.to_timestamp(found).ok();
        let Some(change) = zone.following(start).next() else {
            return hit;
        };
        let end = change.timestamp();
        if hit.is_some_and(|hit| hit < end) {
            return hit;
        }
        civil = Some(found);
        if end.duration_since(start) > SETTLED {
            break;
        }
        start = end;
    }
    let mut civil = civil?;
    for _ in 0..SWALLOWED {
        match zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => return offset.to_timestamp(civil).ok(),
            AmbiguousOffset::Fold { before, .. } => return before.to_timestamp(civil).ok(),
            AmbiguousOffset::Gap { after, .. } => {
                let end = gap_end(zone, civil, after)?;
                civil = calendar.at_or_after(after.to_datetime(end))?;
            }
        }
    }
    None
}

fn real_before(calendar: &Calendar, zone: &TimeZone, until: Timestamp) -> Option<Timestamp> {
    let mut end = until;
    let mut civil = None;
    for _ in 0..CLOSE_CHANGES {
        let offset = offset_before(zone, end);
        let found = calendar.before(offset.to_datetime(end))?;
        let hit = offset.to_timestamp(found).ok();
        let Some(change) = zone.preceding(end).next() else {
            return hit;
        };
        let start = change.timestamp();
        if hit.is_some_and(|hit| hit >= start) {
            return hit;
        }
        civil = Some(found);
        if end.duration_since(start) > SETTLED {
            break;
        }
        end = start;
    }
    let mut civil = civil?;
    for _ in 0..SWALLOWED {
        match zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => return offset.to_timestamp(civil).ok(),
            AmbiguousOffset::Fold { after, .. } => return after.to_timestamp(civil).ok(),
            AmbiguousOffset::Gap { before, after } => {
                let end = gap_end(zone, civil, after)?;
                civil = calendar.before(before.to_datetime(end))?;
            }
        }
    }
    None
}

/// The instant at which the gap around `civil` ends; `after` is the offset from then on.
fn gap_end(zone: &TimeZone, civil: DateTime, after: Offset) -> Option<Timestamp> {
    let inside = after.to_timestamp(civil).ok()?;
    let mut changes = zone.following(inside).take(CLOSE_CHANGES);
    let change = changes.find(|change| change.offset() == after)?;
    Some(change.timestamp())
}

/// Since when `offset`, which holds at `instant`, has held. The database also lists changes of the name alone, hence the
/// loop.
fn run_start(zone: &TimeZone, instant: Timestamp, offset: Offset) -> Timestamp {
    let from = instant.checked_add(SECOND).unwrap_or(instant);
    zone.preceding(from)
        .take(CLOSE_CHANGES)
        .take_while(|change| change.offset() == offset)
        .last()
        .map_or(instant, |change| change.timestamp())
}

fn offset_before(zone: &TimeZone, instant: Timestamp) -> Offset {
    zone.to_offset(instant.checked_sub(SECOND).unwrap_or(instant))
}
