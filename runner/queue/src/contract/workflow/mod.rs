//! Clauses about workflows, and what they share: workflows to try, and a worker that reports what it ends.

use std::collections::HashSet;

use bytes::Bytes;
use runner_core::task::{Task, TaskId};

use super::shared::verdict;
use super::{Clause, Fresh};
use crate::{
    Delivery, NewWorkflow, StepEnd, StepOfTask, Verdict, WorkflowCallback, WorkflowHead, WorkflowObserver,
    WorkflowPlan, WorkflowState, WorkflowStep, advance_workflow, cancel_workflow, end_workflow_steps, look_at_workflow,
    retry_workflow, step_of_task, step_task_id,
};

mod cancel;
mod ends;
mod ids;
mod look;
mod observer;
mod results;
mod retry;
mod stages;
mod stored;

pub(super) fn clauses() -> Vec<Clause> {
    [
        stored::clauses(),
        stages::clauses(),
        results::clauses(),
        ends::clauses(),
        look::clauses(),
        retry::clauses(),
        cancel::clauses(),
        ids::clauses(),
        observer::clauses(),
    ]
    .concat()
}

fn step(kind: &str) -> WorkflowStep {
    WorkflowStep::of(&Task::new(kind).retry(0), None)
}

fn called(kind: &str) -> Option<WorkflowCallback> {
    Some(WorkflowCallback {
        step: step(kind),
        payload: Vec::new(),
    })
}

/// Steps of type `s` with their numbers as payloads.
fn workflow(name: &str, stages: &[u32]) -> NewWorkflow {
    let steps: u32 = stages.iter().sum();
    NewWorkflow {
        id: name.to_owned(),
        plan: WorkflowPlan {
            name: "import".to_owned(),
            stages: stages.to_vec(),
            on_done: called("on:done"),
            on_failed: called("on:failed"),
            ..WorkflowPlan::default()
        },
        steps: (0..steps)
            .map(|number| (step("s"), Bytes::from(number.to_string())))
            .collect(),
    }
}

/// An observer that adds nothing.
struct Silent;

impl WorkflowObserver for Silent {
    fn tasks(&self, _: &WorkflowHead, _: WorkflowState) -> Vec<Delivery> {
        Vec::new()
    }

    fn ended(&self, _: WorkflowState) {}
}

impl Fresh {
    async fn begin(&self, new: &NewWorkflow) {
        assert!(self.broker.keep_workflow(new).await.unwrap());
        self.advanced(&new.id).await.unwrap();
    }

    async fn advanced(&self, name: &str) -> Option<WorkflowHead> {
        advance_workflow(&*self.broker, name, Some(&Silent)).await.unwrap()
    }

    async fn cancelled(&self, name: &str) -> Option<WorkflowHead> {
        cancel_workflow(&*self.broker, name, Some(&Silent)).await.unwrap()
    }

    async fn retried(&self, name: &str) -> Option<u32> {
        retry_workflow(&*self.broker, name, Some(&Silent)).await.unwrap()
    }

    async fn head(&self, name: &str) -> WorkflowHead {
        self.broker.workflow(name).await.unwrap().expect("a workflow")
    }

    async fn stands(&self, name: &str) -> (WorkflowState, u32, u32) {
        let head = self.head(name).await;
        (head.place.state, head.done, head.failed)
    }

    async fn report(&self, name: &str, ends: &[(u32, StepEnd)]) {
        let head = self.head(name).await;
        end_workflow_steps(&*self.broker, &head, ends, Some(&Silent))
            .await
            .unwrap();
    }

    /// Claims everything, ends it, and reports it as a worker does. Returns the types.
    async fn work(&self, how: impl Fn(u32) -> Verdict, reports: bool) -> Vec<String> {
        let mut kinds = Vec::new();
        for claim in self.claim(100).await {
            kinds.push(claim.task().kind.clone());
            let Some(StepOfTask { workflow, number, .. }) = step_of_task(claim.task()) else {
                self.end(&claim, Verdict::Done).await;
                continue;
            };
            let mut settlement = verdict(&claim, how(number));
            settlement.result = Some(Bytes::from(format!("{{\"n\":{number}}}")));
            let end = match &settlement.verdict {
                Verdict::Archive { error } => StepEnd::Failed(error.clone()),
                _ => StepEnd::Done(settlement.result.clone().unwrap()),
            };
            self.broker.settle(&[settlement]).await.unwrap();
            if reports {
                self.report(&workflow, &[(number, end)]).await;
            }
        }
        kinds
    }

    async fn look_at(&self, name: &str, gone: &mut HashSet<String>) {
        look_at_workflow(&*self.broker, name, &mut 0, gone, Some(&Silent))
            .await
            .unwrap();
    }
}

fn done(_: u32) -> Verdict {
    Verdict::Done
}

fn task_of(name: &str, number: u32) -> TaskId {
    step_task_id(name, number).unwrap()
}
