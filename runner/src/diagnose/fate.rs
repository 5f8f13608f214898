//! How the run of an occurrence ended, as lists, charts and counts of failures take it.
//!
//! Pure: the decisions, with the ends of their tasks, are read elsewhere.

use runner_core::task::AttemptOutcome;
use runner_queue::{Decision, DecisionKind};

/// What happened to an occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its task succeeded.
    Good,
    /// It failed for good.
    Bad,
    /// It is to be tried again, or was cancelled.
    Again,
    /// It waits, runs, or ended where nothing is remembered.
    Open,
    /// There was no task: it was too late.
    Missed,
}

/// What happened to the occurrence of a decision; `None` for skips and pauses.
#[must_use]
pub fn fate(decision: &Decision) -> Option<Fate> {
    match decision.kind {
        DecisionKind::Missed => Some(Fate::Missed),
        DecisionKind::Fired | DecisionKind::Manual => Some(match decision.end.map(|end| end.outcome) {
            None => Fate::Open,
            Some(AttemptOutcome::Success | AttemptOutcome::Revoked) => Fate::Good,
            Some(outcome) if is_failure(outcome) => Fate::Bad,
            Some(_) => Fate::Again,
        }),
        DecisionKind::Skipped | DecisionKind::Paused | DecisionKind::Corrected => None,
    }
}

/// Whether an attempt that ended like this failed for good.
fn is_failure(outcome: AttemptOutcome) -> bool {
    matches!(outcome, AttemptOutcome::Archived | AttemptOutcome::Lost)
}

/// Failed runs since the last one that ended otherwise; those that have not ended do not count.
#[must_use]
pub fn failed_in_a_row(decisions: &[Decision]) -> usize {
    let ended = decisions.iter().filter_map(fate);
    let ended = ended.filter(|fate| !matches!(fate, Fate::Open | Fate::Missed));
    ended.take_while(|fate| *fate == Fate::Bad).count()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use runner_core::schedule::ScheduleId;
    use runner_queue::RunEnd;

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
    fn failures_are_counted_back_to_the_last_other_end() {
        use AttemptOutcome::{Archived, Lost, Retry, Success};
        let running = decision(DecisionKind::Fired, None);
        let skipped = decision(DecisionKind::Skipped, None);
        let failing = [
            running,
            skipped,
            fired(Archived),
            fired(Lost),
            fired(Success),
            fired(Lost),
        ];
        assert_eq!(failed_in_a_row(&failing), 2);
        assert_eq!(failed_in_a_row(&[fired(Success), fired(Lost)]), 0);
        assert_eq!(failed_in_a_row(&[fired(Retry), fired(Lost)]), 0);
        assert_eq!(failed_in_a_row(&[]), 0);
    }
}
