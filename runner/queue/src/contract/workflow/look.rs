//! What a look at a workflow finds: what processes that died, and workers in Go, left.

use std::collections::HashSet;

use bytes::Bytes;

use super::{done, task_of, workflow};
use crate::contract::shared::{archive, queue, verdict};
use crate::contract::{Clause, Fresh};
use crate::{Action, GivenResults, MAX_STEP_RESULT, StepEnd, Verdict, WorkflowState};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        what_was_left_between_two_steps_is_done_by_the_next_look,
        what_another_worker_ended_is_found_by_a_look,
        a_step_that_was_revoked_is_found_by_a_look,
        a_result_that_is_too_long_is_none_however_it_is_found,
        a_task_that_is_missed_twice_has_failed,
        a_task_that_is_gone_after_a_retry_is_missed_twice_again,
        what_ended_while_its_stage_was_sent_is_found_after_a_failure,
    ]
}

async fn what_was_left_between_two_steps_is_done_by_the_next_look(fresh: Fresh) {
    let mut gone = HashSet::new();
    // Stored, and nothing more.
    fresh.broker.keep_workflow(&workflow("w", &[1, 1])).await.unwrap();
    fresh.look_at("w", &mut gone).await;
    // Settled, and not reported.
    assert_eq!(fresh.work(done, false).await, ["s"]);
    fresh.look_at("w", &mut gone).await;
    // Reported, and the next stage not begun.
    assert_eq!(fresh.work(done, false).await, ["s"]);
    fresh
        .broker
        .end_steps("w", 0, &[(1, StepEnd::Done(Bytes::new()))])
        .await
        .unwrap();
    fresh.look_at("w", &mut gone).await;
    assert_eq!(fresh.stands("w").await, (WorkflowState::Done, 2, 0));
    assert_eq!(fresh.work(done, false).await, ["on:done"]);
    fresh.is_sound().await;
}

async fn what_another_worker_ended_is_found_by_a_look(fresh: Fresh) {
    let mut new = workflow("w", &[2, 1]);
    new.steps[2].0.takes = Some(GivenResults {
        member: "rows".to_owned(),
        all: true,
    });
    fresh.begin(&new).await;
    fresh
        .work(|number| if number == 0 { archive("no") } else { Verdict::Done }, false)
        .await;
    let mut gone = HashSet::new();
    fresh.look_at("w", &mut gone).await;
    assert_eq!(fresh.stands("w").await, (WorkflowState::Failed, 1, 1));
    let steps = fresh.broker.workflow_steps("w", 0, 2).await.unwrap();
    assert_eq!(steps[0].end, Some(StepEnd::Failed("no".to_owned())));
    assert_eq!(steps[1].end, Some(StepEnd::Done(Bytes::from(r#"{"n":1}"#))));
    fresh.is_sound().await;
}

async fn a_result_that_is_too_long_is_none_however_it_is_found(fresh: Fresh) {
    let mut new = workflow("w", &[2, 1]);
    new.steps[2].0.takes = Some(GivenResults {
        member: "rows".to_owned(),
        all: true,
    });
    // The message of a task may be longer than what is read of it.
    new.steps[0].1 = Bytes::from(vec![b'x'; 5 << 20]);
    new.steps[2].1 = Bytes::new();
    fresh.begin(&new).await;
    for claim in fresh.claim(2).await {
        let mut settlement = verdict(&claim, Verdict::Done);
        let number = crate::step_of_task(claim.task()).unwrap().number as usize;
        settlement.result = Some("x".repeat(MAX_STEP_RESULT + number).into());
        fresh.broker.settle(&[settlement]).await.unwrap();
    }
    fresh.look_at("w", &mut HashSet::new()).await;
    let given = fresh.claim_one().await.task().payload.clone();
    let given: serde_json::Value = serde_json::from_slice(&given).unwrap();
    assert_eq!(given["rows"][0].as_str().map(str::len), Some(MAX_STEP_RESULT));
    assert!(given["rows"][1].is_null(), "{}", given["rows"][1]);
    fresh.is_sound().await;
}

async fn a_step_that_was_revoked_is_found_by_a_look(fresh: Fresh) {
    fresh.begin(&workflow("w", &[1, 1])).await;
    assert_eq!(fresh.work(|_| Verdict::Revoke, false).await, ["s"]);
    let mut gone = HashSet::new();
    for _ in 0..2 {
        fresh.look_at("w", &mut gone).await;
    }
    assert_eq!(fresh.stands("w").await, (WorkflowState::Running, 1, 0));
    fresh.is_sound().await;
}

async fn a_task_that_is_missed_twice_has_failed(fresh: Fresh) {
    fresh.begin(&workflow("w", &[1])).await;
    fresh
        .broker
        .act(&queue("default"), &task_of("w", 0), Action::Delete)
        .await
        .unwrap();
    let mut gone = HashSet::new();
    fresh.look_at("w", &mut gone).await;
    assert_eq!(fresh.stands("w").await, (WorkflowState::Running, 0, 0));
    fresh.look_at("w", &mut gone).await;
    assert_eq!(fresh.stands("w").await, (WorkflowState::Failed, 0, 1));
    fresh.is_sound().await;
}

async fn a_task_that_is_gone_after_a_retry_is_missed_twice_again(fresh: Fresh) {
    fresh.begin(&workflow("w", &[1])).await;
    let (default, mut gone) = (queue("default"), HashSet::new());
    let delete = async || {
        fresh
            .broker
            .act(&default, &task_of("w", 0), Action::Delete)
            .await
            .unwrap()
    };
    delete().await;
    for _ in 0..2 {
        fresh.look_at("w", &mut gone).await;
    }
    assert_eq!(fresh.stands("w").await, (WorkflowState::Failed, 0, 1));
    assert_eq!(fresh.work(done, true).await, ["on:failed"]);
    assert_eq!(fresh.retried("w").await, Some(1));
    delete().await;
    fresh.look_at("w", &mut gone).await;
    assert_eq!(fresh.stands("w").await, (WorkflowState::Running, 0, 0));
    fresh.look_at("w", &mut gone).await;
    assert_eq!(fresh.stands("w").await, (WorkflowState::Failed, 0, 1));
    fresh.is_sound().await;
}

async fn what_ended_while_its_stage_was_sent_is_found_after_a_failure(fresh: Fresh) {
    fresh.begin(&workflow("w", &[1, 3])).await;
    fresh.work(done, true).await;
    // The sender has enqueued all, and not yet left the stage; neither the success nor the deletion was reported.
    let sent = fresh.head("w").await.place;
    let before = crate::WorkflowPlace { sent: 1, ..sent };
    assert!(fresh.broker.move_workflow("w", sent, before).await.unwrap());
    let (default, last) = (queue("default"), task_of("w", 3));
    fresh.broker.act(&default, &last, Action::Delete).await.unwrap();
    fresh
        .work(|number| if number == 1 { archive("no") } else { Verdict::Done }, false)
        .await;
    fresh.report("w", &[(1, StepEnd::Failed("no".to_owned()))]).await;
    let mut gone = HashSet::new();
    for _ in 0..3 {
        fresh.look_at("w", &mut gone).await;
    }
    // The one that is not there may yet be enqueued.
    assert_eq!(fresh.stands("w").await, (WorkflowState::Failed, 2, 1));
    assert_eq!(fresh.work(done, true).await, ["on:failed"]);
    fresh.is_sound().await;
}
