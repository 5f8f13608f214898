//! Which ends of steps count, and what a failure does.

use bytes::Bytes;

use super::{done, workflow};
use crate::contract::shared::archive;
use crate::contract::{Clause, Fresh};
use crate::{StepEnd, Verdict, WorkflowState, end_workflow_steps};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        an_end_counts_once_however_often_it_is_reported,
        a_failed_step_ends_the_workflow_and_is_reported_once,
        an_end_of_a_step_that_does_not_exist_counts_nothing,
        a_failure_that_was_seen_before_a_retry_counts_nothing,
    ]
}

async fn an_end_counts_once_however_often_it_is_reported(fresh: Fresh) {
    fresh.begin(&workflow("w", &[2, 1])).await;
    let first = [(0, StepEnd::Done(Bytes::new()))];
    for _ in 0..3 {
        fresh.report("w", &first).await;
    }
    fresh.report("w", &[(0, StepEnd::Failed("late".to_owned()))]).await;
    assert_eq!(fresh.stands("w").await, (WorkflowState::Running, 1, 0));
    let nothing = fresh.broker.end_steps("other", 0, &first).await.unwrap();
    assert_eq!(nothing, None);
    fresh.is_sound().await;
}

async fn a_failed_step_ends_the_workflow_and_is_reported_once(fresh: Fresh) {
    fresh.begin(&workflow("w", &[3, 1])).await;
    fresh
        .work(
            |number| if number == 1 { archive("no disk") } else { Verdict::Done },
            true,
        )
        .await;
    assert_eq!(fresh.stands("w").await, (WorkflowState::Failed, 2, 1));
    assert_eq!(fresh.head("w").await.error, "no disk");
    fresh.advanced("w").await;
    assert_eq!(fresh.work(done, true).await, ["on:failed"]);
    assert!(fresh.claim(9).await.is_empty());
    fresh.is_sound().await;
}

async fn an_end_of_a_step_that_does_not_exist_counts_nothing(fresh: Fresh) {
    fresh.begin(&workflow("w", &[1, 1])).await;
    let none = [2, 7, u32::MAX].map(|number| (number, StepEnd::Done(Bytes::new())));
    fresh.report("w", &none).await;
    assert_eq!(fresh.stands("w").await, (WorkflowState::Running, 0, 0));
    assert_eq!(fresh.work(done, true).await, ["s"]);
    assert_eq!(fresh.work(done, true).await, ["s"]);
    assert_eq!(fresh.stands("w").await, (WorkflowState::Done, 2, 0));
    fresh.is_sound().await;
}

async fn a_failure_that_was_seen_before_a_retry_counts_nothing(fresh: Fresh) {
    fresh.begin(&workflow("w", &[2])).await;
    fresh.work(|_| archive("no"), true).await;
    assert_eq!(fresh.work(done, true).await, ["on:failed"]);
    // A slow runner has read the workflow and its archived task, and writes that down after the retry.
    let seen = fresh.head("w").await;
    assert_eq!(fresh.retried("w").await, Some(2));
    let late = [(0, StepEnd::Failed("no".to_owned()))];
    end_workflow_steps(&*fresh.broker, &seen, &late, None).await.unwrap();
    assert_eq!(fresh.stands("w").await, (WorkflowState::Running, 0, 0));
    // A success counts whenever it was seen.
    let success = [(0, StepEnd::Done(Bytes::new()))];
    end_workflow_steps(&*fresh.broker, &seen, &success, None).await.unwrap();
    assert_eq!(fresh.work(done, true).await, ["s", "s"]);
    assert_eq!(fresh.stands("w").await, (WorkflowState::Done, 2, 0));
    assert_eq!(fresh.work(done, true).await, ["on:done"]);
    fresh.is_sound().await;
}
