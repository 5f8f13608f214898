//! The last runs of a schedule in a row of small bars.
//!
//! Pure geometry; the decisions are read elsewhere, and how each ended is judged by `diagnose`.

use std::fmt::Write as _;

use runner_queue::Decision;
use serde::Serialize;

use crate::diagnose::{Fate, fate};

/// Decisions drawn.
pub const DRAWN: usize = 20;

/// Width of the place of one bar, in units of the drawing.
const STEP: usize = 6;

/// The drawing: one path for each kind of bar, the newest run at the right.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct RunStrip {
    width: usize,
    good: String,
    bad: String,
    again: String,
    open: String,
    missed: String,
    runs: usize,
    failed: usize,
    missed_n: usize,
}

impl RunStrip {
    /// Draws decisions that are given newest first. `None` if there is nothing to draw.
    #[must_use]
    pub fn new(decisions: &[Decision]) -> Option<Self> {
        let mut fates: Vec<Fate> = decisions.iter().filter_map(fate).take(DRAWN).collect();
        if fates.is_empty() {
            return None;
        }
        fates.reverse();
        let mut strip = Self {
            width: DRAWN * STEP,
            ..Self::default()
        };
        let first = DRAWN - fates.len();
        for (place, fate) in fates.into_iter().enumerate() {
            let x = (first + place) * STEP;
            strip.runs += usize::from(fate != Fate::Missed);
            // Top and height differ with the outcome, so that colour is not the only sign.
            let (path, top, height) = match fate {
                Fate::Good => (&mut strip.good, 6, 10),
                Fate::Bad => (&mut strip.bad, 0, 16),
                Fate::Again => (&mut strip.again, 3, 13),
                Fate::Open => (&mut strip.open, 12, 4),
                Fate::Missed => (&mut strip.missed, 0, 5),
            };
            // Writing to a String cannot fail.
            let _infallible = write!(path, "M{x} {top}h4v{height}h-4z");
            strip.failed += usize::from(fate == Fate::Bad);
            strip.missed_n += usize::from(fate == Fate::Missed);
        }
        Some(strip)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jiff::Timestamp;
    use runner_core::schedule::ScheduleId;
    use runner_core::task::AttemptOutcome;
    use runner_queue::{DecisionKind, RunEnd};

    use super::*;

    fn decision(kind: DecisionKind, outcome: Option<AttemptOutcome>) -> Decision {
        let at = Timestamp::UNIX_EPOCH;
        Decision {
            schedule: ScheduleId::code("a"),
            nominal: at,
            kind,
            reason: String::new(),
            task: None,
            queue: None,
            end: outcome.map(|outcome| RunEnd {
                outcome,
                started_at: at,
                ended_at: at,
            }),
            count: 1,
            decided_at: at,
            instance: String::new(),
        }
    }

    fn fired(outcome: AttemptOutcome) -> Decision {
        decision(DecisionKind::Fired, Some(outcome))
    }

    #[test]
    fn the_newest_run_is_at_the_right() {
        let missed = decision(DecisionKind::Missed, None);
        let strip = RunStrip::new(&[fired(AttemptOutcome::Archived), missed, fired(AttemptOutcome::Success)]).unwrap();
        assert_eq!((strip.runs, strip.failed, strip.missed_n), (2, 1, 1));
        assert_eq!(strip.bad, "M114 0h4v16h-4z");
        assert_eq!(strip.missed, "M108 0h4v5h-4z");
        assert_eq!(strip.good, "M102 6h4v10h-4z");
        let many = vec![fired(AttemptOutcome::Success); 100];
        assert_eq!(RunStrip::new(&many).unwrap().runs, DRAWN);
        assert!(RunStrip::new(&[decision(DecisionKind::Paused, None)]).is_none());
    }
}
