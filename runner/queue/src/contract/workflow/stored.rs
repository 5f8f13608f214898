//! What is kept of workflows, for how long, and how their place changes.

use bytes::Bytes;

use super::{step, workflow};
use crate::contract::shared::{archive, secs};
use crate::contract::{Clause, Fresh};
use crate::{StepEnd, WorkflowState};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        a_workflow_is_kept_once_and_listed_newest_first,
        the_place_of_a_workflow_changes_by_compare_and_set,
        a_workflow_that_runs_is_kept_however_long_that_takes,
        a_workflow_that_is_run_again_stays_at_its_place_in_the_list,
        an_id_is_free_once_its_workflow_is_no_longer_kept,
    ]
}

async fn a_workflow_is_kept_once_and_listed_newest_first(fresh: Fresh) {
    assert!(fresh.broker.workflow("a").await.unwrap().is_none());
    let new = workflow("a", &[1, 2]);
    assert!(fresh.broker.keep_workflow(&new).await.unwrap());
    assert!(!fresh.broker.keep_workflow(&workflow("a", &[1])).await.unwrap());
    fresh.clock.advance(secs(1));
    fresh.broker.keep_workflow(&workflow("b", &[1])).await.unwrap();
    let listed = async |open| fresh.broker.workflow_ids(open, 0, 9).await.unwrap();
    assert_eq!(
        (listed(false).await, listed(true).await),
        (ids(&["b", "a"]), ids(&["b", "a"]))
    );
    assert_eq!(fresh.broker.workflow_ids(false, 1, 9).await.unwrap(), ["a"]);
    assert_eq!(fresh.broker.workflow_count().await.unwrap(), 2);
    let head = fresh.head("a").await;
    assert_eq!(
        (head.plan, head.place.state),
        (new.stored_plan(), WorkflowState::Running)
    );
    let steps = fresh.broker.workflow_steps("a", 1, 9).await.unwrap();
    let numbers: Vec<u32> = steps.iter().map(|step| step.number).collect();
    assert_eq!(
        (numbers, &steps[0].step, &steps[0].end),
        (vec![1, 2], &step("s"), &None)
    );
    let payloads = fresh.broker.workflow_payloads("a", 1, 2).await.unwrap();
    assert_eq!(payloads, [Bytes::from("1"), Bytes::from("2")]);
    fresh.cancelled("b").await;
    assert_eq!(
        (listed(false).await, listed(true).await),
        (ids(&["b", "a"]), ids(&["a"]))
    );
    fresh.is_sound().await;
}

fn ids(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn the_place_of_a_workflow_changes_by_compare_and_set(fresh: Fresh) {
    fresh.broker.keep_workflow(&workflow("w", &[1])).await.unwrap();
    let from = fresh.head("w").await.place;
    let to = crate::WorkflowPlace { sent: 1, ..from };
    assert!(fresh.broker.move_workflow("w", from, to).await.unwrap());
    assert!(!fresh.broker.move_workflow("w", from, to).await.unwrap());
    assert!(!fresh.broker.move_workflow("other", from, to).await.unwrap());
    assert_eq!(fresh.head("w").await.place, to);
    fresh.is_sound().await;
}

async fn a_workflow_that_runs_is_kept_however_long_that_takes(fresh: Fresh) {
    fresh.begin(&workflow("w", &[1])).await;
    fresh.begin(&workflow("over", &[1])).await;
    fresh.cancelled("over").await;
    fresh.clock.advance(crate::WORKFLOWS_KEPT_FOR + secs(1));
    fresh.broker.keep_workflow(&workflow("new", &[1])).await.unwrap();
    assert_eq!(fresh.stands("w").await.0, WorkflowState::Running);
    let open = fresh.broker.workflow_ids(true, 0, 9).await.unwrap();
    assert_eq!(open, ["new", "w"]);
    if !fresh.real_time_ttl {
        assert!(fresh.broker.workflow("over").await.unwrap().is_none());
    }
    fresh.is_sound().await;
}

async fn a_workflow_that_is_run_again_stays_at_its_place_in_the_list(fresh: Fresh) {
    for name in ["a", "b"] {
        fresh.begin(&workflow(name, &[1])).await;
        fresh.clock.advance(secs(1));
    }
    let claim = fresh.claim_one().await;
    fresh.end(&claim, archive("no")).await;
    fresh.report("a", &[(0, StepEnd::Failed("no".to_owned()))]).await;
    assert_eq!(fresh.retried("a").await, Some(1));
    for open in [false, true] {
        assert_eq!(fresh.broker.workflow_ids(open, 0, 9).await.unwrap(), ["b", "a"]);
    }
    fresh.is_sound().await;
}

async fn an_id_is_free_once_its_workflow_is_no_longer_kept(fresh: Fresh) {
    // Redis watches over that itself, in real time.
    if !fresh.real_time_ttl {
        for number in 0..30 {
            let name = format!("w{number}");
            fresh.begin(&workflow(&name, &[1])).await;
            fresh.cancelled(&name).await;
        }
        fresh.clock.advance(crate::WORKFLOWS_KEPT_FOR + secs(1));
        assert!(fresh.broker.keep_workflow(&workflow("w29", &[1])).await.unwrap());
    }
    fresh.is_sound().await;
}
