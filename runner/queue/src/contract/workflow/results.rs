//! Which results of steps are kept, how many bytes of them, and for how long.

use bytes::Bytes;
use runner_core::task::TaskId;

use super::{task_of, workflow};
use crate::contract::shared::{archive, queue};
use crate::contract::{Clause, Fresh};
use crate::{Action, GivenResults, MAX_RESULTS_KEPT, MAX_STEP_RESULT, NewWorkflow, StepEnd, WorkflowState};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        results_that_no_step_is_given_are_not_kept,
        results_are_kept_until_the_steps_that_were_given_them_are_done,
        stages_of_large_results_may_follow_each_other,
        results_beyond_the_bound_are_left_out_and_the_step_says_so,
    ]
}

/// The workflow with a step that is given all results before it, or the first one.
fn given(mut new: NewWorkflow, step: usize, all: bool) -> NewWorkflow {
    let member = "rows".to_owned();
    new.steps[step].0.takes = Some(GivenResults { member, all });
    new.steps[step].1 = Bytes::new();
    new
}

impl Fresh {
    /// Reports that these steps are done, each with a result of this size.
    async fn done_with(&self, steps: std::ops::Range<u32>, bytes: usize) {
        let result = Bytes::from("x".repeat(bytes));
        let ends: Vec<_> = steps.map(|number| (number, StepEnd::Done(result.clone()))).collect();
        self.report("w", &ends).await;
    }

    /// How many bytes are kept of the result of each step.
    async fn kept(&self, steps: u32) -> Vec<usize> {
        let steps = self.broker.workflow_steps("w", 0, steps).await.unwrap();
        let bytes = |end: &Option<StepEnd>| match end {
            Some(StepEnd::Done(result)) => result.len(),
            _ => 0,
        };
        steps.iter().map(|step| bytes(&step.end)).collect()
    }

    async fn payload(&self, id: &TaskId) -> Vec<u8> {
        let found = self.broker.task(&queue("default"), id).await.unwrap();
        found.expect("a task").record.payload.to_vec()
    }
}

async fn results_that_no_step_is_given_are_not_kept(fresh: Fresh) {
    let each = 16 << 10;
    let many = u32::try_from(MAX_RESULTS_KEPT).unwrap() / (16 << 10) + 1;
    // Nor those beside the one that is.
    let new = given(workflow("w", &[many, 2, 1]), many as usize + 2, false);
    fresh.begin(&new).await;
    fresh.done_with(0..many, each).await;
    fresh.done_with(many..many + 2, each).await;
    let mut kept = fresh.kept(many + 3).await;
    assert_eq!(kept.split_off(many as usize), [each, 0, 0]);
    assert_eq!(kept.iter().sum::<usize>(), 0);
    assert_eq!(fresh.stands("w").await, (WorkflowState::Running, many + 2, 0));
    let last = fresh.payload(&task_of("w", many + 2)).await;
    assert!(last.len() > each, "{}", last.len());
    fresh.is_sound().await;
}

async fn results_are_kept_until_the_steps_that_were_given_them_are_done(fresh: Fresh) {
    let new = given(given(workflow("w", &[2, 1, 1]), 2, true), 3, false);
    fresh.begin(&new).await;
    fresh.done_with(0..2, 10).await;
    assert_eq!(fresh.kept(4).await, [10, 10, 0, 0]);
    // The step that was given them fails and its task is deleted: the retry makes the same one again.
    let before = fresh.payload(&task_of("w", 2)).await;
    for claim in fresh.claim(9).await {
        if claim.task().id == task_of("w", 2) {
            fresh.end(&claim, archive("no")).await;
        }
    }
    fresh.report("w", &[(2, StepEnd::Failed("no".to_owned()))]).await;
    let default = queue("default");
    fresh
        .broker
        .act(&default, &task_of("w", 2), Action::Delete)
        .await
        .unwrap();
    assert_eq!(fresh.retried("w").await, Some(1));
    assert_eq!(fresh.payload(&task_of("w", 2)).await, before);
    fresh.done_with(2..3, 10).await;
    assert_eq!(fresh.kept(4).await, [0, 0, 10, 0]);
    fresh.done_with(3..4, 10).await;
    assert_eq!(fresh.stands("w").await, (WorkflowState::Done, 4, 0));
    assert_eq!(fresh.kept(4).await, [0, 0, 0, 0]);
    fresh.is_sound().await;
}

async fn stages_of_large_results_may_follow_each_other(fresh: Fresh) {
    // 60 results of 64 KiB are nearly all that a step may be given; five such stages have more than is kept.
    let mut new = workflow("w", &[60; 6]);
    for stage in 1..6 {
        new = given(new, stage * 60, true);
    }
    fresh.begin(&new).await;
    for stage in 0..6 {
        fresh.done_with(stage * 60..(stage + 1) * 60, MAX_STEP_RESULT).await;
    }
    assert_eq!(fresh.stands("w").await, (WorkflowState::Done, 360, 0));
    assert_eq!(fresh.kept(360).await.iter().sum::<usize>(), 0);
    fresh.is_sound().await;
}

async fn results_beyond_the_bound_are_left_out_and_the_step_says_so(fresh: Fresh) {
    let most = u32::try_from(MAX_RESULTS_KEPT).unwrap() / u32::try_from(MAX_STEP_RESULT).unwrap();
    let new = given(workflow("w", &[most + 2, 1]), most as usize + 2, true);
    fresh.begin(&new).await;
    for from in (0..most + 2).step_by(50) {
        fresh.done_with(from..(from + 50).min(most + 2), MAX_STEP_RESULT).await;
    }
    let steps = fresh.broker.workflow_steps("w", 0, most + 2).await.unwrap();
    assert_eq!(steps.iter().filter(|step| step.left_out).count(), 2);
    assert!(steps.iter().all(|step| matches!(step.end, Some(StepEnd::Done(_)))));
    // A success counts once, also without its result.
    fresh.done_with(most..most + 2, 1).await;
    assert_eq!(fresh.stands("w").await, (WorkflowState::Failed, most + 2, 1));
    let error = fresh.head("w").await.error;
    assert!(error.contains("have more than 4194304 bytes"), "{error}");
    fresh.is_sound().await;
}
