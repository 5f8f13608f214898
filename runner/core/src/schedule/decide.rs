//! Decides the occurrences between a schedule's cursor and now: a pure function.
//!
//! Whether the previous task is still running is unknown here; the broker checks it in the atomic step that enqueues.

use std::time::Duration;

use jiff::Timestamp;

use super::{Ahead, CatchUpPolicy, Definition, SCHEDULE_HEADER, stable_hash};
use crate::task::{Run, Task, TaskId, TraceContext};

/// An occurrence counts as on time, and always fires, until the next one is due, but at least this long: a new leader needs
/// some seconds, and a schedule of every second must not lose fires to that.
pub const SHORTEST_GRACE: Duration = Duration::from_secs(15);

/// The longest time after its fire instant that an occurrence counts as on time.
pub const LONGEST_GRACE: Duration = Duration::from_secs(60);

/// How many occurrences one decision examines, newest first; older ones are counted as "more".
///
/// Enough for the largest `catch_up.max` (1000) and a schedule of every second within [`LONGEST_GRACE`].
pub const SCAN_LIMIT: usize = 1100;

/// An occurrence to enqueue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fire {
    /// The instant according to the rule; identifies the occurrence.
    pub nominal: Timestamp,
    /// Nominal instant plus jitter.
    pub fire_at: Timestamp,
    /// The previous occurrence by the calendar, whether it ran or not.
    pub interval_start: Option<Timestamp>,
    /// Whether it runs late, under the catch-up policy.
    pub catch_up: bool,
    /// How many missed occurrences it represents.
    pub missed: u32,
}

/// A range of occurrences that are recorded as missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissedRange {
    /// The oldest one examined.
    pub first: Timestamp,
    /// The newest one.
    pub last: Timestamp,
    /// How many were counted.
    pub count: u32,
    /// Whether there are older ones that were not counted.
    pub more: bool,
    /// The bound of `catch_up: all`, if some do not run because of it.
    pub bound: Option<u32>,
}

impl MissedRange {
    /// The details in the decision's reason besides the lateness.
    #[must_use]
    pub fn note(&self) -> String {
        let mut note = String::new();
        if let Some(bound) = self.bound {
            note.push_str(&format!(
                "; catch_up all runs the newest {bound} at most (catch_up.max)"
            ));
        }
        if self.more {
            note.push_str("; older ones were not counted");
        }
        note
    }
}

/// The decision about everything in `(cursor, to]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The new cursor: the newest decided nominal instant.
    pub to: Timestamp,
    /// Occurrences to enqueue, oldest first.
    pub fires: Vec<Fire>,
    /// Occurrences to record as missed, if any.
    pub missed: Option<MissedRange>,
}

/// The occurrences in `(cursor, end]`, which fell into a pause that ends at `end`; counts at most the newest
/// [`SCAN_LIMIT`].
#[must_use]
pub fn paused_range(definition: &Definition, cursor: Timestamp, ahead: &Ahead, end: Timestamp) -> Option<MissedRange> {
    let mut range: Option<MissedRange> = None;
    let mut before = end.checked_add(Duration::from_nanos(1)).unwrap_or(end);
    while let Some(nominal) = definition.timing.prev(before).filter(|nominal| *nominal > cursor) {
        if let Some(span) = ahead.span_of(nominal) {
            before = span.from;
            continue;
        }
        let found = range.get_or_insert(MissedRange {
            first: nominal,
            last: nominal,
            count: 0,
            more: false,
            bound: None,
        });
        if found.count as usize == SCAN_LIMIT {
            found.more = true;
            break;
        }
        (found.first, found.count) = (nominal, found.count + 1);
        before = nominal;
    }
    range
}

/// The jitter of one occurrence: the same on every instance, less than half the distance to the next one.
#[must_use]
pub fn jitter_of(definition: &Definition, nominal: Timestamp) -> Duration {
    let wanted = u64::try_from(definition.jitter.as_millis()).unwrap_or(u64::MAX);
    if wanted == 0 {
        return Duration::ZERO;
    }
    let room = definition.timing.next(nominal).map_or(u64::MAX, |next| {
        u64::try_from(next.duration_since(nominal).as_millis()).unwrap_or(0) / 2
    });
    let bound = wanted.min(room);
    let hash = stable_hash(&[definition.id.as_str(), &nominal.as_second().to_string()]);
    Duration::from_millis(hash % bound.saturating_add(1))
}

/// Decides every occurrence after `cursor` whose fire instant is not after `now`, except those in `ahead`, which are
/// already decided. `None` if there is none.
///
/// Examines at most [`SCAN_LIMIT`] occurrences, whatever the distance between cursor and now.
#[must_use]
pub fn decide(definition: &Definition, cursor: Timestamp, ahead: &Ahead, now: Timestamp) -> Option<Decided> {
    let (due, more) = due_newest_first(definition, cursor, ahead, now);
    let to = due.first()?.0;
    let (on_time, late): (Vec<_>, Vec<_>) = due
        .into_iter()
        .partition(|(nominal, fire_at)| elapsed(*fire_at, now) <= grace_of(definition, *nominal));

    let window = definition.catch_up.window;
    let inside = late
        .iter()
        .take_while(|(_, fire_at)| elapsed(*fire_at, now) <= window)
        .count();
    let caught = match definition.catch_up.policy {
        CatchUpPolicy::None => 0,
        CatchUpPolicy::Last if on_time.is_empty() => inside.min(1),
        CatchUpPolicy::Last => 0,
        CatchUpPolicy::All => inside.min(definition.catch_up.max as usize),
    };
    let (run_late, given_up) = late.split_at(caught);
    let bound =
        (definition.catch_up.policy == CatchUpPolicy::All && inside > caught).then_some(definition.catch_up.max);
    let missed = missed_range(given_up, more, bound);
    let mut stands_for = missed.map_or(0, |m| m.count);

    let mut fires = Vec::with_capacity(on_time.len() + run_late.len());
    for ((nominal, fire_at), catch_up) in run_late
        .iter()
        .rev()
        .map(|o| (*o, true))
        .chain(on_time.iter().rev().map(|o| (*o, false)))
    {
        let missed = std::mem::take(&mut stands_for);
        let interval_start = definition.timing.prev(nominal);
        fires.push(Fire {
            nominal,
            fire_at,
            interval_start,
            catch_up,
            missed,
        });
    }
    Some(Decided { to, fires, missed })
}

/// How long the occurrence counts as on time.
fn grace_of(definition: &Definition, nominal: Timestamp) -> Duration {
    let next = definition.timing.next(nominal);
    next.map_or(LONGEST_GRACE, |next| elapsed(nominal, next))
        .clamp(SHORTEST_GRACE, LONGEST_GRACE)
}

/// Due occurrences with their fire instants, newest first, and whether older ones were left out.
fn due_newest_first(
    definition: &Definition,
    cursor: Timestamp,
    ahead: &Ahead,
    now: Timestamp,
) -> (Vec<(Timestamp, Timestamp)>, bool) {
    let mut due = Vec::new();
    let mut before = now.checked_add(Duration::from_nanos(1)).unwrap_or(now);
    while let Some(nominal) = definition.timing.prev(before) {
        if nominal <= cursor {
            return (due, false);
        }
        if let Some(span) = ahead.span_of(nominal) {
            before = span.from;
            continue;
        }
        if due.len() == SCAN_LIMIT {
            return (due, true);
        }
        let fire_at = nominal.checked_add(jitter_of(definition, nominal)).unwrap_or(nominal);
        if fire_at <= now {
            due.push((nominal, fire_at));
        }
        before = nominal;
    }
    (due, false)
}

fn elapsed(from: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(from)).unwrap_or(Duration::ZERO)
}

fn missed_range(newest_first: &[(Timestamp, Timestamp)], more: bool, bound: Option<u32>) -> Option<MissedRange> {
    let (last, first) = (newest_first.first()?.0, newest_first.last()?.0);
    Some(MissedRange {
        first,
        last,
        count: u32::try_from(newest_first.len()).unwrap_or(u32::MAX),
        more,
        bound,
    })
}

/// The task of a manual run: not an occurrence, so it has a separate id. It begins a trace.
#[must_use]
pub fn manual_task(definition: &Definition) -> Task {
    let mut task = definition.task.clone();
    task.id = TaskId::new(format!("{}@manual-{}", definition.id, TaskId::random())).ok();
    task.run = Run::Now;
    task.trace_by(TraceContext::root(true), None);
    task.header(SCHEDULE_HEADER, definition.id.as_str())
        .header("runner-fire-kind", "manual")
}

/// The task of one fire: the definition's template with the identity of the occurrence.
///
/// The id is `<schedule>@<nominal instant>`, so a repeated commit can never create a second task. The `runner-…` headers
/// describe the occurrence to handlers.
#[must_use]
pub fn fire_task(definition: &Definition, fire: &Fire) -> Task {
    let mut task = definition.task.clone();
    let stamp = fire.nominal.strftime("%Y%m%dT%H%M%SZ");
    task.id = TaskId::new(format!("{}@{stamp}", definition.id)).ok();
    task.run = Run::Now;
    let mut header = |key: &str, value: String| {
        task.headers.insert(key.to_owned(), value);
    };
    header(SCHEDULE_HEADER, definition.id.to_string());
    header("runner-scheduled-at", fire.nominal.to_string());
    header("runner-fire-kind", "schedule".to_owned());
    if let Some(start) = fire.interval_start {
        header("runner-interval-start", start.to_string());
    }
    if fire.catch_up {
        header("runner-catch-up", "true".to_owned());
    }
    if fire.missed > 0 {
        header("runner-missed", fire.missed.to_string());
    }
    task
}
