//! The table of tasks in flight: slots, leases, and which handlers are stopped.
#![allow(clippy::unwrap_used)]

use runner_core::task::{QueueName, Task, TaskId};
use runner_queue::Claims as _;

use super::*;
use crate::worker::DEFAULT_LEASE;
use crate::worker::tests::Scene;

const SECOND: Duration = Duration::from_secs(1);

/// Tasks as the claim loop adds them; their ids do not matter.
async fn claimed(count: usize) -> Vec<InFlightTask> {
    let scene = Scene::new().await;
    for _ in 0..count {
        scene.put(Task::new("a")).await;
    }
    let queues = [QueueName::default()];
    let claims = scene.broker.claim(&queues, count, DEFAULT_LEASE).await.unwrap();
    assert_eq!(claims.len(), count);
    let now = Timestamp::UNIX_EPOCH;
    // The broker has finished, so a test can pause the clock that leases are measured by.
    tokio::time::pause();
    let in_flight = |claim| InFlightTask {
        claim,
        stop: Stop::new(),
        started_at: now,
        deadline: now,
        extended_at: Instant::now(),
    };
    claims.into_iter().map(in_flight).collect()
}

fn limits() -> LeaseLimits {
    let now = Instant::now().into_std();
    LeaseLimits { ask: now, kill: now }
}

fn reasons(tasks: &[InFlightTask]) -> Vec<Option<StopReason>> {
    tasks.iter().map(|task| task.stop.reason()).collect()
}

fn stop_of(id: &TaskId, queue: Option<&str>) -> StopRequest {
    StopRequest {
        id: id.clone(),
        queue: queue.map(|queue| QueueName::new(queue).unwrap()),
        for_good: None,
    }
}

#[tokio::test]
async fn slots_are_reused_and_the_table_is_empty_when_all_are_free() {
    let (table, tasks) = (InFlight::default(), claimed(3).await);
    assert_eq!(table.add(tasks[..2].iter().cloned()), [0, 1]);
    table.remove([0]);
    assert_eq!(table.len(), 1);
    assert_eq!(table.add(tasks[2..].iter().cloned()), [0], "the free slot comes first");
    // A slot that is freed twice must not be given out twice.
    table.remove([1, 1, 7]);
    assert_eq!(table.len(), 1);
    assert_eq!(table.add(tasks[..2].iter().cloned()), [1, 2]);
    table.remove([0, 1, 2]);
    table.emptied().await;
    assert!(table.working().is_empty() && table.claims_at(&[0, 1]).is_empty());
}

#[tokio::test]
async fn a_wait_for_an_empty_table_ends_with_the_last_removal() {
    let (table, tasks) = (InFlight::default(), claimed(2).await);
    table.add(tasks);
    let mut empty = std::pin::pin!(table.emptied());
    for slot in [0, 1] {
        assert!(futures_util::poll!(empty.as_mut()).is_pending());
        table.remove([slot]);
    }
    empty.await;
}

#[tokio::test]
async fn an_answer_about_a_task_that_has_left_its_slot_changes_nothing() {
    let (table, tasks) = (InFlight::default(), claimed(2).await);
    let old = tasks[0].claim.clone();
    table.add(tasks[..1].iter().cloned());
    table.remove([0]);
    table.add(tasks[1..].iter().cloned());
    tokio::time::advance(SECOND * 10).await;
    table.extended(0, &old, Instant::now(), limits());
    assert!(
        table.is_overdue(SECOND * 10),
        "the lease of the other task was not extended"
    );
    table.lost(0, &old);
    assert_eq!(reasons(&tasks), [None, None]);
    assert!(!table.holds(0, &old, SECOND * 3600));
    assert!(table.holds(0, &tasks[1].claim, SECOND * 11));
}

#[tokio::test]
async fn leases_that_were_not_extended_in_time_stop_their_handlers_once() {
    let (table, tasks) = (InFlight::default(), claimed(2).await);
    table.add(tasks.iter().cloned());
    let limit = SECOND * 24;
    tokio::time::advance(SECOND * 20).await;
    table.extended(1, &tasks[1].claim, Instant::now(), limits());
    assert!(!table.is_overdue(limit));
    // A handler that was stopped for another reason loses its lease as well.
    tasks[0].stop.stop(StopReason::Deadline);
    tokio::time::advance(SECOND * 4).await;
    assert!(table.is_overdue(limit));
    assert_eq!((table.stop_overdue(limit), table.stop_overdue(limit)), (1, 0));
    assert!(tasks[0].stop.is_lease_lost() && !table.is_overdue(limit));
    assert_eq!(reasons(&tasks), [Some(StopReason::Deadline), None]);
    // The extension counts from the beginning of its call.
    let began = Instant::now();
    tokio::time::advance(SECOND * 10).await;
    table.extended(1, &tasks[1].claim, began, limits());
    tokio::time::advance(SECOND * 14).await;
    assert_eq!(table.stop_overdue(limit), 1);
}

#[tokio::test]
async fn held_leases_last_until_the_next_look_only() {
    let (table, tasks) = (InFlight::default(), claimed(1).await);
    table.add(tasks.iter().cloned());
    let (limit, next_look) = (SECOND * 24, SECOND);
    tokio::time::advance(limit).await;
    assert!(table.is_overdue(limit));
    table.hold_overdue(limit, next_look, limits());
    assert!(!table.is_overdue(limit));
    assert!(
        tasks[0].stop.held().borrow().is_some(),
        "processes of its handler know as well"
    );
    tokio::time::advance(next_look).await;
    assert!(table.is_overdue(limit));
}

#[tokio::test]
async fn a_request_stops_the_task_that_it_names_and_no_other() {
    let (table, tasks) = (InFlight::default(), claimed(3).await);
    table.add(tasks.iter().cloned());
    let id = |n: usize| &tasks[n].claim.task().id;
    assert_eq!(table.stop_wanted(&stop_of(id(0), Some("low"))), 0, "in another queue");
    assert_eq!(table.stop_wanted(&stop_of(id(0), None)), 1);
    let for_good = StopRequest {
        for_good: Some("by me".into()),
        ..stop_of(id(1), Some("default"))
    };
    assert_eq!(table.stop_wanted(&for_good), 1);
    assert_eq!(
        reasons(&tasks),
        [Some(StopReason::Cancelled), Some(StopReason::Ended), None]
    );
    assert_eq!(tasks[1].stop.ended(), Some("by me"));
    table.stop_all(StopReason::Shutdown);
    let all = [StopReason::Cancelled, StopReason::Ended, StopReason::Shutdown];
    assert_eq!(reasons(&tasks), all.map(Some), "the first reason stays");
}
