//! The decision about one instant of a schedule, or why there is none. Pure.

use jiff::{Span, Timestamp};
use runner_core::schedule::Definition;
use runner_queue::{Decision, DecisionKind, Standing};

/// The most occurrences that one decision is followed back over.
const FOLLOWED: u32 = 1_000;

/// The answer about an instant.
#[derive(Debug, Clone, PartialEq)]
pub enum AtInstant<'d> {
    /// There is a decision about it.
    Decided(&'d Decision),
    /// It is one of several occurrences that this decision covers.
    Covered(&'d Decision),
    /// By the rule as it is now, nothing is due then.
    NotDue {
        /// The occurrence before.
        before: Option<Timestamp>,
        /// The one after.
        after: Option<Timestamp>,
    },
    /// It is due, and not decided yet; decided up to here.
    NotYet(Option<Timestamp>),
    /// Decisions as old are not stored any more; the oldest one.
    Forgotten(Timestamp),
    /// Everything up to it is decided, and nothing is recorded: the schedule was not there, not enabled, or had another rule.
    NoRecord,
}

impl AtInstant<'_> {
    /// In a word, for programs and the word list.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Decided(_) => "decided",
            Self::Covered(_) => "covered",
            Self::NotDue { .. } => "not_due",
            Self::NotYet(_) => "not_yet",
            Self::Forgotten(_) => "forgotten",
            Self::NoRecord => "no_record",
        }
    }
}

/// The answer about `at`, a whole second. `decisions` are the newest ones; `all` says whether there are no older ones.
#[must_use]
pub fn at_instant<'d>(
    definition: &Definition,
    standing: Option<&Standing>,
    (decisions, all): (&'d [Decision], bool),
    (at, now): (Timestamp, Timestamp),
) -> AtInstant<'d> {
    let planned = |decision: &&Decision| !matches!(decision.kind, DecisionKind::Manual | DecisionKind::Corrected);
    let planned: Vec<&Decision> = decisions.iter().filter(planned).collect();
    if let Some(decision) = planned.iter().find(|decision| decision.nominal == at) {
        return AtInstant::Decided(decision);
    }
    let timing = &definition.timing;
    let second_before = at.checked_sub(Span::new().seconds(1)).unwrap_or(at);
    if timing.next(second_before) != Some(at) {
        return AtInstant::NotDue {
            before: timing.prev(at),
            after: timing.next(at),
        };
    }
    let later = planned
        .iter()
        .filter(|decision| decision.nominal > at && decision.count > 1);
    if let Some(decision) = later.min_by_key(|decision| decision.nominal)
        && reaches_back(definition, decision, at)
    {
        return AtInstant::Covered(decision);
    }
    let cursor = standing.map(|standing| standing.cursor);
    if cursor.map_or(at > now, |cursor| cursor < at) {
        return AtInstant::NotYet(cursor);
    }
    match planned.iter().map(|decision| decision.nominal).min() {
        Some(oldest) if !all && oldest > at => AtInstant::Forgotten(oldest),
        _ => AtInstant::NoRecord,
    }
}

/// Whether a decision about several occurrences is also about this one.
fn reaches_back(definition: &Definition, decision: &Decision, at: Timestamp) -> bool {
    let most = decision.count.min(FOLLOWED).saturating_sub(1);
    let mut earliest = decision.nominal;
    for _ in 0..most {
        match definition.timing.prev(earliest) {
            Some(before) if before > at => earliest = before,
            Some(before) => return before == at,
            None => return false,
        }
    }
    // Beyond the bound the count alone has to be believed.
    decision.count > FOLLOWED
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use runner_core::cron::DstRule;
    use runner_core::schedule::{Ahead, Origin, ScheduleId, Source, Timing};
    use runner_core::task::Task;

    use super::*;

    fn hourly() -> Definition {
        let id = ScheduleId::row(1);
        let timing = Timing::parse("db:1", "0 * * * *", "UTC", &TimeZone::UTC, DstRule::default()).unwrap();
        let origin = Origin {
            source: Source::Table,
            place: "row".to_owned(),
        };
        Definition::new(id, "n".to_owned(), origin, timing, Task::new("t"))
    }

    fn instant(text: &str) -> Timestamp {
        format!("2026-01-01T{text}:00Z").parse().unwrap()
    }

    fn decision(kind: DecisionKind, nominal: &str, count: u32) -> Decision {
        Decision {
            schedule: ScheduleId::row(1),
            nominal: instant(nominal),
            kind,
            reason: String::new(),
            task: None,
            queue: None,
            end: None,
            count,
            decided_at: instant(nominal),
            instance: String::new(),
        }
    }

    #[test]
    fn each_instant_has_one_answer() {
        let definition = hourly();
        let decisions = [
            decision(DecisionKind::Manual, "09:00", 1),
            decision(DecisionKind::Fired, "08:00", 1),
            decision(DecisionKind::Missed, "07:00", 3),
            decision(DecisionKind::Fired, "03:00", 1),
        ];
        let standing = Standing {
            cursor: instant("08:30"),
            paused: None,
            last: None,
            ahead: Ahead::default(),
            was: None,
        };
        let word = |at: &str, all| {
            at_instant(
                &definition,
                Some(&standing),
                (&decisions, all),
                (instant(at), instant("08:30")),
            )
            .word()
        };
        for (at, expected) in [
            ("08:00", "decided"),
            ("07:00", "decided"),
            ("06:00", "covered"),
            ("05:00", "covered"),
            ("04:00", "no_record"),
            ("08:10", "not_due"),
            ("09:00", "not_yet"),
            ("10:00", "not_yet"),
        ] {
            assert_eq!(word(at, true), expected, "{at}");
        }
        assert_eq!((word("02:00", true), word("02:00", false)), ("no_record", "forgotten"));
        let between = at_instant(
            &definition,
            Some(&standing),
            (&decisions, true),
            (instant("08:10"), instant("08:30")),
        );
        let (before, after) = (Some(instant("08:00")), Some(instant("09:00")));
        assert_eq!(between, AtInstant::NotDue { before, after });
    }
}
