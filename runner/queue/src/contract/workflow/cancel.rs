//! How a workflow is cancelled.

use std::collections::HashSet;

use bytes::Bytes;
use runner_core::task::TaskState;

use super::{done, task_of, workflow};
use crate::contract::shared::{archive, queue, retry};
use crate::contract::{Clause, Fresh};
use crate::{StepEnd, Verdict, WorkflowState, step_of_task};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        a_cancelled_workflow_deletes_what_waits_and_begins_nothing,
        a_workflow_is_being_cancelled_while_a_step_runs,
        a_cancel_after_the_last_step_changes_nothing,
    ]
}

async fn a_cancelled_workflow_deletes_what_waits_and_begins_nothing(fresh: Fresh) {
    fresh.begin(&workflow("w", &[2, 1])).await;
    let running = fresh.claim_one().await;
    let head = fresh.cancelled("w").await.unwrap();
    assert_eq!(head.place.state, WorkflowState::Cancelling);
    assert!(fresh.list(TaskState::Pending).await.is_empty());
    fresh.end(&running, Verdict::Done).await;
    fresh
        .report(
            "w",
            &[(0, StepEnd::Done(Bytes::new())), (1, StepEnd::Done(Bytes::new()))],
        )
        .await;
    fresh.look_at("w", &mut HashSet::new()).await;
    assert!(fresh.claim(9).await.is_empty());
    assert_eq!(fresh.stands("w").await.0, WorkflowState::Cancelled);
    assert!(fresh.cancelled("other").await.is_none());
    fresh.is_sound().await;
}

async fn a_workflow_is_being_cancelled_while_a_step_runs(fresh: Fresh) {
    fresh.begin(&workflow("w", &[4, 1])).await;
    let running = fresh.claim(3).await;
    let failed = step_of_task(running[0].task()).unwrap().number;
    fresh.end(&running[0], archive("no")).await;
    let head = fresh.cancelled("w").await.unwrap();
    assert_eq!(head.place.state, WorkflowState::Cancelling);
    assert!(fresh.list(TaskState::Pending).await.is_empty());
    fresh.end(&running[1], Verdict::Done).await;
    // A worker in Go knows no stop: the task is tried again.
    fresh.end(&running[2], retry(60, "context canceled")).await;
    fresh.look_at("w", &mut HashSet::new()).await;
    assert_eq!(fresh.stands("w").await.0, WorkflowState::Cancelled);
    assert!(fresh.list(TaskState::Retry).await.is_empty());
    let kept = fresh.broker.task(&queue("default"), &task_of("w", failed)).await;
    assert_eq!(kept.unwrap().map(|task| task.state), Some(TaskState::Archived));
    fresh.is_sound().await;
}

async fn a_cancel_after_the_last_step_changes_nothing(fresh: Fresh) {
    fresh.begin(&workflow("w", &[1])).await;
    let ends = [(0, StepEnd::Done(Bytes::new()))];
    fresh.broker.end_steps("w", 0, &ends).await.unwrap();
    let head = fresh.cancelled("w").await.unwrap();
    assert_eq!(head.place.state, WorkflowState::Done);
    assert!(fresh.work(done, true).await.contains(&"on:done".to_owned()));
    fresh.is_sound().await;
}
