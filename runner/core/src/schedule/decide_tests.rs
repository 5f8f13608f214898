//! The decision, case by case: on time, late, paused by policy, bounded, repeatable.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::cron::DstRule;
use crate::task::Task;

const MINUTE: u64 = 60;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// Occurs at every multiple of `every` seconds after `at(0)`, which is on a full minute.
fn every(every: u64, policy: CatchUpPolicy) -> Definition {
    let timing = Timing {
        when: When::Every {
            every: Duration::from_secs(every),
            phase: Duration::ZERO,
        },
        text: format!("@every {every}s"),
        zone_name: "UTC".into(),
        zone: TimeZone::UTC,
        dst: DstRule::default(),
    };
    Definition {
        overlap: Overlap::Allow,
        catch_up: policy.into(),
        ..Definition::new(ScheduleId::code("a"), "a", Origin::code(), timing, Task::new("echo"))
    }
}

fn nominals(decided: &Decided) -> Vec<i64> {
    decided
        .fires
        .iter()
        .map(|f| f.nominal.as_second() - 1_800_000_000)
        .collect()
}

#[test]
fn nothing_is_decided_before_the_instant() {
    let schedule = every(MINUTE, CatchUpPolicy::Last);
    assert_eq!(decide(&schedule, at(0), &Ahead::default(), at(59)), None);
    let decided = decide(&schedule, at(0), &Ahead::default(), at(60)).unwrap();
    assert_eq!(
        (decided.to, nominals(&decided), decided.missed),
        (at(60), vec![60], None)
    );
    assert_eq!(decided.fires[0].interval_start, Some(at(0)));
}

#[test]
fn on_time_occurrences_all_fire_whatever_the_policy() {
    let seconds = decide(&every(5, CatchUpPolicy::None), at(0), &Ahead::default(), at(17)).unwrap();
    assert_eq!(nominals(&seconds), [5, 10, 15]);
    assert!(seconds.fires.iter().all(|f| !f.catch_up));
}

#[test]
fn an_occurrence_is_on_time_until_the_next_one_but_for_at_least_fifteen_seconds() {
    let decided = decide(&every(20, CatchUpPolicy::None), at(0), &Ahead::default(), at(79)).unwrap();
    assert_eq!((nominals(&decided), decided.missed.unwrap().count), (vec![60], 2));
    let decided = decide(&every(5, CatchUpPolicy::Last), at(0), &Ahead::default(), at(61)).unwrap();
    assert_eq!(
        (nominals(&decided), decided.missed.unwrap().count),
        (vec![50, 55, 60], 9)
    );
}

#[test]
fn late_ones_follow_the_policy() {
    let (cursor, now) = (at(0), at(30 * 60 + 59));
    let cases = [
        (CatchUpPolicy::None, vec![1800], 29),
        (CatchUpPolicy::Last, vec![1800], 29),
    ];
    for (policy, fires, missed) in cases {
        let decided = decide(&every(MINUTE, policy), cursor, &Ahead::default(), now).unwrap();
        assert_eq!(
            (nominals(&decided), decided.missed.unwrap().count),
            (fires, missed),
            "{policy:?}"
        );
        assert_eq!(decided.fires[0].missed, 29, "it stands for the missed ones");
    }
    let all = decide(&every(MINUTE, CatchUpPolicy::All), cursor, &Ahead::default(), now).unwrap();
    assert_eq!(all.fires.len(), 30);
    assert_eq!(all.missed, None);
    assert!(
        all.fires.windows(2).all(|w| w[0].nominal < w[1].nominal),
        "oldest first"
    );
}

#[test]
fn without_one_on_time_the_last_late_one_runs_inside_the_window_only() {
    let hourly = every(3600, CatchUpPolicy::Last);
    let base = 1_800_000_000 % 3600;
    let occurrence = 3600 - base;
    let late = decide(&hourly, at(0), &Ahead::default(), at(occurrence + 1800)).unwrap();
    assert_eq!(nominals(&late), [occurrence]);
    assert!(late.fires[0].catch_up);
    let mut short = hourly;
    short.catch_up.window = Duration::from_secs(600);
    let too_late = decide(&short, at(0), &Ahead::default(), at(occurrence + 1800)).unwrap();
    assert_eq!(too_late.fires, []);
    assert_eq!(too_late.missed.unwrap().count, 1);
    assert_eq!(too_late.to, at(occurrence));
}

#[test]
fn all_is_bounded_by_its_maximum_and_window() {
    let mut schedule = every(MINUTE, CatchUpPolicy::All);
    schedule.catch_up.max = 5;
    let decided = decide(&schedule, at(0), &Ahead::default(), at(3600)).unwrap();
    assert_eq!(decided.fires.iter().filter(|f| f.catch_up).count(), 5);
    let missed = decided.missed.unwrap();
    assert_eq!((missed.last, missed.bound), (at(3600 - 7 * 60), Some(5)));
    assert_eq!(missed.note(), "; catch_up all runs the newest 5 at most (catch_up.max)");
    // Occurrences outside the window are missed because of it, not because of the bound.
    schedule.catch_up = CatchUp {
        window: Duration::from_secs(240),
        max: 5,
        ..schedule.catch_up
    };
    let missed = decide(&schedule, at(0), &Ahead::default(), at(3600))
        .unwrap()
        .missed
        .unwrap();
    assert_eq!((missed.bound, missed.note().as_str()), (None, ""));
}

#[test]
fn years_of_downtime_cost_a_bounded_look() {
    let schedule = every(1, CatchUpPolicy::All);
    let decided = decide(&schedule, Timestamp::UNIX_EPOCH, &Ahead::default(), at(0)).unwrap();
    assert_eq!(decided.to, at(0));
    let missed = decided.missed.unwrap();
    assert!(missed.more);
    assert!(decided.fires.len() <= SCAN_LIMIT);
}

#[test]
fn the_task_of_a_fire_names_its_occurrence() {
    let schedule = every(MINUTE, CatchUpPolicy::Last);
    let decided = decide(&schedule, at(0), &Ahead::default(), at(60)).unwrap();
    let task = fire_task(&schedule, &decided.fires[0]);
    assert_eq!(task.id.unwrap().as_str(), "code:a@20270115T080100Z");
    assert_eq!(task.headers["runner-scheduled-at"], "2027-01-15T08:01:00Z");
    assert_eq!(task.headers["runner-interval-start"], "2027-01-15T08:00:00Z");
}

proptest! {
    /// However time is split into decisions, every occurrence is decided exactly once.
    #[test]
    fn every_occurrence_is_decided_once(
        period in 1u64..400,
        jitter in 0u64..300,
        steps in prop::collection::vec(0i64..900, 1..20),
        policy in prop::sample::select(vec![CatchUpPolicy::None, CatchUpPolicy::Last, CatchUpPolicy::All]),
    ) {
        let mut schedule = every(period, policy);
        schedule.jitter = Duration::from_secs(jitter);
        let (mut cursor, mut now) = (at(0), at(0));
        let (mut fired, mut missed) = (Vec::new(), 0usize);
        for step in steps {
            now += Duration::from_secs(step.unsigned_abs());
            if let Some(decided) = decide(&schedule, cursor, &Ahead::default(), now) {
                prop_assert!(decided.to > cursor && decided.to <= now);
                prop_assert!(decided.fires.iter().all(|f| f.fire_at <= now && f.nominal > cursor));
                prop_assert!(!decided.missed.is_some_and(|m| m.more));
                fired.extend(decided.fires.iter().map(|f| f.nominal));
                missed += decided.missed.map_or(0, |m| m.count as usize);
                cursor = decided.to;
            }
        }
        prop_assert!(fired.windows(2).all(|w| w[0] < w[1]), "each once and in order");
        let expected = std::iter::successors(schedule.timing.next(at(0)), |t| schedule.timing.next(*t))
            .take_while(|t| *t <= cursor)
            .count();
        prop_assert_eq!(fired.len() + missed, expected);
    }
}
