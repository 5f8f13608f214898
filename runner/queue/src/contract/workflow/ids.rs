//! Which tasks are steps: not those that only look like one, or have the id of one.

use std::collections::HashSet;

use runner_core::task::Task;

use super::{done, task_of, workflow};
use crate::contract::shared::{archive, queue, secs};
use crate::contract::{Clause, Fresh};
use crate::{Action, StepEnd, StepOfTask, Verdict, WORKFLOW_HEADER, WorkflowState, step_of_task};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        a_task_that_only_has_the_header_ends_no_step,
        a_step_whose_id_is_taken_fails_and_says_so,
        a_task_of_an_earlier_workflow_of_the_same_id_ends_no_step,
    ]
}

async fn a_task_that_only_has_the_header_ends_no_step(fresh: Fresh) {
    let child = Task::new("child").header(WORKFLOW_HEADER, "w/0/0");
    fresh.put([child]).await;
    assert_eq!(step_of_task(fresh.claim_one().await.task()), None);
    fresh.begin(&workflow("w", &[1])).await;
    let step = step_of_task(fresh.claim_one().await.task()).unwrap();
    assert_eq!((step.workflow.as_str(), step.number), ("w", 0));
    assert!(step.is_of(&fresh.head("w").await));
    fresh.is_sound().await;
}

async fn a_step_whose_id_is_taken_fails_and_says_so(fresh: Fresh) {
    fresh.put([Task::new("other").id(task_of("w", 0))]).await;
    fresh.begin(&workflow("w", &[1])).await;
    assert_eq!(fresh.stands("w").await, (WorkflowState::Failed, 0, 1));
    let error = fresh.head("w").await.error;
    assert!(error.contains("another task has the id"), "{error}");
    assert_eq!(fresh.retried("w").await, Some(0));
    let mut ran = fresh.work(done, true).await;
    ran.sort();
    assert_eq!(ran, ["on:failed", "other"]);
    fresh.look_at("w", &mut HashSet::new()).await;
    assert_eq!(fresh.stands("w").await, (WorkflowState::Failed, 0, 1));
    assert_eq!(fresh.retried("w").await, Some(1));
    assert_eq!(fresh.work(done, true).await, ["s"]);
    assert_eq!(fresh.stands("w").await, (WorkflowState::Done, 1, 0));
    fresh.is_sound().await;
}

async fn a_task_of_an_earlier_workflow_of_the_same_id_ends_no_step(fresh: Fresh) {
    // Left by an earlier workflow: an archived task of step 1, and one of step 2 that has succeeded.
    for (number, how) in [(1, archive("old")), (2, Verdict::Done)] {
        let old = Task::new("old").id(task_of("w", number)).retention(secs(86_400));
        fresh.put([old.header(WORKFLOW_HEADER, format!("w/{number}/1"))]).await;
        let claim = fresh.claim_one().await;
        let step = step_of_task(claim.task()).unwrap();
        assert_eq!((step.number, step.created_ms), (number, 1));
        fresh.end(&claim, how).await;
    }
    fresh.broker.keep_workflow(&workflow("w", &[3])).await.unwrap();
    assert!(
        !StepOfTask {
            workflow: "w".to_owned(),
            number: 1,
            created_ms: 1
        }
        .is_of(&fresh.head("w").await)
    );
    // Step 0 has failed while the stage was being sent.
    fresh.report("w", &[(0, StepEnd::Failed("no".to_owned()))]).await;
    let mut gone = HashSet::new();
    for _ in 0..2 {
        fresh.look_at("w", &mut gone).await;
    }
    assert_eq!(fresh.stands("w").await, (WorkflowState::Failed, 0, 1));
    assert_eq!(fresh.work(done, true).await, ["on:failed"]);
    // The retry enqueues step 0, then the stage is sent again: the ids of the others are taken.
    assert_eq!(fresh.retried("w").await, Some(1));
    assert_eq!(fresh.stands("w").await, (WorkflowState::Failed, 0, 2));
    for number in [1, 2] {
        let steps = fresh.broker.workflow_steps("w", number, 1).await.unwrap();
        let Some(StepEnd::Failed(why)) = &steps[0].end else {
            panic!("step {number} has {:?}", steps[0].end);
        };
        assert!(why.contains("another task has the id"), "{why}");
    }
    assert_eq!(fresh.retried("w").await, Some(0));
    let default = queue("default");
    for number in [1, 2] {
        let old = task_of("w", number);
        fresh.broker.act(&default, &old, Action::Delete).await.unwrap();
    }
    assert_eq!(fresh.retried("w").await, Some(2));
    let mut ran = fresh.work(done, true).await;
    ran.retain(|kind| kind == "s");
    assert_eq!(ran, ["s", "s", "s"]);
    assert_eq!(fresh.stands("w").await, (WorkflowState::Done, 3, 0));
    fresh.is_sound().await;
}
