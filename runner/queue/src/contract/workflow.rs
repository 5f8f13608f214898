//! Clauses about workflows: what is kept of them, what ends count, and what follows from that.

use std::collections::HashSet;

use bytes::Bytes;
use runner_core::task::{Task, TaskId, TaskState};

use super::shared::{archive, queue, retry, secs, verdict};
use super::{Clause, Fresh};
use crate::{
    Action, GivenResults, NewWorkflow, StepEnd, StepOfTask, Verdict, WORKFLOW_HEADER, WorkflowCallback, WorkflowHead,
    WorkflowPlan, WorkflowState, WorkflowStep, advance_workflow, cancel_workflow, end_workflow_steps, look_at_workflow,
    retry_workflow, step_of_task, step_task_id,
};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        a_workflow_is_kept_once_and_listed_newest_first,
        a_stage_begins_when_all_steps_before_it_have_succeeded,
        a_step_is_given_the_results_of_the_stage_before,
        an_end_counts_once_however_often_it_is_reported,
        a_failed_step_ends_the_workflow_and_is_reported_once,
        a_failed_step_that_is_run_again_continues_the_workflow,
        a_failed_step_whose_task_is_gone_is_enqueued_again,
        what_was_left_between_two_steps_is_done_by_the_next_look,
        what_another_worker_ended_is_found_by_a_look,
        a_task_that_is_missed_twice_has_failed,
        a_cancelled_workflow_deletes_what_waits_and_begins_nothing,
        the_place_of_a_workflow_changes_by_compare_and_set,
        an_end_of_a_step_that_does_not_exist_counts_nothing,
        a_task_that_only_has_the_header_ends_no_step,
        a_workflow_that_runs_is_kept_however_long_that_takes,
        a_step_that_fails_while_its_stage_is_sent_is_run_again,
        a_step_that_cannot_be_enqueued_fails_again_at_each_retry,
        a_retry_does_not_run_what_has_succeeded,
        a_step_whose_id_is_taken_fails_and_says_so,
        what_has_ended_is_not_enqueued_when_its_stage_is_sent_again,
        a_workflow_is_being_cancelled_while_a_step_runs,
        a_cancel_after_the_last_step_changes_nothing,
        a_failure_that_was_seen_before_a_retry_counts_nothing,
        a_task_that_is_gone_after_a_retry_is_missed_twice_again,
        a_stage_of_large_payloads_is_enqueued_in_parts,
        what_ended_while_its_stage_was_sent_is_found_after_a_failure,
        a_task_of_an_earlier_workflow_of_the_same_id_ends_no_step,
    ]
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
        },
        steps: (0..steps)
            .map(|number| (step("s"), Bytes::from(number.to_string())))
            .collect(),
    }
}

impl Fresh {
    async fn begin(&self, new: &NewWorkflow) {
        assert!(self.broker.keep_workflow(new).await.unwrap());
        advance_workflow(&*self.broker, &new.id).await.unwrap().unwrap();
    }

    async fn head(&self, name: &str) -> WorkflowHead {
        self.broker.workflow(name).await.unwrap().expect("a workflow")
    }

    async fn stands(&self, name: &str) -> (WorkflowState, u32, u32) {
        let head = self.head(name).await;
        (head.place.state, head.done, head.failed)
    }

    async fn report(&self, name: &str, ends: &[(u32, StepEnd)]) {
        let found = self.broker.workflow(name).await.unwrap();
        let epoch = found.map_or(0, |head| head.place.epoch);
        end_workflow_steps(&*self.broker, name, epoch, ends).await.unwrap();
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
        look_at_workflow(&*self.broker, name, &mut 0, gone).await.unwrap();
    }
}

fn done(_: u32) -> Verdict {
    Verdict::Done
}

fn task_of(name: &str, number: u32) -> TaskId {
    step_task_id(name, number).unwrap()
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
    assert_eq!((head.plan, head.place.state), (new.plan, WorkflowState::Running));
    let steps = fresh.broker.workflow_steps("a", 1, 9).await.unwrap();
    let numbers: Vec<u32> = steps.iter().map(|step| step.number).collect();
    assert_eq!(
        (numbers, &steps[0].step, &steps[0].end),
        (vec![1, 2], &step("s"), &None)
    );
    let payloads = fresh.broker.workflow_payloads("a", 1, 2).await.unwrap();
    assert_eq!(payloads, [Bytes::from("1"), Bytes::from("2")]);
    cancel_workflow(&*fresh.broker, "b").await.unwrap();
    assert_eq!(
        (listed(false).await, listed(true).await),
        (ids(&["b", "a"]), ids(&["a"]))
    );
    fresh.is_sound().await;
}

fn ids(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
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
    advance_workflow(&*fresh.broker, "w").await.unwrap();
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
    advance_workflow(&*fresh.broker, "w").await.unwrap();
    assert_eq!(fresh.work(done, true).await, ["on:failed"]);
    assert!(fresh.claim(9).await.is_empty());
    fresh.is_sound().await;
}

async fn a_failed_step_that_is_run_again_continues_the_workflow(fresh: Fresh) {
    fresh.begin(&workflow("w", &[2, 1])).await;
    fresh
        .work(|number| if number == 1 { archive("no") } else { Verdict::Done }, true)
        .await;
    fresh.work(done, true).await;
    assert_eq!(retry_workflow(&*fresh.broker, "w").await.unwrap(), Some(1));
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
    assert_eq!(retry_workflow(&*fresh.broker, "w").await.unwrap(), Some(0));
    assert_eq!(retry_workflow(&*fresh.broker, "other").await.unwrap(), None);
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
    retry_workflow(&*fresh.broker, "w").await.unwrap();
    let claim = fresh.claim_one().await;
    assert_eq!(
        (&claim.task().id, &claim.task().payload[..]),
        (&task_of("w", 0), &b"0"[..])
    );
    fresh.is_sound().await;
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
    fresh.begin(&workflow("w", &[2, 1])).await;
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

async fn a_cancelled_workflow_deletes_what_waits_and_begins_nothing(fresh: Fresh) {
    fresh.begin(&workflow("w", &[2, 1])).await;
    let running = fresh.claim_one().await;
    let head = cancel_workflow(&*fresh.broker, "w").await.unwrap().unwrap();
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
    assert!(cancel_workflow(&*fresh.broker, "other").await.unwrap().is_none());
    fresh.is_sound().await;
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

async fn a_workflow_that_runs_is_kept_however_long_that_takes(fresh: Fresh) {
    fresh.begin(&workflow("w", &[1])).await;
    fresh.begin(&workflow("over", &[1])).await;
    cancel_workflow(&*fresh.broker, "over").await.unwrap();
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
    assert_eq!(retry_workflow(&*fresh.broker, "w").await.unwrap(), Some(1));
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
    assert_eq!(retry_workflow(&*fresh.broker, "w").await.unwrap(), Some(1));
    assert_eq!(fresh.stands("w").await, (WorkflowState::Failed, 2, 1));
    assert_eq!(fresh.work(done, true).await, ["on:failed"]);
    fresh.is_sound().await;
}

async fn a_retry_does_not_run_what_has_succeeded(fresh: Fresh) {
    fresh.begin(&workflow("w", &[1])).await;
    fresh.work(done, false).await;
    fresh.report("w", &[(0, StepEnd::Failed("gone".to_owned()))]).await;
    assert_eq!(fresh.work(done, true).await, ["on:failed"]);
    assert_eq!(retry_workflow(&*fresh.broker, "w").await.unwrap(), Some(1));
    assert_eq!(fresh.stands("w").await, (WorkflowState::Done, 1, 0));
    assert_eq!(fresh.work(done, true).await, ["on:done"]);
    fresh.is_sound().await;
}

async fn a_step_whose_id_is_taken_fails_and_says_so(fresh: Fresh) {
    fresh.put([Task::new("other").id(task_of("w", 0))]).await;
    fresh.begin(&workflow("w", &[1])).await;
    assert_eq!(fresh.stands("w").await, (WorkflowState::Failed, 0, 1));
    let error = fresh.head("w").await.error;
    assert!(error.contains("another task has the id"), "{error}");
    assert_eq!(retry_workflow(&*fresh.broker, "w").await.unwrap(), Some(0));
    let mut ran = fresh.work(done, true).await;
    ran.sort();
    assert_eq!(ran, ["on:failed", "other"]);
    fresh.look_at("w", &mut HashSet::new()).await;
    assert_eq!(fresh.stands("w").await, (WorkflowState::Failed, 0, 1));
    assert_eq!(retry_workflow(&*fresh.broker, "w").await.unwrap(), Some(1));
    assert_eq!(fresh.work(done, true).await, ["s"]);
    assert_eq!(fresh.stands("w").await, (WorkflowState::Done, 1, 0));
    fresh.is_sound().await;
}

async fn what_has_ended_is_not_enqueued_when_its_stage_is_sent_again(fresh: Fresh) {
    fresh.broker.keep_workflow(&workflow("w", &[2, 1])).await.unwrap();
    let ends = [(0, StepEnd::Done(Bytes::new()))];
    fresh.broker.end_steps("w", 0, &ends).await.unwrap();
    advance_workflow(&*fresh.broker, "w").await.unwrap();
    assert_eq!(fresh.claim_one().await.task().id, task_of("w", 1));
    assert!(fresh.claim(9).await.is_empty());
    fresh.is_sound().await;
}

async fn a_workflow_is_being_cancelled_while_a_step_runs(fresh: Fresh) {
    fresh.begin(&workflow("w", &[4, 1])).await;
    let running = fresh.claim(3).await;
    let failed = step_of_task(running[0].task()).unwrap().number;
    fresh.end(&running[0], archive("no")).await;
    let head = cancel_workflow(&*fresh.broker, "w").await.unwrap().unwrap();
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
    let head = cancel_workflow(&*fresh.broker, "w").await.unwrap().unwrap();
    assert_eq!(head.place.state, WorkflowState::Done);
    assert!(fresh.work(done, true).await.contains(&"on:done".to_owned()));
    fresh.is_sound().await;
}

async fn a_failure_that_was_seen_before_a_retry_counts_nothing(fresh: Fresh) {
    fresh.begin(&workflow("w", &[2])).await;
    fresh.work(|_| archive("no"), true).await;
    assert_eq!(fresh.work(done, true).await, ["on:failed"]);
    // A slow runner has read the workflow and its archived task, and writes that down after the retry.
    let seen = fresh.head("w").await.place.epoch;
    assert_eq!(retry_workflow(&*fresh.broker, "w").await.unwrap(), Some(2));
    let late = [(0, StepEnd::Failed("no".to_owned()))];
    end_workflow_steps(&*fresh.broker, "w", seen, &late).await.unwrap();
    assert_eq!(fresh.stands("w").await, (WorkflowState::Running, 0, 0));
    // A success counts whenever it was seen.
    let success = [(0, StepEnd::Done(Bytes::new()))];
    end_workflow_steps(&*fresh.broker, "w", seen, &success).await.unwrap();
    assert_eq!(fresh.work(done, true).await, ["s", "s"]);
    assert_eq!(fresh.stands("w").await, (WorkflowState::Done, 2, 0));
    assert_eq!(fresh.work(done, true).await, ["on:done"]);
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
    assert_eq!(retry_workflow(&*fresh.broker, "w").await.unwrap(), Some(1));
    delete().await;
    fresh.look_at("w", &mut gone).await;
    assert_eq!(fresh.stands("w").await, (WorkflowState::Running, 0, 0));
    fresh.look_at("w", &mut gone).await;
    assert_eq!(fresh.stands("w").await, (WorkflowState::Failed, 0, 1));
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
    assert_eq!(retry_workflow(&*fresh.broker, "w").await.unwrap(), Some(1));
    assert_eq!(fresh.stands("w").await, (WorkflowState::Failed, 0, 2));
    for number in [1, 2] {
        let steps = fresh.broker.workflow_steps("w", number, 1).await.unwrap();
        let Some(StepEnd::Failed(why)) = &steps[0].end else {
            panic!("step {number} has {:?}", steps[0].end);
        };
        assert!(why.contains("another task has the id"), "{why}");
    }
    assert_eq!(retry_workflow(&*fresh.broker, "w").await.unwrap(), Some(0));
    let default = queue("default");
    for number in [1, 2] {
        let old = task_of("w", number);
        fresh.broker.act(&default, &old, Action::Delete).await.unwrap();
    }
    assert_eq!(retry_workflow(&*fresh.broker, "w").await.unwrap(), Some(2));
    let mut ran = fresh.work(done, true).await;
    ran.retain(|kind| kind == "s");
    assert_eq!(ran, ["s", "s", "s"]);
    assert_eq!(fresh.stands("w").await, (WorkflowState::Done, 3, 0));
    fresh.is_sound().await;
}
