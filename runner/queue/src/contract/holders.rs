//! Clauses about which instance has which schedules, and about those that leave their source and come back.

use crate::{Committed, HOLD_AFTER_END, HOLD_AT_MOST, Held, Pause};

use super::schedule::{commit, done, minute, register, schedule, send, standing};
use super::shared::secs;
use super::{Clause, Fresh};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        a_schedule_that_was_withdrawn_begins_at_its_return,
        a_schedule_that_another_instance_has_is_not_withdrawn,
        what_a_silent_instance_had_is_withdrawn_after_its_time,
        the_holds_of_an_instance_that_ended_properly_are_short,
        an_instance_whose_time_was_over_must_name_all_its_schedules_again,
        what_a_source_held_is_known_until_it_is_withdrawn,
        an_instance_from_a_wrong_clock_holds_nothing,
        a_pause_outlasts_a_withdrawal,
    ]
}

fn held(name: &str) -> Held {
    Held {
        id: schedule(name),
        revision: "1".to_owned(),
        scope: "code-1".to_owned(),
    }
}

async fn hold(fresh: &Fresh, instance: &str, names: &[&str]) -> bool {
    let all: Vec<Held> = names.iter().map(|name| held(name)).collect();
    fresh.broker.hold(instance, &all, secs(30)).await.unwrap()
}

async fn withdraw(fresh: &Fresh, instance: &str, name: &str) -> bool {
    let ids = [schedule(name)];
    let withdrawn = fresh.broker.withdraw(instance, "code-1", &ids).await.unwrap();
    assert!(withdrawn.is_empty() || withdrawn == ids);
    !withdrawn.is_empty()
}

async fn a_schedule_that_was_withdrawn_begins_at_its_return(fresh: Fresh) {
    hold(&fresh, "a", &["s"]).await;
    let (from, to) = minute(&fresh, "s").await;
    assert!(withdraw(&fresh, "a", "s").await);
    assert!(!withdraw(&fresh, "a", "s").await, "once");
    assert_eq!(send(&fresh, &commit("s", from, to)).await, Committed::Unknown);
    fresh.clock.advance(secs(60));
    hold(&fresh, "a", &["s"]).await;
    let back = register(&fresh, "s", "1").await.cursor;
    assert_eq!(back, fresh.now());
    // From there it is like any other: a time without any instance is caught up.
    fresh.clock.advance(secs(600));
    assert_eq!(register(&fresh, "s", "1").await.cursor, back);
    done(&fresh, &commit("s", back, fresh.now())).await;
    fresh.is_sound().await;
}

async fn a_schedule_that_another_instance_has_is_not_withdrawn(fresh: Fresh) {
    hold(&fresh, "a", &["s", "t"]).await;
    hold(&fresh, "b", &["s"]).await;
    let (from, _) = minute(&fresh, "s").await;
    register(&fresh, "t", "1").await;
    // A minute went by.
    hold(&fresh, "b", &["s"]).await;
    assert!(!withdraw(&fresh, "a", "s").await);
    assert!(withdraw(&fresh, "a", "t").await);
    assert_eq!(register(&fresh, "s", "1").await.cursor, from);
    assert!(withdraw(&fresh, "b", "s").await, "the last one that had it");
    fresh.is_sound().await;
}

async fn what_a_silent_instance_had_is_withdrawn_after_its_time(fresh: Fresh) {
    register(&fresh, "s", "1").await;
    hold(&fresh, "dead", &["s"]).await;
    fresh.clock.advance(secs(29));
    assert!(!withdraw(&fresh, "b", "s").await);
    fresh.clock.advance(secs(2));
    assert!(withdraw(&fresh, "b", "s").await);
    fresh.is_sound().await;
}

async fn the_holds_of_an_instance_that_ended_properly_are_short(fresh: Fresh) {
    register(&fresh, "s", "1").await;
    hold(&fresh, "a", &["s"]).await;
    fresh.broker.resign("a").await.unwrap();
    assert!(!withdraw(&fresh, "b", "s").await, "it may only be restarted");
    fresh.clock.advance(HOLD_AFTER_END + secs(1));
    assert!(withdraw(&fresh, "b", "s").await);
    fresh.broker.resign("never seen").await.unwrap();
    fresh.is_sound().await;
}

async fn an_instance_whose_time_was_over_must_name_all_its_schedules_again(fresh: Fresh) {
    register(&fresh, "s", "1").await;
    assert!(!hold(&fresh, "a", &["s"]).await, "nothing was known of it");
    fresh.clock.advance(secs(20));
    assert!(hold(&fresh, "a", &[]).await);
    fresh.clock.advance(secs(20));
    assert!(!withdraw(&fresh, "b", "s").await);
    fresh.clock.advance(secs(20));
    assert!(!hold(&fresh, "a", &[]).await);
    assert!(
        withdraw(&fresh, "b", "s").await,
        "what it said before its time was over does not count"
    );
    fresh.is_sound().await;
}

async fn what_a_source_held_is_known_until_it_is_withdrawn(fresh: Fresh) {
    register(&fresh, "s", "1").await;
    register(&fresh, "t", "1").await;
    hold(&fresh, "a", &["s", "t"]).await;
    let other = Held {
        scope: "code-2".to_owned(),
        ..held("u")
    };
    fresh.broker.hold("a", &[other], secs(30)).await.unwrap();
    fresh.clock.advance(secs(86_400));
    let known = async || {
        let mut ids = fresh.broker.held_from("code-1").await.unwrap();
        ids.sort();
        ids
    };
    assert_eq!(known().await, [schedule("s"), schedule("t")]);
    withdraw(&fresh, "b", "s").await;
    assert_eq!(known().await, [schedule("t")]);
    assert!(fresh.broker.held_from("code-3").await.unwrap().is_empty());
    fresh.is_sound().await;
}

async fn an_instance_from_a_wrong_clock_holds_nothing(fresh: Fresh) {
    let right = fresh.now();
    register(&fresh, "s", "1").await;
    fresh.clock.advance(HOLD_AT_MOST * 10);
    hold(&fresh, "dead", &["s"]).await;
    fresh.clock.set(right);
    assert!(withdraw(&fresh, "b", "s").await);
    fresh.is_sound().await;
}

async fn a_pause_outlasts_a_withdrawal(fresh: Fresh) {
    register(&fresh, "s", "1").await;
    fresh
        .broker
        .pause_schedule(&schedule("s"), &Pause::by("alice"))
        .await
        .unwrap();
    assert!(withdraw(&fresh, "a", "s").await);
    register(&fresh, "s", "1").await;
    assert!(standing(&fresh, "s").await.paused.is_some());
    fresh.is_sound().await;
}
