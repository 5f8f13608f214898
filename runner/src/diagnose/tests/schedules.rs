//! Schedules that do not fire, and what was decided about their last occurrence.

use std::time::Duration;

use jiff::tz::TimeZone;
use runner_core::cron::Expression;
use runner_core::schedule::{Ahead, Definition, Origin, Overlap, Problem, ScheduleId, Timing, When};
use runner_core::task::{Task, TaskId, TaskState};
use runner_queue::{Decision, DecisionKind, Pause, Standing};

use super::{Case, at, case, codes, facts, pending, queue, served, server, task};
use crate::diagnose::*;

fn definition() -> Definition {
    let timing = Timing {
        when: When::Every {
            every: Duration::from_secs(60),
            phase: Duration::ZERO,
        },
        text: "@every 1m".into(),
        zone_name: "UTC".into(),
        zone: TimeZone::UTC,
        dst: runner_core::cron::DstRule::default(),
    };
    Definition {
        overlap: Overlap::Allow,
        ..Definition::new(
            ScheduleId::code("a"),
            "a",
            Origin::code(),
            timing,
            Task::new("mail").queue(queue("low")),
        )
    }
}

fn standing() -> Standing {
    Standing {
        cursor: at(0),
        paused: None,
        last: Some((at(-60), TaskId::new("1").unwrap())),
        ahead: Ahead::default(),
        was: None,
    }
}

fn decision(kind: DecisionKind) -> Decision {
    Decision {
        schedule: ScheduleId::code("a"),
        nominal: at(-60),
        kind,
        reason: "as it says".to_owned(),
        task: None,
        queue: None,
        end: None,
        count: 1,
        decided_at: at(-60),
        instance: "host:1".to_owned(),
    }
}

/// A schedule with changes in its definition and standing, and what was decided last.
pub(super) fn of_schedule(
    change: impl FnOnce(&mut Definition, &mut Standing),
    decisions: &[Decision],
    broker: &BrokerFacts,
) -> Vec<Reason> {
    let (mut definition, mut standing) = (definition(), standing());
    change(&mut definition, &mut standing);
    let facts = ScheduleFacts {
        definition: &definition,
        standing: Some(&standing),
        decisions,
        superseded: false,
        no_function: false,
        last_task: None,
    };
    why_schedule(&facts, broker)
}

fn healthy() -> Vec<Reason> {
    of_schedule(|_, _| (), &[decision(DecisionKind::Fired)], &served())
}

/// The schedule whose last task is this one.
fn with_last(last: &TaskFacts) -> Vec<Reason> {
    let (definition, standing) = (definition(), standing());
    let facts = ScheduleFacts {
        definition: &definition,
        standing: Some(&standing),
        decisions: &[],
        superseded: false,
        no_function: false,
        last_task: Some((last, "no route")),
    };
    why_schedule(&facts, &served())
}

/// A schedule that no scheduler has registered.
fn unregistered(superseded: bool) -> Vec<Reason> {
    let facts = ScheduleFacts {
        definition: &definition(),
        standing: None,
        decisions: &[],
        superseded,
        no_function: false,
        last_task: None,
    };
    why_schedule(&facts, &served())
}

pub(super) fn cases_of_schedules() -> Vec<Case> {
    use ReasonCode::*;
    let of = |change: fn(&mut Definition, &mut Standing)| of_schedule(change, &[], &served());
    let origin = definition().origin;
    let broken = [
        Problem::warning("W230", "odd", origin.clone()),
        Problem::error("E203", "no such month", origin),
    ];
    let paused = of(|_, standing| standing.paused = Some(Pause::by("ann")));
    let past = of(|definition, _| definition.timing.when = When::At(vec![at(-1)]));
    let disabled = || of(|definition, _| definition.enabled = false);
    let decided_yet = |last: bool| {
        let change = |_: &mut Definition, standing: &mut Standing| {
            standing.last = standing.last.take().filter(|_| last);
        };
        of_schedule(change, &[], &served())
    };
    let (late, in_time) = (of(|_, s| s.cursor = at(-70)), of(|_, s| s.cursor = at(-9)));
    vec![
        case(NotDue, healthy(), disabled()),
        case(Paused, paused, healthy()),
        case(Disabled, disabled(), healthy()),
        case(NoScheduler, late, in_time),
        case(NotRegistered, unregistered(false), healthy()),
        case(NoneLeft, past, healthy()),
        case(NotDecidedYet, decided_yet(false), decided_yet(true)),
        case(
            ClockChange,
            in_zone("2030-03-31T00:30:00Z"),
            in_zone("2030-03-29T00:30:00Z"),
        ),
        case(OtherVersion, unregistered(true), unregistered(false)),
        case(DefinitionBroken, vec![why_broken("a.yaml", &broken)], healthy()),
        case(
            NotInForce,
            why_not_in_force(None, broken.iter()).into_iter().collect(),
            why_not_in_force(Some(("a.yaml", &broken)), broken.iter())
                .into_iter()
                .collect(),
        ),
        case(Absent, vec![why_absent()], healthy()),
        case(Foreign, vec![why_foreign("host:1")], healthy()),
    ]
}

pub(super) fn cases_of_decisions() -> Vec<Case> {
    use ReasonCode::*;
    let decided = |kind| of_schedule(|_, _| (), &[decision(DecisionKind::Manual), decision(kind)], &served());
    let corrected = |hours: i64| {
        let decision = Decision {
            decided_at: at(-3600 * hours),
            ..decision(DecisionKind::Corrected)
        };
        of_schedule(|_, _| (), &[decision], &served())
    };
    let because = |reason: &str| {
        let decision = Decision {
            reason: reason.to_owned(),
            ..decision(DecisionKind::Skipped)
        };
        of_schedule(|_, _| (), &[decision], &served())
    };
    let retry = TaskFacts {
        next_run: Some(at(5)),
        ..task(TaskState::Retry)
    };
    let archived = task(TaskState::Archived);
    let fired = || decided(DecisionKind::Fired);
    let waits = || with_last(&pending());
    vec![
        case(LastMissed, decided(DecisionKind::Missed), fired()),
        case(
            LastLocked,
            because("unique: task 7 holds the lock"),
            because("overlap: task 7"),
        ),
        case(LastRefused, because("invalid: too large"), because("overlap: task 7")),
        case(LastSkipped, decided(DecisionKind::Skipped), fired()),
        case(LastPaused, decided(DecisionKind::Paused), fired()),
        case(Corrected, corrected(23), corrected(24)),
        case(LastTask, waits(), healthy()),
        case(LastTaskRetried, with_last(&retry), waits()),
        case(LastTaskArchived, with_last(&archived), waits()),
    ]
}

#[test]
fn what_needs_someone_comes_first() {
    let paused = |facts: &mut BrokerFacts| facts.queues[0].paused = true;
    let mut broker = facts(vec![server(&["high"])]);
    paused(&mut broker);
    let later = TaskFacts {
        next_run: Some(at(60)),
        ..task(TaskState::Scheduled)
    };
    assert_eq!(codes(&why_task(&later, &broker)), ["W101", "W211", "W111"]);
    let in_order = of_schedule(
        |_, standing| standing.cursor = at(-70),
        &[decision(DecisionKind::Missed)],
        &broker,
    );
    assert_eq!(codes(&in_order), ["S05", "W101", "W211", "S01", "S07"]);
}

#[test]
fn a_schedule_says_why_its_last_task_waits() {
    let mut broker = served();
    broker.queues[0].paused = true;
    let (definition, standing, last) = (definition(), standing(), pending());
    let facts = ScheduleFacts {
        definition: &definition,
        standing: Some(&standing),
        decisions: &[],
        superseded: false,
        no_function: false,
        last_task: Some((&last, "")),
    };
    assert_eq!(codes(&why_schedule(&facts, &broker)), ["W101", "S01", "S20"]);
    assert_eq!(codes(&with_last(&pending())), ["S01", "S20"]);
}

#[test]
fn the_reasons_of_the_last_task_stand_behind_it() {
    let waits = TaskFacts {
        waiting_for: Some("handler mail".to_owned()),
        ..pending()
    };
    assert_eq!(codes(&with_last(&waits)), ["S20", "W116", "S01"]);
    let due = TaskFacts {
        next_run: Some(at(5)),
        ..task(TaskState::Retry)
    };
    assert_eq!(
        codes(&with_last(&due)),
        ["S21", "S01"],
        "when it is due is its own matter"
    );
}

/// A daily schedule in Berlin at this instant; the clock there is put forward on 31 March 2030 at 01:00 UTC.
fn in_zone(now: &str) -> Vec<Reason> {
    let broker = BrokerFacts {
        now: now.parse().unwrap(),
        ..served()
    };
    let change = |definition: &mut Definition, standing: &mut Standing| {
        let expression = Expression::parse("30 2 * * *").unwrap();
        definition.timing.when = When::Cron(vec![expression]);
        definition.timing.zone = TimeZone::get("Europe/Berlin").unwrap();
        "Europe/Berlin".clone_into(&mut definition.timing.zone_name);
        standing.cursor = broker.now;
    };
    of_schedule(change, &[], &broker)
}

#[test]
fn a_clock_change_is_shown_for_a_day_before_and_after_it_where_local_times_matter() {
    let shown = |now| in_zone(now).iter().any(|reason| reason.code == ReasonCode::ClockChange);
    for (now, expected) in [
        ("2030-03-30T00:59:59Z", false),
        ("2030-03-30T01:00:00Z", true),
        ("2030-04-01T00:59:59Z", true),
        ("2030-04-01T01:00:01Z", false),
    ] {
        assert_eq!(shown(now), expected, "{now}");
    }
    let broker = BrokerFacts {
        now: "2030-03-31T00:30:00Z".parse().unwrap(),
        ..served()
    };
    let every_minute = of_schedule(
        |d, _| d.timing.zone = TimeZone::get("Europe/Berlin").unwrap(),
        &[],
        &broker,
    );
    assert!(every_minute.iter().all(|reason| reason.code != ReasonCode::ClockChange));
}
