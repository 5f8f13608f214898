//! How a stage begins: when, with which results, and how its tasks are enqueued.

use bytes::Bytes;

use super::{done, task_of, workflow};
use crate::contract::{Clause, Fresh};
use crate::{GivenResults, StepEnd, Verdict, WorkflowState, step_of_task};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        a_stage_begins_when_all_steps_before_it_have_succeeded,
        a_step_is_given_the_results_of_the_stage_before,
        what_has_ended_is_not_enqueued_when_its_stage_is_sent_again,
        a_stage_of_large_payloads_is_enqueued_in_parts,
    ]
}

async fn a_stage_begins_when_all_steps_before_it_have_succeeded(fresh: Fresh) {
    fresh.begin(&workflow("w", &[1, 3, 1])).await;
    assert_eq!(fresh.work(done, true).await, ["s"]);
    let three = fresh.claim(9).await;
    assert_eq!(three.len(), 3);
    for claim in &three[..2] {
        fresh.end(claim, Verdict::Done).await;
    }
    fresh
        .report(
            "w",
            &[(1, StepEnd::Done(Bytes::new())), (2, StepEnd::Done(Bytes::new()))],
        )
        .await;
    assert!(fresh.claim(9).await.is_empty());
    assert_eq!(fresh.stands("w").await, (WorkflowState::Running, 3, 0));
    fresh.end(&three[2], Verdict::Done).await;
    fresh.report("w", &[(3, StepEnd::Done(Bytes::new()))]).await;
    assert_eq!(fresh.work(done, true).await, ["s"]);
    assert_eq!(fresh.stands("w").await, (WorkflowState::Done, 5, 0));
    assert_eq!(fresh.work(done, true).await, ["on:done"]);
    fresh.advanced("w").await;
    assert!(fresh.claim(9).await.is_empty(), "it is called once");
    fresh.is_sound().await;
}

async fn a_step_is_given_the_results_of_the_stage_before(fresh: Fresh) {
    let mut new = workflow("w", &[2, 2]);
    for (place, all) in [(2, true), (3, false)] {
        new.steps[place].0.takes = Some(GivenResults {
            member: "rows".to_owned(),
            all,
        });
        new.steps[place].1 = Bytes::from(r#"{"a":1}"#);
    }
    fresh.begin(&new).await;
    fresh.work(done, true).await;
    let given: Vec<Bytes> = fresh
        .claim(9)
        .await
        .iter()
        .map(|claim| claim.task().payload.clone())
        .collect();
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let given: Vec<_> = given
        .iter()
        .map(|bytes| serde_json::from_slice::<serde_json::Value>(bytes).unwrap())
        .collect();
    assert_eq!(given[0], json(r#"{"a":1,"rows":[{"n":0},{"n":1}]}"#));
    assert_eq!(given[1], json(r#"{"a":1,"rows":{"n":0}}"#));
    fresh.is_sound().await;
}

async fn what_has_ended_is_not_enqueued_when_its_stage_is_sent_again(fresh: Fresh) {
    fresh.broker.keep_workflow(&workflow("w", &[2, 1])).await.unwrap();
    let ends = [(0, StepEnd::Done(Bytes::new()))];
    fresh.broker.end_steps("w", 0, &ends).await.unwrap();
    fresh.advanced("w").await;
    assert_eq!(fresh.claim_one().await.task().id, task_of("w", 1));
    assert!(fresh.claim(9).await.is_empty());
    fresh.is_sound().await;
}

async fn a_stage_of_large_payloads_is_enqueued_in_parts(fresh: Fresh) {
    // 48 results of 64 KiB are 3 MiB for each of 12 steps: 36 MiB, which is more than two parts.
    let mut new = workflow("w", &[48, 12]);
    for (step, payload) in &mut new.steps[48..] {
        step.takes = Some(GivenResults {
            member: "rows".to_owned(),
            all: true,
        });
        *payload = Bytes::new();
    }
    fresh.begin(&new).await;
    let result = Bytes::from("x".repeat(crate::MAX_STEP_RESULT));
    let mut first = Vec::new();
    for claim in fresh.claim(48).await {
        fresh.end(&claim, Verdict::Done).await;
        let step = step_of_task(claim.task()).unwrap();
        first.push((step.number, StepEnd::Done(result.clone())));
    }
    fresh.report("w", &first).await;
    // One claim may hand out a few of them, because their payloads are large.
    let mut ran = 0;
    loop {
        let second = fresh.claim(99).await;
        if second.is_empty() {
            break;
        }
        for claim in &second {
            fresh.end(claim, Verdict::Done).await;
            // The callback, after the last one.
            let Some(step) = step_of_task(claim.task()) else {
                continue;
            };
            ran += 1;
            assert!(claim.task().payload.len() > 48 * crate::MAX_STEP_RESULT);
            fresh.report("w", &[(step.number, StepEnd::Done(Bytes::new()))]).await;
        }
    }
    assert_eq!(ran, 12);
    assert_eq!(fresh.stands("w").await, (WorkflowState::Done, 60, 0));
    fresh.is_sound().await;
}
