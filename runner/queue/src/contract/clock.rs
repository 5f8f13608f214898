//! Clauses about a broker's clock that was wrong: what it wrote into the future must not outlive its correction.

use std::time::Duration;

use jiff::Timestamp;
use runner_core::schedule::{MissedRange, Span};
use runner_core::task::{QueueName, Run, TaskState};

use super::schedule::{commit, done, fire, minute, register, schedule, send, standing};
use super::shared::{LEASE, id, secs, task};
use super::{Clause, Fresh};
use crate::{
    Action, CURSOR_AHEAD, Commit, Committed, DecisionKind, GroupRule, LONGEST_LEASE, SET_DEADLINE, Settled, Standing,
    Verdict,
};

/// The steps that are tried: a clock in the wrong zone, one whose battery is empty.
const STEPS: [Duration; 2] = [Duration::from_secs(2 * 3600), Duration::from_secs(365 * 86_400)];

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        a_cursor_that_is_a_minute_ahead_is_waited_for,
        a_cursor_from_a_wrong_clock_is_set_to_the_present_and_put_on_record,
        what_fired_while_the_clock_was_ahead_does_not_fire_again,
        all_since_first_sight_counts_as_fired_if_nothing_was_missed,
        a_clock_that_goes_back_and_forth_repeats_nothing,
        a_cursor_without_fires_behind_it_leaves_nothing_out,
        a_leader_from_a_wrong_clock_is_replaced,
        a_lease_from_a_wrong_clock_is_cut_to_the_longest_one,
        a_lease_from_a_wrong_clock_is_rewritten_by_a_live_worker,
        a_staged_set_from_a_wrong_clock_returns_after_its_time,
        what_waits_for_an_instant_of_a_wrong_clock_can_be_run,
    ]
}

fn ago(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_sub(by).unwrap()
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap()
}

async fn a_cursor_that_is_a_minute_ahead_is_waited_for(fresh: Fresh) {
    let right = fresh.now();
    fresh.clock.advance(CURSOR_AHEAD);
    let ahead = register(&fresh, "s", "1").await.cursor;
    fresh.clock.set(right);
    let again = register(&fresh, "s", "1").await;
    assert_eq!((again.cursor, again.was), (ahead, None));
    assert_eq!(register(&fresh, "s", "2").await.cursor, ahead);
    assert!(fresh.broker.decisions(None, 10).await.unwrap().is_empty());
    assert_eq!(fresh.broker.corrections().await.unwrap(), None);
    fresh.is_sound().await;
}

async fn a_cursor_from_a_wrong_clock_is_set_to_the_present_and_put_on_record(fresh: Fresh) {
    let right = fresh.now();
    for (nth, step) in STEPS.into_iter().enumerate() {
        fresh.clock.set(later(right, step));
        let (same, other) = (format!("same{nth}"), format!("revised{nth}"));
        let wrong = register(&fresh, &same, "1").await.cursor;
        register(&fresh, &other, "1").await;
        fresh.clock.set(right);
        let corrected = register(&fresh, &same, "1").await;
        assert_eq!((corrected.cursor, corrected.was), (right, Some(wrong)));
        assert_eq!(register(&fresh, &other, "2").await.cursor, right);
        let now = standing(&fresh, &same).await;
        assert_eq!((now.cursor, now.was), (right, None));
        let recorded = fresh.broker.decisions(Some(&schedule(&same)), 10).await.unwrap();
        assert_eq!(recorded.len(), 1);
        let (kind, nominal, count) = (recorded[0].kind, recorded[0].nominal, recorded[0].count);
        assert_eq!((kind, nominal, count), (DecisionKind::Corrected, right, 0));
        let distance = format!("{} s ahead", step.as_secs());
        assert!(recorded[0].reason.contains(&distance), "{}", recorded[0].reason);
        let known = fresh.broker.corrections().await.unwrap().unwrap();
        assert_eq!((known.at, known.ahead), (right, step));
        assert_eq!(known.schedules, 2 * (nth as u64 + 1));
        // A second look finds no problem, and it continues like any other.
        assert_eq!(register(&fresh, &same, "1").await.was, None);
    }
    fresh.clock.advance(secs(60));
    done(&fresh, &commit("same0", right, fresh.now())).await;
    fresh.is_sound().await;
}

/// Under a clock that went ahead by `step` the schedule missed what lay between and fired once.
async fn fires_ahead(fresh: &Fresh, name: &str, step: Duration) -> (Timestamp, Timestamp) {
    let (from, right) = minute(fresh, name).await;
    done(fresh, &commit(name, from, right)).await;
    fresh.clock.advance(step);
    let wrong = fresh.now();
    let mut jump = commit(name, right, wrong);
    jump.missed = Some(MissedRange {
        first: later(right, secs(60)),
        last: ago(wrong, secs(60)),
        count: 10,
        more: true,
        bound: None,
    });
    done(fresh, &jump).await;
    fresh.clock.advance(secs(60));
    done(fresh, &commit(name, wrong, fresh.now())).await;
    fresh.clock.set(later(right, secs(60)));
    (fresh.now(), wrong)
}

async fn what_fired_while_the_clock_was_ahead_does_not_fire_again(fresh: Fresh) {
    let step = STEPS[0];
    let (right, wrong) = fires_ahead(&fresh, "s", step).await;
    let last = later(wrong, secs(60));
    let Standing { cursor, ahead, was, .. } = register(&fresh, "s", "1").await;
    assert_eq!((cursor, was), (right, Some(last)));
    let span = Span { from: wrong, to: last };
    assert_eq!(ahead.span_of(wrong), Some(span), "{ahead}");
    assert_eq!(standing(&fresh, "s").await.ahead, ahead);
    // All tasks are gone, so that their ids say nothing any more.
    fresh.claim_ids(99).await;
    // What was only missed by the wrong clock fires when its time has come.
    fresh.clock.set(ago(wrong, secs(60)));
    done(&fresh, &commit("s", right, fresh.now())).await;
    let before = fresh.now();
    fresh.clock.set(later(last, secs(60)));
    for nominal in [wrong, last] {
        let mut twice = commit("s", before, fresh.now());
        twice.fires.insert(0, fire("s", nominal));
        assert_eq!(send(&fresh, &twice).await, Committed::Ahead(ahead.clone()));
    }
    assert_eq!(standing(&fresh, "s").await.cursor, before);
    done(&fresh, &commit("s", before, fresh.now())).await;
    let over = standing(&fresh, "s").await;
    assert_eq!(over.cursor, fresh.now(), "it continues behind the span");
    fresh.is_sound().await;
}

async fn all_since_first_sight_counts_as_fired_if_nothing_was_missed(fresh: Fresh) {
    let right = fresh.now();
    register(&fresh, "s", "1").await;
    fresh.clock.advance(STEPS[0]);
    let wrong = fresh.now();
    done(&fresh, &commit("s", right, wrong)).await;
    fresh.clock.set(later(right, secs(5)));
    let ahead = register(&fresh, "s", "1").await.ahead;
    let known = ahead.span_of(wrong).unwrap();
    assert_eq!(known.to, wrong);
    assert!(known.from > fresh.now(), "{ahead}");
    fresh.is_sound().await;
}

async fn a_clock_that_goes_back_and_forth_repeats_nothing(fresh: Fresh) {
    let mut fired = Vec::new();
    let mut right = register(&fresh, "s", "1").await.cursor;
    for _ in 0..12 {
        fresh.clock.set(later(right, STEPS[0]));
        let wrong = fresh.now();
        let from = standing(&fresh, "s").await.cursor;
        let mut jump = commit("s", from, wrong);
        jump.missed = Some(MissedRange {
            first: from,
            last: ago(wrong, secs(1)),
            count: 1,
            more: true,
            bound: None,
        });
        done(&fresh, &jump).await;
        fired.push(wrong);
        right = later(right, secs(100));
        fresh.clock.set(right);
        assert_eq!(register(&fresh, "s", "1").await.cursor, right);
    }
    let ahead = standing(&fresh, "s").await.ahead;
    for instant in &fired {
        assert!(ahead.span_of(*instant).is_some(), "{instant} would fire again: {ahead}");
    }
    fresh.claim_ids(99).await;
    fresh.clock.set(later(fired[11], secs(1)));
    let again = Commit {
        fires: fired.iter().map(|at| fire("s", *at)).collect(),
        ..commit("s", right, fresh.now())
    };
    assert_eq!(send(&fresh, &again).await, Committed::Ahead(ahead));
    assert!(fresh.list(TaskState::Pending).await.is_empty());
    fresh.is_sound().await;
}

async fn a_leader_from_a_wrong_clock_is_replaced(fresh: Fresh) {
    let right = fresh.now();
    for step in STEPS {
        fresh.clock.set(later(right, step));
        assert!(fresh.broker.lead("dead", secs(10)).await.unwrap());
        fresh.clock.set(right);
        assert!(fresh.broker.lead("next", secs(10)).await.unwrap(), "{step:?}");
        assert!(!fresh.broker.lead("third", secs(10)).await.unwrap());
        fresh.broker.resign("next").await.unwrap();
    }
    fresh.is_sound().await;
}

async fn recovered(fresh: &Fresh) -> usize {
    let queues = [QueueName::default()];
    fresh.broker.recover(&queues, secs(5), 10, 3).await.unwrap().len()
}

async fn a_lease_from_a_wrong_clock_is_cut_to_the_longest_one(fresh: Fresh) {
    let right = fresh.now();
    fresh.put([task("a")]).await;
    fresh.clock.set(later(right, STEPS[1]));
    fresh.claim_one().await;
    fresh.clock.set(right);
    assert_eq!(recovered(&fresh).await, 0);
    let ends = fresh.broker.next_lease_end(&[QueueName::default()]).await.unwrap();
    assert!(ends.unwrap() <= later(right, LONGEST_LEASE), "{ends:?}");
    fresh.clock.advance(LONGEST_LEASE + secs(10));
    assert_eq!(recovered(&fresh).await, 1);
    fresh.is_sound().await;
}

async fn a_lease_from_a_wrong_clock_is_rewritten_by_a_live_worker(fresh: Fresh) {
    let right = fresh.now();
    fresh.put([task("a")]).await;
    fresh.clock.set(later(right, STEPS[0]));
    let claim = fresh.claim_one().await;
    fresh.clock.set(right);
    assert_eq!(recovered(&fresh).await, 0);
    let until = fresh.broker.extend(std::slice::from_ref(&claim), LEASE).await.unwrap();
    assert_eq!(until, [Some(later(right, LEASE))]);
    fresh.clock.advance(secs(10));
    assert_eq!(recovered(&fresh).await, 0);
    assert_eq!(fresh.settle(&claim, Verdict::Done).await, Settled::Accepted);
    fresh.is_sound().await;
}

async fn a_staged_set_from_a_wrong_clock_returns_after_its_time(fresh: Fresh) {
    let right = fresh.now();
    let rule = GroupRule {
        grace: secs(1),
        max_delay: None,
        max_size: Some(1),
    };
    fresh.put([task("a").group("g")]).await;
    fresh.clock.set(later(right, STEPS[0]));
    let staged = fresh.broker.stage(&QueueName::default(), "g", &rule).await.unwrap();
    assert!(staged.is_some());
    fresh.clock.set(right);
    let queues = [QueueName::default()];
    let reclaim = async || fresh.broker.reclaim(&queues, Duration::ZERO, 100).await.unwrap().len();
    assert_eq!(reclaim().await, 0);
    fresh.clock.advance(SET_DEADLINE + secs(2));
    assert_eq!(reclaim().await, 1);
    fresh.is_sound().await;
}

async fn what_waits_for_an_instant_of_a_wrong_clock_can_be_run(fresh: Fresh) {
    let right = fresh.now();
    fresh.clock.set(later(right, STEPS[1]));
    fresh.put([task("a").run(Run::In(secs(300)))]).await;
    fresh.clock.set(right);
    fresh.clock.advance(secs(600));
    // It looks like one that is meant to wait for a year.
    assert_eq!(fresh.forward().await, 0);
    let run = fresh.broker.act(&QueueName::default(), &id("a"), Action::Run).await;
    run.unwrap();
    assert_eq!(fresh.claim_ids(9).await, ["a"]);
    fresh.is_sound().await;
}

async fn a_cursor_without_fires_behind_it_leaves_nothing_out(fresh: Fresh) {
    let (from, right) = minute(&fresh, "s").await;
    done(&fresh, &commit("s", from, right)).await;
    fresh.clock.advance(STEPS[0]);
    // Registered under another revision the cursor is at a wrong present; nothing fired there.
    register(&fresh, "s", "2").await;
    fresh.clock.set(right);
    let corrected = register(&fresh, "s", "2").await;
    assert!(corrected.was.is_some());
    assert!(corrected.ahead.is_empty(), "{}", corrected.ahead);
    fresh.is_sound().await;
}
