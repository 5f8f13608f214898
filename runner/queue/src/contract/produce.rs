//! Clauses about enqueueing: order, identity, the uniqueness lock, delays, what is kept of a task.

use bytes::Bytes;
use runner_core::task::{InvalidTask, Run, Task, TaskState};

use super::shared::{LEASE, archive, id, queue, retry, secs, task};
use super::{Clause, Fresh};
use crate::{Action, Refusal, Verdict};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        tasks_are_claimed_in_the_order_they_were_enqueued,
        order_holds_across_a_large_batch,
        what_a_producer_states_is_what_a_worker_gets,
        a_task_without_limits_gets_thirty_minutes,
        a_task_without_id_gets_one_of_its_own,
        an_id_is_taken_once_in_a_queue_and_again_in_another,
        an_invalid_task_is_refused_and_its_neighbours_are_not,
        a_uniqueness_lock_refuses_the_same_type_and_payload_in_the_same_queue,
        a_uniqueness_lock_is_released_when_its_task_is_done_completed_or_deleted,
        a_uniqueness_lock_outlives_retry_archive_hand_back_and_snooze,
        a_refused_task_leaves_no_uniqueness_lock,
        the_end_of_a_task_does_not_release_the_lock_of_its_successor,
        a_uniqueness_lock_lapses_after_its_time,
        the_lock_of_a_delayed_task_counts_from_when_it_is_to_run,
        a_delayed_task_waits_for_its_time,
        a_time_in_the_past_means_now,
        a_task_of_a_group_waits_in_it,
    ]
}

async fn tasks_are_claimed_in_the_order_they_were_enqueued(fresh: Fresh) {
    fresh.put([task("a"), task("b")]).await;
    fresh.put([task("c")]).await;
    fresh.put([task("d"), task("e")]).await;
    assert_eq!(fresh.claim_ids(2).await, ["a", "b"]);
    fresh.put([task("f")]).await;
    assert_eq!(fresh.claim_ids(9).await, ["c", "d", "e", "f"]);
    fresh.is_sound().await;
}

async fn order_holds_across_a_large_batch(fresh: Fresh) {
    let names: Vec<String> = (0..300).map(|n| format!("{n:03}")).collect();
    fresh.put(names.iter().map(|name| task(name))).await;
    let anonymous = (0..200).map(|n| Task::new(format!("n:{n}")));
    fresh.put(anonymous).await;
    assert_eq!(fresh.claim_ids(300).await, names);
    let rest = fresh.claim(300).await;
    let kinds: Vec<_> = rest.iter().map(|c| c.task().kind.clone()).collect();
    let expected: Vec<_> = (0..200).map(|n| format!("n:{n}")).collect();
    assert_eq!(kinds, expected);
    fresh.is_sound().await;
}

async fn what_a_producer_states_is_what_a_worker_gets(fresh: Fresh) {
    let mut stated = Task::new("mail:send")
        .id(id("x"))
        .payload(vec![0, 159, 146, 150, 255])
        .max_retry(3)
        .timeout(secs(90))
        .retention(secs(600))
        .header("trace", "äöü \"quoted\"")
        .header("empty", "");
    stated.deadline = fresh.now().checked_add(secs(3600)).ok();
    fresh.put([stated.clone()]).await;
    let claim = fresh.claim_one().await;
    let got = claim.task();
    assert_eq!(got.id, id("x"));
    assert_eq!(got.kind, "mail:send");
    assert_eq!(got.payload, Bytes::from_static(&[0, 159, 146, 150, 255]));
    assert_eq!((got.max_retry, got.retried), (3, 0));
    assert_eq!(got.timeout, secs(90));
    assert_eq!(got.deadline, stated.deadline);
    assert_eq!(got.retention, secs(600));
    assert_eq!(got.headers, stated.headers);
    assert_eq!((got.last_error.as_str(), got.last_failed_at), ("", None));
    assert_eq!((got.unique_key.clone(), got.group.clone()), (None, None));
    assert_eq!(got.completed_at, None);
    fresh.is_sound().await;
}

async fn a_task_without_limits_gets_thirty_minutes(fresh: Fresh) {
    fresh.put([Task::new("a")]).await;
    let claim = fresh.claim_one().await;
    assert_eq!(claim.task().timeout, secs(1800));
    assert_eq!(claim.task().deadline, None);
    fresh.is_sound().await;
}

async fn a_task_without_id_gets_one_of_its_own(fresh: Fresh) {
    let first = fresh.try_put(Task::new("a")).await.unwrap();
    let second = fresh.try_put(Task::new("a")).await.unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!(first.state, TaskState::Pending);
    assert_eq!(first.run_at, Some(fresh.now()));
    assert!(fresh.look(first.id.as_str()).await.is_some());
    fresh.is_sound().await;
}

async fn an_id_is_taken_once_in_a_queue_and_again_in_another(fresh: Fresh) {
    let mut answers = fresh
        .broker
        .enqueue(&[task("a"), task("a"), task("a").queue(queue("low")), task("b")])
        .await
        .unwrap();
    assert!(answers[0].is_ok());
    assert_eq!(answers[1], Err(Refusal::IdTaken));
    assert!(answers[2].is_ok() && answers.remove(3).is_ok());
    assert_eq!(fresh.try_put(task("a")).await, Err(Refusal::IdTaken));
    let claim = fresh.claim_one().await;
    assert_eq!(fresh.try_put(task("a")).await, Err(Refusal::IdTaken));
    fresh.end(&claim, Verdict::Done).await;
    fresh.put([task("a")]).await;
    assert_eq!(fresh.list(TaskState::Pending).await, ["b", "a"]);
    fresh.is_sound().await;
}

async fn an_invalid_task_is_refused_and_its_neighbours_are_not(fresh: Fresh) {
    let answers = fresh
        .broker
        .enqueue(&[task("a"), Task::new(" "), task("b")])
        .await
        .unwrap();
    assert_eq!(answers[1], Err(Refusal::Invalid(InvalidTask::BlankType)));
    assert_eq!(fresh.list(TaskState::Pending).await, ["a", "b"]);
    assert!(fresh.broker.enqueue(&[]).await.unwrap().is_empty());
    fresh.is_sound().await;
}

/// A task with payload `p` and a lock of ten minutes.
fn locked(name: &str) -> Task {
    Task::new("u").id(id(name)).payload("p").unique(secs(600))
}

async fn a_uniqueness_lock_refuses_the_same_type_and_payload_in_the_same_queue(fresh: Fresh) {
    fresh.put([locked("a")]).await;
    let refused = Err(Refusal::Duplicate);
    assert_eq!(fresh.try_put(locked("b")).await, refused);
    assert!(fresh.look("b").await.is_none());
    let holder = async |task: Task| fresh.broker.lock_holder(&task).await.unwrap();
    assert_eq!(holder(locked("b")).await, Some(id("a")));
    assert_eq!(holder(locked("b").payload("q")).await, None);
    // Everything that makes it another task.
    fresh.put([locked("other payload").payload("q")]).await;
    fresh.put([locked("empty payload").payload("")]).await;
    let mut none = locked("no payload");
    none.payload = None;
    fresh.put([none.clone()]).await;
    none.id = Some(id("no payload either"));
    assert_eq!(fresh.try_put(none).await, refused);
    fresh.put([locked("b").queue(queue("low"))]).await;
    let mut free = locked("without lock");
    free.unique = None;
    fresh.put([free]).await;
    fresh.is_sound().await;
}

async fn a_uniqueness_lock_is_released_when_its_task_is_done_completed_or_deleted(fresh: Fresh) {
    fresh.put([locked("done")]).await;
    fresh.end(&fresh.claim_one().await, Verdict::Done).await;

    fresh.put([locked("completed").retention(secs(60))]).await;
    fresh.end(&fresh.claim_one().await, Verdict::Done).await;
    assert_eq!(fresh.state("completed").await, Some(TaskState::Completed));

    fresh.put([locked("revoked")]).await;
    fresh.end(&fresh.claim_one().await, Verdict::Revoke).await;

    fresh.put([locked("deleted")]).await;
    let default = queue("default");
    let deleted = id("deleted");
    let delete = fresh.broker.act(&default, &deleted, Action::Delete);
    delete.await.unwrap();

    fresh.put([locked("last")]).await;
    fresh.is_sound().await;
}

async fn a_uniqueness_lock_outlives_retry_archive_hand_back_and_snooze(fresh: Fresh) {
    fresh.put([locked("a")]).await;
    fresh.end(&fresh.claim_one().await, retry(5, "no")).await;
    assert_eq!(fresh.try_put(locked("b")).await, Err(Refusal::Duplicate));
    fresh.clock.advance(secs(5));
    assert_eq!(fresh.forward().await, 1);
    fresh.end(&fresh.claim_one().await, Verdict::HandBack).await;
    assert_eq!(fresh.try_put(locked("b")).await, Err(Refusal::Duplicate));
    let snooze = Verdict::Snooze {
        delay: secs(5),
        waiting_for: None,
    };
    fresh.end(&fresh.claim_one().await, snooze).await;
    assert_eq!(fresh.try_put(locked("b")).await, Err(Refusal::Duplicate));
    fresh.clock.advance(secs(5));
    assert_eq!(fresh.forward().await, 1);
    fresh.end(&fresh.claim_one().await, archive("no")).await;
    assert_eq!(fresh.try_put(locked("b")).await, Err(Refusal::Duplicate));
    fresh.is_sound().await;
}

async fn a_refused_task_leaves_no_uniqueness_lock(fresh: Fresh) {
    fresh.put([task("a")]).await;
    let refused = fresh.try_put(locked("a")).await;
    assert_eq!(refused, Err(Refusal::IdTaken));
    fresh.put([locked("b")]).await;
    fresh.is_sound().await;
}

async fn the_end_of_a_task_does_not_release_the_lock_of_its_successor(fresh: Fresh) {
    fresh.put([locked("first").unique(secs(2))]).await;
    let first = fresh.claim_one().await;
    let second = async || fresh.try_put(locked("second")).await.is_ok();
    fresh.lapse(secs(2), second).await;
    fresh.end(&first, Verdict::Done).await;
    assert_eq!(fresh.try_put(locked("third")).await, Err(Refusal::Duplicate));
    fresh.is_sound().await;
}

async fn a_uniqueness_lock_lapses_after_its_time(fresh: Fresh) {
    fresh.put([locked("a").unique(secs(2))]).await;
    let second = async || match fresh.try_put(locked("b")).await {
        Ok(_) => true,
        Err(refusal) => {
            assert_eq!(refusal, Refusal::Duplicate);
            false
        }
    };
    fresh.lapse(secs(2), second).await;
    fresh.is_sound().await;
}

async fn the_lock_of_a_delayed_task_counts_from_when_it_is_to_run(fresh: Fresh) {
    let began = tokio::time::Instant::now();
    fresh.put([locked("a").unique(secs(1)).run(Run::In(secs(2)))]).await;
    let second = async || fresh.try_put(locked("b")).await.is_ok();
    fresh.lapse(secs(3), second).await;
    let lasted = began.elapsed();
    // A second may be lost to truncation.
    assert!(!fresh.real_time_ttl || lasted > secs(1), "only {lasted:?}");
    fresh.is_sound().await;
}

async fn a_delayed_task_waits_for_its_time(fresh: Fresh) {
    let due = fresh.now().checked_add(secs(60)).unwrap();
    let later = fresh.try_put(task("in").run(Run::In(secs(60)))).await.unwrap();
    assert_eq!((later.state, later.run_at), (TaskState::Scheduled, Some(due)));
    let later = fresh.try_put(task("at").run(Run::At(due))).await.unwrap();
    assert_eq!((later.state, later.run_at), (TaskState::Scheduled, Some(due)));
    assert_eq!(fresh.see("at").await.next_run, Some(due));
    assert!(fresh.claim(9).await.is_empty());
    assert_eq!(fresh.forward().await, 0);
    fresh.clock.advance(secs(60));
    assert_eq!(fresh.forward().await, 2);
    let claims = fresh.broker.claim(&[queue("default")], 9, LEASE).await;
    assert_eq!(claims.unwrap().len(), 2);
    fresh.is_sound().await;
}

async fn a_time_in_the_past_means_now(fresh: Fresh) {
    let past = fresh.now().checked_sub(secs(60)).unwrap();
    let now = fresh.try_put(task("a").run(Run::At(past))).await.unwrap();
    assert_eq!(now.state, TaskState::Pending);
    fresh.put([task("b").run(Run::In(secs(0)))]).await;
    assert_eq!(fresh.claim_ids(9).await, ["a", "b"]);
    fresh.is_sound().await;
}

async fn a_task_of_a_group_waits_in_it(fresh: Fresh) {
    let mut grouped = task("a");
    grouped.group = Some("g".to_owned());
    let accepted = fresh.try_put(grouped).await.unwrap();
    assert_eq!((accepted.state, accepted.run_at), (TaskState::Aggregating, None));
    assert!(fresh.claim(9).await.is_empty());
    let info = fresh.see("a").await;
    assert_eq!(info.state, TaskState::Aggregating);
    assert_eq!(info.record.group.as_deref(), Some("g"));
    fresh.is_sound().await;
}
