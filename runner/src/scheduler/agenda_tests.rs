//! The agenda by itself: what a new plan changes, what is due in which order, what is registered and withdrawn.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use jiff::tz::TimeZone;
use runner_core::schedule::{Origin, Overlap, Problem, Span, Timing, When};
use runner_core::task::{Task, TaskId};
use runner_queue::Pause;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// Occurs every `seconds` seconds; `at(0)` is on a full minute.
fn every(name: &str, seconds: u64) -> Definition {
    let timing = Timing {
        when: When::Every {
            every: Duration::from_secs(seconds),
            phase: Duration::ZERO,
        },
        text: format!("@every {seconds}s"),
        zone_name: "UTC".into(),
        zone: TimeZone::UTC,
        dst: runner_core::cron::DstRule::default(),
    };
    Definition {
        overlap: Overlap::Allow,
        ..Definition::new(ScheduleId::code(name), name, Origin::code(), timing, Task::new("echo"))
    }
}

fn plan(definitions: &[Definition]) -> Plan {
    Plan {
        schedules: definitions.iter().map(|d| (d.id.clone(), d.clone())).collect(),
        ..Plan::default()
    }
}

fn standing(cursor: i64) -> Standing {
    Standing {
        cursor: at(cursor),
        paused: None,
        last: None,
        ahead: Ahead::default(),
        was: None,
    }
}

fn adopt(agenda: &mut Agenda, plan: &Plan) {
    agenda.adopt(plan, |definition| format!("scope of {}", definition.name));
}

/// An agenda of these schedules, all of which stand at `at(0)`.
fn agenda(definitions: &[Definition]) -> Agenda {
    let mut agenda = Agenda::default();
    adopt(&mut agenda, &plan(definitions));
    for registration in agenda.unregistered() {
        agenda.registered(&registration, &standing(0));
    }
    agenda.all_held();
    agenda
}

fn due(agenda: &Agenda, now: i64, limit: usize, from_last: bool) -> Vec<&str> {
    let due = agenda.due(at(now), limit, from_last);
    due.into_iter()
        .map(|(definition, ..)| definition.name.as_str())
        .collect()
}

fn registered(agenda: &Agenda) -> Vec<ScheduleId> {
    agenda.unregistered().into_iter().map(|r| r.id).collect()
}

#[test]
fn nothing_is_due_before_the_broker_said_where_it_stands() {
    let mut agenda = Agenda::default();
    adopt(&mut agenda, &plan(&[every("a", 60)]));
    assert_eq!((agenda.next_fire(), due(&agenda, 999, 9, false)), (None, Vec::new()));
    assert_eq!(registered(&agenda), [ScheduleId::code("a")]);
    assert_eq!(agenda.unheld()[0].scope, "scope of a");
    agenda.registered(&agenda.unregistered()[0], &standing(0));
    assert_eq!((agenda.next_fire(), registered(&agenda)), (Some(at(60)), Vec::new()));
}

#[test]
fn what_is_due_is_in_the_order_of_its_instants_from_either_end() {
    let agenda = agenda(&[every("a", 60), every("b", 20), every("c", 30)]);
    assert_eq!(due(&agenda, 19, 9, false), Vec::<&str>::new());
    assert_eq!(due(&agenda, 60, 9, false), ["b", "c", "a"]);
    assert_eq!(due(&agenda, 60, 2, true), ["a", "c"]);
    assert_eq!(due(&agenda, 30, 1, false), ["b"]);
}

#[test]
fn a_moved_cursor_plans_the_next_fire_and_keeps_the_last_one() {
    let mut agenda = agenda(&[every("a", 60)]);
    let id = ScheduleId::code("a");
    agenda.moved(&id, at(60), Some(at(60)));
    agenda.moved(&id, at(120), None);
    let entry = agenda.entries().remove(0);
    assert_eq!((entry.next, entry.last), (Some(at(180)), Some(at(60))));
    let mut spans = Ahead::default();
    spans.add(
        Span {
            from: at(121),
            to: at(180),
        },
        at(120),
    );
    agenda.ahead(&id, spans);
    assert_eq!(
        agenda.next_fire(),
        Some(at(240)),
        "what is decided already is passed over"
    );
}

#[test]
fn an_edit_of_the_timing_is_registered_again_and_one_of_the_task_is_not() {
    let mut agenda = agenda(&[every("a", 60)]);
    let mut edited = every("a", 60);
    edited.task = Task::new("other");
    adopt(&mut agenda, &plan(std::slice::from_ref(&edited)));
    assert_eq!((registered(&agenda).len(), agenda.next_fire()), (0, Some(at(60))));
    assert_eq!(agenda.due(at(60), 1, false)[0].0.task.kind, "other");
    adopt(&mut agenda, &plan(&[every("a", 30)]));
    assert_eq!((registered(&agenda).len(), agenda.unheld().len()), (1, 1));
    assert_eq!(
        agenda.next_fire(),
        None,
        "the broker first says where the cursor is now"
    );
}

#[test]
fn what_left_the_plan_is_withdrawn_unless_it_is_broken_or_left_to_another_instance() {
    let all = [
        every("gone", 60),
        every("broken", 60),
        every("left", 60),
        every("stays", 60),
    ];
    let mut agenda = agenda(&all);
    let mut next = plan(&[all[2].clone(), all[3].clone()]);
    next.superseded.insert(ScheduleId::code("left"));
    let error = Problem::error("E203", "no", all[1].origin.clone()).about(ScheduleId::code("broken"));
    next.problems.push(error);
    adopt(&mut agenda, &next);
    let gone = BTreeMap::from([("scope of gone".to_owned(), vec![ScheduleId::code("gone")])]);
    assert_eq!(agenda.gone(), gone);
    assert_eq!(due(&agenda, 60, 9, false), ["stays"]);
    agenda.withdrawn();
    assert_eq!(agenda.gone(), BTreeMap::new());
}

#[test]
fn a_paused_or_disabled_schedule_is_never_due_and_a_paused_one_is_looked_at_again() {
    let mut off = every("off", 60);
    off.enabled = false;
    let mut agenda = agenda(&[every("a", 60), off]);
    let id = ScheduleId::code("a");
    agenda.paused(&id);
    assert_eq!((agenda.next_fire(), agenda.entries().len()), (None, 0));
    agenda.recheck_doubtful(at(60));
    assert_eq!(registered(&agenda), std::slice::from_ref(&id));
    let paused = Standing {
        paused: Some(Pause::by("ann")),
        last: Some((at(0), TaskId::new("1").unwrap())),
        ..standing(0)
    };
    agenda.adopt_cursor(&id, &paused);
    assert_eq!(agenda.next_fire(), None);
    agenda.adopt_cursor(&id, &standing(60));
    assert_eq!(agenda.next_fire(), Some(at(120)));
}

#[test]
fn a_cursor_that_is_too_late_or_unknown_is_asked_for_again() {
    let mut agenda = agenda(&[every("a", 60), every("b", 60)]);
    let (a, b) = (ScheduleId::code("a"), ScheduleId::code("b"));
    agenda.moved(&a, at(600), None);
    agenda.recheck_doubtful(at(599));
    assert_eq!(registered(&agenda), [a]);
    agenda.unknown(&b);
    assert_eq!((registered(&agenda).len(), agenda.next_fire()), (2, Some(at(660))));
    agenda.none_held();
    assert_eq!(agenda.unheld().len(), 2);
}

#[test]
fn registrations_come_in_batches() {
    let definitions: Vec<Definition> = (0..=REGISTER_BATCH).map(|n| every(&format!("s{n}"), 60)).collect();
    let mut agenda = Agenda::default();
    adopt(&mut agenda, &plan(&definitions));
    let first = agenda.unregistered();
    assert_eq!(first.len(), REGISTER_BATCH);
    first
        .iter()
        .for_each(|registration| agenda.registered(registration, &standing(0)));
    assert_eq!(agenda.unregistered().len(), 1);
}
