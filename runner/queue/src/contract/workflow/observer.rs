//! What an observer hears: each failure and each end, once, with its tasks enqueued beside the callback.

use std::sync::Mutex;

use bytes::Bytes;
use runner_core::task::{Task, TaskId};

use super::{done, workflow};
use crate::contract::shared::{archive, secs};
use crate::contract::{Clause, Fresh};
use crate::{
    Delivery, StepEnd, Verdict, WorkflowHead, WorkflowObserver, WorkflowState, advance_workflow, cancel_workflow,
    end_workflow_steps, retry_workflow,
};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        each_failure_and_the_end_are_heard_of_once,
        what_a_process_that_died_was_to_report_is_enqueued_once,
        without_an_observer_a_failure_waits_for_one,
        open_workflows_are_counted_by_state,
    ]
}

/// Counts ends, and enqueues a task of the type `heard` for each.
#[derive(Default)]
struct Counting(Mutex<Vec<&'static str>>);

impl Counting {
    fn ends(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().clone()
    }
}

impl WorkflowObserver for Counting {
    fn tasks(&self, head: &WorkflowHead, end: WorkflowState) -> Vec<Delivery> {
        let id = format!("heard:{}:{}:{}", head.id, end.as_str(), head.place.epoch);
        vec![Delivery {
            task: Task::new("heard").id(TaskId::new(id).unwrap()),
            remember: secs(3600),
        }]
    }

    fn ended(&self, end: WorkflowState) {
        self.0.lock().unwrap().push(end.as_str());
    }
}

impl Fresh {
    /// Reports an end to an observer.
    async fn end_for(&self, end: StepEnd, observer: &Counting) {
        let head = self.head("w").await;
        let ends = [(0, end)];
        end_workflow_steps(&*self.broker, &head, &ends, Some(observer))
            .await
            .unwrap();
    }

    /// Runs everything. Returns the types in order.
    async fn ran(&self) -> Vec<String> {
        let mut kinds = self.work(done, false).await;
        kinds.sort();
        kinds
    }
}

async fn each_failure_and_the_end_are_heard_of_once(fresh: Fresh) {
    let counting = Counting::default();
    fresh.begin(&workflow("w", &[1])).await;
    for epoch in 1..=2 {
        let claim = fresh.claim_one().await;
        fresh.end(&claim, archive("no")).await;
        for _ in 0..2 {
            fresh.end_for(StepEnd::Failed("no".to_owned()), &counting).await;
            advance_workflow(&*fresh.broker, "w", Some(&counting)).await.unwrap();
        }
        assert_eq!(counting.ends(), vec!["failed"; epoch]);
        let again = retry_workflow(&*fresh.broker, "w", Some(&counting)).await.unwrap();
        assert_eq!(again, Some(1));
        let mut waiting = fresh.claim(9).await;
        waiting.sort_by(|one, other| one.task().kind.cmp(&other.task().kind));
        let kinds: Vec<&str> = waiting.iter().map(|claim| claim.task().kind.as_str()).collect();
        assert_eq!(kinds, ["heard", "on:failed", "s"]);
        for claim in &waiting {
            let how = if claim.task().kind == "s" {
                Verdict::HandBack
            } else {
                Verdict::Done
            };
            fresh.end(claim, how).await;
        }
    }
    let claim = fresh.claim_one().await;
    fresh.end(&claim, Verdict::Done).await;
    for _ in 0..2 {
        fresh.end_for(StepEnd::Done(Bytes::new()), &counting).await;
        advance_workflow(&*fresh.broker, "w", Some(&counting)).await.unwrap();
    }
    assert_eq!(counting.ends(), ["failed", "failed", "done"]);
    assert_eq!(fresh.ran().await, ["heard", "on:done"]);
    // One that is cancelled, too.
    fresh.begin(&workflow("c", &[1])).await;
    for _ in 0..2 {
        cancel_workflow(&*fresh.broker, "c", Some(&counting)).await.unwrap();
    }
    assert_eq!(counting.ends(), ["failed", "failed", "done", "cancelled"]);
    assert_eq!(fresh.ran().await, ["heard"]);
    fresh.is_sound().await;
}

async fn what_a_process_that_died_was_to_report_is_enqueued_once(fresh: Fresh) {
    let (dead, counting) = (Counting::default(), Counting::default());
    fresh.begin(&workflow("w", &[1])).await;
    let claim = fresh.claim_one().await;
    fresh.end(&claim, archive("no")).await;
    let head = fresh.head("w").await;
    let ends = [(0, StepEnd::Failed("no".to_owned()))];
    let failed = fresh
        .broker
        .end_steps("w", head.place.epoch, &ends)
        .await
        .unwrap()
        .unwrap();
    // It has enqueued all, and not yet written that down.
    fresh
        .broker
        .enqueue_once(&dead.tasks(&failed, WorkflowState::Failed))
        .await
        .unwrap();
    advance_workflow(&*fresh.broker, "w", Some(&counting)).await.unwrap();
    assert_eq!(fresh.ran().await, ["heard", "on:failed"]);
    assert_eq!((dead.ends().len(), counting.ends()), (0, vec!["failed"]));
    fresh.is_sound().await;
}

async fn without_an_observer_a_failure_waits_for_one(fresh: Fresh) {
    let counting = Counting::default();
    fresh.begin(&workflow("w", &[1])).await;
    let claim = fresh.claim_one().await;
    fresh.end(&claim, archive("no")).await;
    let head = fresh.head("w").await;
    let ends = [(0, StepEnd::Failed("no".to_owned()))];
    end_workflow_steps(&*fresh.broker, &head, &ends, None).await.unwrap();
    assert_eq!(fresh.stands("w").await, (WorkflowState::Failed, 0, 1));
    assert!(fresh.claim(9).await.is_empty());
    advance_workflow(&*fresh.broker, "w", Some(&counting)).await.unwrap();
    assert_eq!(fresh.ran().await, ["heard", "on:failed"]);
    // The same goes for the success of one that has failed before.
    assert_eq!(retry_workflow(&*fresh.broker, "w", None).await.unwrap(), Some(1));
    let (head, ends) = (fresh.head("w").await, [(0, StepEnd::Done(Bytes::new()))]);
    end_workflow_steps(&*fresh.broker, &head, &ends, None).await.unwrap();
    assert_eq!(fresh.stands("w").await, (WorkflowState::Running, 1, 0));
    advance_workflow(&*fresh.broker, "w", Some(&counting)).await.unwrap();
    assert_eq!(fresh.stands("w").await, (WorkflowState::Done, 1, 0));
    assert_eq!(fresh.ran().await, ["heard", "on:done", "s"]);
    assert_eq!(counting.ends(), ["failed", "done"]);
    // One that has not failed needs none.
    let mut new = workflow("x", &[1]);
    new.plan.on_done = None;
    fresh.begin(&new).await;
    fresh.work(done, false).await;
    let ends = [(0, StepEnd::Done(Bytes::new()))];
    end_workflow_steps(&*fresh.broker, &fresh.head("x").await, &ends, None)
        .await
        .unwrap();
    assert_eq!(fresh.stands("x").await, (WorkflowState::Done, 1, 0));
    fresh.is_sound().await;
}

async fn open_workflows_are_counted_by_state(fresh: Fresh) {
    assert!(fresh.broker.workflow_states(9).await.unwrap().is_empty());
    for name in ["a", "b", "c"] {
        fresh.begin(&workflow(name, &[1])).await;
        fresh.clock.advance(secs(1));
    }
    fresh.cancelled("b").await;
    fresh.report("c", &[(0, StepEnd::Failed("no".to_owned()))]).await;
    let states = [WorkflowState::Failed, WorkflowState::Running];
    assert_eq!(fresh.broker.workflow_states(9).await.unwrap(), states);
    assert_eq!(fresh.broker.workflow_states(1).await.unwrap(), states[..1]);
    fresh.is_sound().await;
}
