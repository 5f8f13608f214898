//! How failed steps run again.

use super::{done, task_of, workflow};
use crate::contract::shared::{archive, queue};
use crate::contract::{Clause, Fresh};
use crate::{Action, GivenResults, StepEnd, Verdict, WorkflowState};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        a_failed_step_that_is_run_again_continues_the_workflow,
        a_failed_step_whose_task_is_gone_is_enqueued_again,
        a_step_that_fails_while_its_stage_is_sent_is_run_again,
        a_step_that_cannot_be_enqueued_fails_again_at_each_retry,
        a_retry_does_not_run_what_has_succeeded,
    ]
}

async fn a_failed_step_that_is_run_again_continues_the_workflow(fresh: Fresh) {
    fresh.begin(&workflow("w", &[2, 1])).await;
    fresh
        .work(|number| if number == 1 { archive("no") } else { Verdict::Done }, true)
        .await;
    fresh.work(done, true).await;
    assert_eq!(fresh.retried("w").await, Some(1));
    assert_eq!(fresh.stands("w").await, (WorkflowState::Running, 1, 0));
    // It fails again, which is another failure.
    fresh.work(|_| archive("no"), true).await;
    assert_eq!(fresh.work(done, true).await, ["on:failed"]);
    // By hand, as for any task: its success is enough.
    let default = queue("default");
    fresh.broker.act(&default, &task_of("w", 1), Action::Run).await.unwrap();
    assert_eq!(fresh.work(done, true).await, ["s"]);
    assert_eq!(fresh.work(done, true).await, ["s"]);
    assert_eq!(fresh.stands("w").await, (WorkflowState::Done, 3, 0));
    assert_eq!(fresh.retried("w").await, Some(0));
    assert_eq!(fresh.retried("other").await, None);
    fresh.is_sound().await;
}

async fn a_failed_step_whose_task_is_gone_is_enqueued_again(fresh: Fresh) {
    fresh.begin(&workflow("w", &[1])).await;
    fresh.work(|_| archive("no"), true).await;
    fresh.work(done, true).await;
    let default = queue("default");
    fresh
        .broker
        .act(&default, &task_of("w", 0), Action::Delete)
        .await
        .unwrap();
    fresh.retried("w").await;
    let claim = fresh.claim_one().await;
    assert_eq!(
        (&claim.task().id, &claim.task().payload[..]),
        (&task_of("w", 0), &b"0"[..])
    );
    fresh.is_sound().await;
}

async fn a_step_that_fails_while_its_stage_is_sent_is_run_again(fresh: Fresh) {
    fresh.begin(&workflow("w", &[1, 2])).await;
    fresh.work(done, true).await;
    // The sender has enqueued both, and not yet left the stage.
    let sent = fresh.head("w").await.place;
    let before = crate::WorkflowPlace { sent: 1, ..sent };
    assert!(fresh.broker.move_workflow("w", sent, before).await.unwrap());
    fresh
        .work(|number| if number == 1 { archive("no") } else { Verdict::Done }, true)
        .await;
    assert_eq!(fresh.work(done, true).await, ["on:failed"]);
    assert_eq!(fresh.stands("w").await, (WorkflowState::Failed, 2, 1));
    assert_eq!(fresh.retried("w").await, Some(1));
    assert_eq!(fresh.work(done, true).await, ["s"]);
    assert_eq!(fresh.stands("w").await, (WorkflowState::Done, 3, 0));
    fresh.is_sound().await;
}

async fn a_step_that_cannot_be_enqueued_fails_again_at_each_retry(fresh: Fresh) {
    let mut new = workflow("w", &[1, 2]);
    new.steps[2].0.takes = Some(GivenResults {
        member: "rows".to_owned(),
        all: true,
    });
    fresh.begin(&new).await;
    fresh.work(done, true).await;
    let mut ran = fresh.work(done, true).await;
    ran.sort();
    assert_eq!(ran, ["on:failed", "s"]);
    assert_eq!(fresh.stands("w").await, (WorkflowState::Failed, 2, 1));
    assert_eq!(fresh.retried("w").await, Some(1));
    assert_eq!(fresh.stands("w").await, (WorkflowState::Failed, 2, 1));
    assert_eq!(fresh.work(done, true).await, ["on:failed"]);
    fresh.is_sound().await;
}

async fn a_retry_does_not_run_what_has_succeeded(fresh: Fresh) {
    fresh.begin(&workflow("w", &[1])).await;
    fresh.work(done, false).await;
    fresh.report("w", &[(0, StepEnd::Failed("gone".to_owned()))]).await;
    assert_eq!(fresh.work(done, true).await, ["on:failed"]);
    assert_eq!(fresh.retried("w").await, Some(1));
    assert_eq!(fresh.stands("w").await, (WorkflowState::Done, 1, 0));
    assert_eq!(fresh.work(done, true).await, ["on:done"]);
    fresh.is_sound().await;
}
