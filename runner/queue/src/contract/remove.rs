//! Clauses about removing a queue: when it is refused, and that nothing of it is left.

use runner_core::task::{AttemptOutcome, QueueName, Run, Task, TaskState};

use super::shared::{LEASE, archive, id, queue, retry, secs, task, verdict};
use super::states::{bring, clear};
use super::{Clause, Fresh};
use crate::{Acted, Attempt, MAX_ACTED, REMOVE_GRACE, RemoveError, Settled, Settlement, Verdict};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        a_queue_with_tasks_is_removed_by_force_only,
        a_queue_with_active_tasks_is_never_removed,
        tasks_that_no_worker_holds_any_more_do_not_keep_a_queue,
        an_empty_queue_is_removed,
        an_unknown_queue_cannot_be_removed,
        nothing_of_a_removed_queue_is_left,
        removing_a_queue_does_not_touch_the_others,
        a_large_queue_is_removed_call_by_call_and_yields_no_claims_meanwhile,
        a_late_verdict_does_not_touch_the_task_of_a_new_queue_of_the_same_name,
    ]
}

async fn remove(fresh: &Fresh, force: bool) -> Result<Acted, RemoveError> {
    fresh.broker.remove_queue(&QueueName::default(), force).await
}

async fn listed(fresh: &Fresh) -> Vec<String> {
    let queues = fresh.broker.queues().await.unwrap().into_iter();
    queues.map(|q| q.name.to_string()).collect()
}

async fn a_queue_with_tasks_is_removed_by_force_only(fresh: Fresh) {
    for state in TaskState::ALL.into_iter().filter(|s| *s != TaskState::Active) {
        let name = state.as_str();
        bring(&fresh, state, name).await;
        let refused = remove(&fresh, false).await;
        assert!(
            matches!(refused, Err(RemoveError::NotEmpty { tasks: 1, .. })),
            "{state}: {refused:?}"
        );
        assert_eq!(fresh.state(name).await, Some(state));
        let removed = remove(&fresh, true).await.unwrap();
        assert_eq!((removed.tasks, removed.more), (1, false), "{state}");
        assert!(fresh.look(name).await.is_none(), "{state}");
        assert!(listed(&fresh).await.is_empty(), "{state}");
    }
    fresh.is_sound().await;
}

async fn a_queue_with_active_tasks_is_never_removed(fresh: Fresh) {
    fresh.put([task("a"), task("b")]).await;
    let claim = fresh.claim_one().await;
    for force in [false, true] {
        let refused = remove(&fresh, force).await;
        assert!(
            matches!(refused, Err(RemoveError::Active { tasks: 1, .. })),
            "{refused:?}"
        );
    }
    assert_eq!(fresh.state("b").await, Some(TaskState::Pending));
    assert!(!fresh.glance().await.paused);
    fresh.end(&claim, Verdict::Done).await;
    fresh.is_sound().await;
}

/// If no worker serves the queue, none takes them back.
async fn tasks_that_no_worker_holds_any_more_do_not_keep_a_queue(fresh: Fresh) {
    fresh.put([task("a").unique(secs(90_000)), task("b"), task("c")]).await;
    let late = fresh.claim_one().await;
    fresh.clock.advance(secs(20));
    fresh.claim_one().await;
    // The first lease has just ended, the second one has not.
    fresh.clock.advance(LEASE - secs(20) + secs(1));
    let refused = remove(&fresh, true).await;
    assert!(
        matches!(refused, Err(RemoveError::Active { tasks: 2, .. })),
        "{refused:?}"
    );
    fresh.clock.advance(REMOVE_GRACE);
    let refused = remove(&fresh, true).await;
    assert!(
        matches!(refused, Err(RemoveError::Active { tasks: 1, .. })),
        "{refused:?}"
    );
    fresh.clock.advance(secs(20));
    let refused = remove(&fresh, false).await;
    assert!(
        matches!(refused, Err(RemoveError::NotEmpty { tasks: 3, .. })),
        "{refused:?}"
    );
    let removed = remove(&fresh, true).await.unwrap();
    assert_eq!((removed.tasks, removed.more), (3, false));
    assert!(listed(&fresh).await.is_empty());
    assert_eq!(fresh.settle(&late, Verdict::Done).await, Settled::Stale);
    assert!(
        fresh.try_put(task("a").unique(secs(60))).await.is_ok(),
        "its lock is free"
    );
    fresh.is_sound().await;
}

async fn an_empty_queue_is_removed(fresh: Fresh) {
    fresh.put([task("a")]).await;
    fresh.end(&fresh.claim_one().await, Verdict::Done).await;
    let removed = remove(&fresh, false).await.unwrap();
    assert_eq!((removed.tasks, removed.more), (0, false));
    assert!(listed(&fresh).await.is_empty());
    fresh.is_sound().await;
}

async fn an_unknown_queue_cannot_be_removed(fresh: Fresh) {
    fresh.put([task("a").queue(queue("low"))]).await;
    for force in [false, true] {
        let refused = remove(&fresh, force).await;
        assert!(matches!(refused, Err(RemoveError::Unknown(_))), "{refused:?}");
    }
    assert_eq!(listed(&fresh).await, ["low"]);
    fresh.is_sound().await;
}

/// Tasks in every state but active, with locks, notes, attempts, counts of two days and a pause.
async fn fill(fresh: &Fresh) {
    let locked = |name: &str| Task::new(format!("u:{name}")).id(id(name)).unique(secs(90_000));
    fresh.put([task("old")]).await;
    fresh.end(&fresh.claim_one().await, archive("no")).await;
    fresh.clock.advance(secs(24 * 3600));
    fresh
        .put([locked("tried").max_retry(3), locked("done").retention(secs(3600))])
        .await;
    let claims = fresh.claim(2).await;
    let attempt = Attempt {
        number: 1,
        started_at: fresh.now(),
        ended_at: fresh.now(),
        outcome: AttemptOutcome::Retry,
        error: Some("no".to_owned()),
        server: "host:1".to_owned(),
        log: None,
    };
    let settle = Settlement {
        attempt: Some(attempt),
        ..verdict(&claims[0], retry(60, "no"))
    };
    assert_eq!(fresh.broker.settle(&[settle]).await.unwrap(), [Settled::Accepted]);
    fresh.end(&claims[1], Verdict::Done).await;
    fresh.put([task("waits")]).await;
    let snooze = Verdict::Snooze {
        delay: secs(3600),
        waiting_for: Some("a handler".to_owned()),
    };
    fresh.end(&fresh.claim_one().await, snooze).await;
    let mut grouped = locked("grouped");
    grouped.group = Some("g".to_owned());
    fresh
        .put([locked("later").run(Run::In(secs(60))), locked("now"), grouped])
        .await;
    fresh.broker.pause_queue(&QueueName::default()).await.unwrap();
}

async fn nothing_of_a_removed_queue_is_left(fresh: Fresh) {
    fill(&fresh).await;
    assert_eq!(fresh.glance().await.size(), 7);
    assert_eq!(remove(&fresh, true).await.unwrap().tasks, 7);
    assert!(listed(&fresh).await.is_empty());
    // All of it can be enqueued again: ids and locks are free, nothing is counted, nothing is paused.
    fill(&fresh).await;
    let queue = QueueName::default();
    assert_eq!(fresh.broker.attempts(&queue, &id("tried")).await.unwrap().len(), 1);
    let glance = fresh.glance().await;
    assert_eq!((glance.size(), glance.processed, glance.processed_today), (7, 3, 2));
    let all = [queue.clone()];
    assert_eq!(fresh.broker.release_waiting(&all, &["*".to_owned()]).await.unwrap(), 1);
    assert_eq!(remove(&fresh, true).await.unwrap().tasks, 7);
    let history = fresh.broker.history(&queue, 90).await.unwrap();
    assert!(history.iter().all(|day| (day.processed, day.failed) == (0, 0)));
    fresh.is_sound().await;
}

async fn removing_a_queue_does_not_touch_the_others(fresh: Fresh) {
    let low = queue("low");
    fresh
        .put([task("a"), task("a").queue(low.clone()).unique(secs(60))])
        .await;
    remove(&fresh, true).await.unwrap();
    assert_eq!(listed(&fresh).await, ["low"]);
    assert!(fresh.broker.task(&low, &id("a")).await.unwrap().is_some());
    let again = task("b").queue(low);
    assert!(fresh.try_put(again).await.is_ok());
    fresh.is_sound().await;
}

async fn a_large_queue_is_removed_call_by_call_and_yields_no_claims_meanwhile(fresh: Fresh) {
    fresh.put((0..MAX_ACTED + 7).map(|n| task(&format!("{n}")))).await;
    let part = remove(&fresh, true).await.unwrap();
    assert_eq!((part.tasks, part.more), (MAX_ACTED as u64, true));
    assert_eq!(listed(&fresh).await, ["default"]);
    assert!(fresh.claim(9).await.is_empty());
    let refused = remove(&fresh, false).await;
    assert!(
        matches!(refused, Err(RemoveError::NotEmpty { tasks: 7, .. })),
        "{refused:?}"
    );
    let rest = remove(&fresh, true).await.unwrap();
    assert_eq!((rest.tasks, rest.more), (7, false));
    fresh.put([task("a")]).await;
    assert_eq!(fresh.claim_ids(9).await, ["a"]);
    fresh.is_sound().await;
}

async fn a_late_verdict_does_not_touch_the_task_of_a_new_queue_of_the_same_name(fresh: Fresh) {
    let queues = [QueueName::default()];
    fresh.put([task("a")]).await;
    let late = fresh.claim_one().await;
    fresh.clock.advance(secs(60));
    fresh.broker.recover(&queues, secs(0), 10, 0).await.unwrap();
    remove(&fresh, true).await.unwrap();
    fresh.put([task("a")]).await;
    let claim = fresh.claim_one().await;
    assert_eq!(fresh.settle(&late, Verdict::Done).await, Settled::Stale);
    assert_eq!(fresh.state("a").await, Some(TaskState::Active));
    fresh.end(&claim, Verdict::Done).await;
    clear(&fresh, "a").await;
    fresh.is_sound().await;
}
