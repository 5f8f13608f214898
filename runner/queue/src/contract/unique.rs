//! Clauses about what happens to a task whose uniqueness lock another one holds: refused, replacing it, or giving it its time.
//!
//! The lock in asynq's form, where the second one is refused, is in `produce`.

use runner_core::task::{Task, TaskState, Unique, UniqueKey};

use super::shared::{id, retry, secs, task};
use super::{Clause, Fresh};
use crate::{Delivery, Refusal, Verdict};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        by_a_key_tasks_are_the_same_whatever_their_payloads,
        by_a_path_that_leads_nowhere_only_equal_payloads_are_the_same,
        a_task_that_waits_is_replaced_and_keeps_its_id,
        within_one_call_the_last_one_replaces_the_others,
        a_task_to_be_retried_is_replaced_as_if_it_were_new,
        a_task_in_a_group_is_replaced,
        a_task_that_runs_is_not_replaced,
        while_its_task_runs_a_lock_for_waiting_tasks_does_not_count,
        a_task_that_waits_takes_the_time_of_the_second_one,
        a_replacement_that_is_repeated_changes_nothing_more,
        the_end_of_a_replaced_task_releases_the_lock,
    ]
}

fn lock() -> Unique {
    Unique::new(secs(600)).key("site")
}

fn build(name: &str, payload: &'static str, unique: Unique) -> Task {
    Task::new("build").id(id(name)).payload(payload).unique(unique)
}

async fn by_a_key_tasks_are_the_same_whatever_their_payloads(fresh: Fresh) {
    fresh.put([build("a", "1", lock())]).await;
    assert_eq!(fresh.try_put(build("b", "2", lock())).await, Err(Refusal::Duplicate));
    let holder = fresh.broker.lock_holder(&build("b", "2", lock())).await.unwrap();
    assert_eq!(holder, Some(id("a")));
    fresh.put([build("c", "1", lock().key("another"))]).await;
    // Not the lock of the payload.
    fresh.put([build("d", "site", Unique::new(secs(600)))]).await;
    fresh.is_sound().await;
}

async fn by_a_path_that_leads_nowhere_only_equal_payloads_are_the_same(fresh: Fresh) {
    let lock = || Unique {
        key: Some(UniqueKey::Payload("pgae".to_owned())),
        ..Unique::new(secs(600)).replace()
    };
    fresh
        .put([
            build("a", r#"{"page":1}"#, lock()),
            build("b", r#"{"page":2}"#, lock()),
            build("c", r#"{"page":1}"#, lock()),
        ])
        .await;
    assert_eq!(fresh.list(TaskState::Pending).await, ["b", "a"]);
    fresh.is_sound().await;
}

async fn a_task_that_waits_is_replaced_and_keeps_its_id(fresh: Fresh) {
    fresh
        .put([task("before"), build("a", "1", lock()).delay(secs(30))])
        .await;
    fresh.clock.advance(secs(20));
    let second = build("b", "2", lock().replace()).max_retry(3).delay(secs(30));
    let taken = fresh.try_put(second).await.unwrap();
    assert_eq!((taken.id, taken.state), (id("a"), TaskState::Scheduled));
    assert!(fresh.look("b").await.is_none());
    assert_eq!(fresh.list(TaskState::Scheduled).await, ["a"]);
    fresh.clock.advance(secs(20));
    fresh.forward().await;
    assert_eq!(
        fresh.list(TaskState::Scheduled).await,
        ["a"],
        "its time is that of the second one"
    );
    // A delayed one by one that is due at once.
    let taken = fresh.try_put(build("c", "3", lock().replace())).await.unwrap();
    assert_eq!((taken.id, taken.state), (id("a"), TaskState::Pending));
    let taken = fresh.try_put(build("c", "4", lock().replace())).await.unwrap();
    assert_eq!((taken.id, taken.state), (id("a"), TaskState::Pending));
    assert_eq!(fresh.claim_ids(1).await, ["before"]);
    let claim = fresh.claim_one().await;
    assert_eq!((claim.task().id.as_str(), &claim.task().payload[..]), ("a", &b"4"[..]));
    assert_eq!(
        claim.task().max_retry,
        25,
        "options of one that was replaced do not count"
    );
    fresh.is_sound().await;
}

async fn within_one_call_the_last_one_replaces_the_others(fresh: Fresh) {
    let all = ["1", "2", "3"].map(|payload| build(payload, payload, lock().replace()));
    let answers = fresh.broker.enqueue(&all).await.unwrap();
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_ref().is_ok_and(|taken| taken.id == id("1")))
    );
    assert_eq!(fresh.list(TaskState::Pending).await, ["1"]);
    assert_eq!(&fresh.claim_one().await.task().payload[..], b"3");
    fresh.is_sound().await;
}

async fn a_task_to_be_retried_is_replaced_as_if_it_were_new(fresh: Fresh) {
    fresh.put([build("a", "1", lock())]).await;
    let claim = fresh.claim_one().await;
    fresh.end(&claim, retry(60, "no")).await;
    let taken = fresh.try_put(build("b", "2", lock().replace())).await.unwrap();
    assert_eq!(taken.id, id("a"));
    assert!(fresh.list(TaskState::Retry).await.is_empty());
    let claim = fresh.claim_one().await;
    assert_eq!((claim.task().retried, claim.task().last_error.as_str()), (0, ""));
    fresh.is_sound().await;
}

async fn a_task_in_a_group_is_replaced(fresh: Fresh) {
    fresh.put([build("a", "1", lock()).group("g")]).await;
    let moved = fresh.try_put(build("b", "2", lock().reschedule())).await;
    assert_eq!(moved, Err(Refusal::Duplicate), "it has no time");
    let taken = fresh.try_put(build("b", "2", lock().replace())).await.unwrap();
    assert_eq!((taken.id, taken.state), (id("a"), TaskState::Pending));
    assert!(fresh.list(TaskState::Aggregating).await.is_empty());
    fresh.is_sound().await;
}

async fn a_task_that_runs_is_not_replaced(fresh: Fresh) {
    fresh.put([build("a", "1", lock())]).await;
    let claim = fresh.claim_one().await;
    for unique in [lock().replace(), lock().reschedule(), lock()] {
        assert_eq!(fresh.try_put(build("b", "2", unique)).await, Err(Refusal::Duplicate));
    }
    fresh.end(&claim, Verdict::Done).await;
    fresh.put([build("b", "2", lock().replace())]).await;
    fresh.is_sound().await;
}

async fn while_its_task_runs_a_lock_for_waiting_tasks_does_not_count(fresh: Fresh) {
    fresh.put([build("a", "1", lock())]).await;
    assert_eq!(
        fresh.try_put(build("b", "2", lock().while_pending())).await,
        Err(Refusal::Duplicate)
    );
    let claim = fresh.claim_one().await;
    let taken = fresh.try_put(build("b", "2", lock().while_pending().replace())).await;
    assert_eq!(taken.unwrap().id, id("b"));
    fresh.end(&claim, Verdict::Done).await;
    // The lock is that of the second one now.
    let taken = fresh.try_put(build("c", "3", lock().while_pending().replace())).await;
    assert_eq!(taken.unwrap().id, id("b"));
    assert_eq!(&fresh.claim_one().await.task().payload[..], b"3");
    fresh.is_sound().await;
}

async fn a_task_that_waits_takes_the_time_of_the_second_one(fresh: Fresh) {
    fresh.put([build("a", "1", lock()).delay(secs(30))]).await;
    fresh.clock.advance(secs(20));
    let later = build("b", "2", lock().reschedule()).delay(secs(100));
    let moved = fresh.try_put(later).await.unwrap();
    assert_eq!((moved.id, moved.state), (id("a"), TaskState::Scheduled));
    fresh.clock.advance(secs(99));
    fresh.forward().await;
    assert!(fresh.claim(9).await.is_empty());
    let moved = fresh.try_put(build("b", "2", lock().reschedule())).await.unwrap();
    assert_eq!((moved.id, moved.state), (id("a"), TaskState::Pending));
    assert_eq!(
        &fresh.claim_one().await.task().payload[..],
        b"1",
        "it keeps its payload"
    );
    fresh.is_sound().await;
}

async fn a_replacement_that_is_repeated_changes_nothing_more(fresh: Fresh) {
    fresh.put([build("a", "1", lock())]).await;
    let delivery = || Delivery {
        task: build("b", "2", lock().while_pending().replace()),
        remember: secs(60),
    };
    let first = fresh.broker.enqueue_once(&[delivery()]).await.unwrap().remove(0);
    assert_eq!(first.unwrap().id, id("a"));
    let claim = fresh.claim_one().await;
    let again = fresh.broker.enqueue_once(&[delivery()]).await.unwrap().remove(0);
    assert_eq!(again, Err(Refusal::Received));
    fresh.end(&claim, Verdict::Done).await;
    fresh.is_sound().await;
}

async fn the_end_of_a_replaced_task_releases_the_lock(fresh: Fresh) {
    fresh.put([build("a", "1", lock())]).await;
    fresh.put([build("b", "2", lock().replace()).retention(secs(60))]).await;
    let claim = fresh.claim_one().await;
    fresh.end(&claim, Verdict::Done).await;
    assert_eq!(fresh.state("a").await, Some(TaskState::Completed));
    assert_eq!(fresh.broker.lock_holder(&build("c", "3", lock())).await.unwrap(), None);
    fresh.put([build("c", "3", lock())]).await;
    fresh.is_sound().await;
}
