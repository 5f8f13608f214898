//! What follows from the state of a workflow: the next stage, its end, and what happened to its steps.
//!
//! Each function may be repeated, and run on several instances at once: ids of tasks follow from the workflow, and are
//! accepted once; its place changes by compare and set. So a process that is killed in the middle leaves nothing that the next
//! look does not complete.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use runner_core::task::{QueueName, Task, TaskId, TaskState};

use super::workflow::{
    GivenResults, MAX_RESULTS_GIVEN, StepEnd, WORKFLOW_HEADER, WORKFLOWS_KEPT_FOR, WorkflowCallback, WorkflowHead,
    WorkflowPlace, WorkflowState, WorkflowStep, WorkflowStepView,
};
use super::{Action, ActionError, Broker, BrokerResult, Delivery, Refusal};

/// Steps of one call.
const BATCH: u32 = 256;

/// How long the ids of steps are refused after they were accepted.
const REMEMBER: Duration = WORKFLOWS_KEPT_FOR;

/// Steps whose tasks one look asks for.
const STEPS_A_LOOK: u32 = 200;

/// How often one look reads [`BATCH`] steps at most, most of which have ended.
const READS_A_LOOK: u32 = 10;

/// The id of the task of a step.
#[must_use]
pub fn step_task_id(workflow: &str, number: u32) -> Option<TaskId> {
    TaskId::new(format!("workflow:{workflow}:{number}")).ok()
}

/// The workflow and the number of the step of a task with this header.
#[must_use]
pub fn step_of_header(header: &str) -> Option<(&str, u32)> {
    let (workflow, number) = header.rsplit_once('/')?;
    Some((workflow, number.parse().ok()?))
}

/// Continues as far as the ended steps allow. Returns the workflow as it is then.
///
/// # Errors
///
/// When the broker could not be asked. What is missing then is done by the next call.
pub async fn advance_workflow(broker: &dyn Broker, id: &str) -> BrokerResult<Option<WorkflowHead>> {
    loop {
        let Some(head) = broker.workflow(id).await? else {
            return Ok(None);
        };
        let place = head.place;
        let to = match place.state {
            WorkflowState::Running if head.done >= head.plan.steps_of(place.sent) => {
                if head.done == head.plan.steps() {
                    call(broker, &head, head.plan.on_done.as_ref(), "done").await?;
                    WorkflowPlace {
                        state: WorkflowState::Done,
                        ..place
                    }
                } else {
                    send_stage(broker, &head).await?;
                    WorkflowPlace {
                        sent: place.sent + 1,
                        ..place
                    }
                }
            }
            WorkflowState::Failed if place.called <= place.epoch => {
                let which = format!("failed:{}", place.epoch);
                call(broker, &head, head.plan.on_failed.as_ref(), &which).await?;
                WorkflowPlace {
                    called: place.epoch + 1,
                    ..place
                }
            }
            WorkflowState::Cancelling => {
                cancel_steps(broker, &head).await?;
                WorkflowPlace {
                    state: WorkflowState::Cancelled,
                    ..place
                }
            }
            _ => return Ok(Some(head)),
        };
        broker.move_workflow(id, place, to).await?;
    }
}

/// Writes down how steps ended, and continues if that allows it.
///
/// # Errors
///
/// As [`advance_workflow`].
pub async fn end_workflow_steps(broker: &dyn Broker, id: &str, ends: &[(u32, StepEnd)]) -> BrokerResult<()> {
    let Some(head) = broker.end_steps(id, ends).await? else {
        return Ok(());
    };
    let place = head.place;
    let stage_is_over = place.state == WorkflowState::Running && head.done >= head.plan.steps_of(place.sent);
    let unreported = place.state == WorkflowState::Failed && place.called <= place.epoch;
    if stage_is_over || unreported {
        advance_workflow(broker, id).await?;
    }
    Ok(())
}

/// Asks for the tasks of some steps that have not ended, from a number on, and writes down what happened to them. A task that is
/// gone counts as failed if it is in `gone`, where it is put when it is missed for the first time: its end may be on its way.
/// Returns where the next look begins.
///
/// # Errors
///
/// As [`advance_workflow`].
pub async fn look_at_workflow(
    broker: &dyn Broker,
    id: &str,
    from: u32,
    gone: &mut HashSet<String>,
) -> BrokerResult<u32> {
    let Some(head) = advance_workflow(broker, id).await? else {
        return Ok(0);
    };
    if !matches!(head.place.state, WorkflowState::Running | WorkflowState::Failed) {
        return Ok(0);
    }
    let sent = head.plan.steps_of(head.place.sent);
    let begun = head.plan.steps_of(head.place.sent.saturating_sub(1));
    let mut from = if (begun..sent).contains(&from) { from } else { begun };
    let (mut ends, mut asked) = (Vec::new(), 0);
    for _ in 0..READS_A_LOOK {
        let steps = broker.workflow_steps(id, from, BATCH.min(sent - from)).await?;
        // A failed one too: an operator may have run its task again.
        let open = |step: &&WorkflowStepView| !matches!(step.end, Some(StepEnd::Done(_)));
        for step in steps.iter().filter(open) {
            asked += 1;
            ends.extend(end_of(broker, id, step, gone).await?.map(|end| (step.number, end)));
        }
        from += u32::try_from(steps.len()).unwrap_or(u32::MAX);
        if from >= sent || steps.is_empty() || asked >= STEPS_A_LOOK {
            break;
        }
    }
    if !ends.is_empty() {
        end_workflow_steps(broker, id, &ends).await?;
    }
    Ok(from)
}

/// What happened to the task of a step, if that is news.
async fn end_of(
    broker: &dyn Broker,
    id: &str,
    step: &WorkflowStepView,
    gone: &mut HashSet<String>,
) -> BrokerResult<Option<StepEnd>> {
    let Some(task) = step_task_id(id, step.number) else {
        return Ok(None);
    };
    let key = format!("{}/{task}", step.step.queue);
    let end = match broker.task(&step.step.queue, &task).await? {
        Some(found) if found.state == TaskState::Completed => Some(StepEnd::Done(found.result.unwrap_or_default())),
        Some(found) if found.state == TaskState::Archived => Some(StepEnd::Failed(found.record.last_error)),
        Some(_) => None,
        None if step.end.is_none() && !gone.insert(key) => Some(StepEnd::Failed("its task is gone".to_owned())),
        None => None,
    };
    Ok(end.filter(|end| step.end.is_none() || matches!(end, StepEnd::Done(_))))
}

/// Asks for the end of a workflow: no further stage begins, tasks that wait are deleted, those that run are stopped.
/// Returns the workflow as it is then.
///
/// # Errors
///
/// As [`advance_workflow`].
pub async fn cancel_workflow(broker: &dyn Broker, id: &str) -> BrokerResult<Option<WorkflowHead>> {
    loop {
        let Some(head) = broker.workflow(id).await? else {
            return Ok(None);
        };
        if head.place.state.is_final() {
            return Ok(Some(head));
        }
        let to = WorkflowPlace {
            state: WorkflowState::Cancelling,
            ..head.place
        };
        if head.place == to || broker.move_workflow(id, head.place, to).await? {
            return advance_workflow(broker, id).await;
        }
    }
}

/// Runs the failed steps of a workflow again: its archived tasks, or new ones where they are gone. Returns how many, or
/// `None` if there is no such workflow.
///
/// # Errors
///
/// As [`advance_workflow`].
pub async fn retry_workflow(broker: &dyn Broker, id: &str) -> BrokerResult<Option<u32>> {
    let Some(head) = broker.workflow(id).await? else {
        return Ok(None);
    };
    if head.place.state != WorkflowState::Failed {
        return Ok(Some(0));
    }
    let sent = head.plan.steps_of(head.place.sent);
    let mut failed = Vec::new();
    let mut from = head.plan.steps_of(head.place.sent.saturating_sub(1));
    while from < sent {
        for step in broker.workflow_steps(id, from, BATCH.min(sent - from)).await? {
            if matches!(step.end, Some(StepEnd::Failed(_))) {
                failed.push((step.number, step.step));
            }
        }
        from += BATCH;
    }
    // First the tasks, then the state: should this stop in between, the steps still succeed.
    for (number, step) in &failed {
        let Some(task) = step_task_id(id, *number) else {
            continue;
        };
        match broker.act(&step.queue, &task, Action::Run).await {
            // Wrong state: it was run again already.
            Ok(()) | Err(ActionError::WrongState { .. } | ActionError::Never { .. } | ActionError::Invalid(_)) => {}
            Err(ActionError::NotFound(..)) => enqueue_again(broker, &head, *number, step).await?,
            Err(ActionError::Broker(error)) => return Err(error),
        }
    }
    let numbers: Vec<u32> = failed.iter().map(|(number, _)| *number).collect();
    broker.reopen_workflow(id, &numbers).await?;
    Ok(Some(u32::try_from(numbers.len()).unwrap_or(u32::MAX)))
}

async fn enqueue_again(broker: &dyn Broker, head: &WorkflowHead, number: u32, step: &WorkflowStep) -> BrokerResult<()> {
    let payloads = broker.workflow_payloads(&head.id, number, 1).await?;
    let results = results_before(broker, head, head.place.sent.saturating_sub(1)).await?;
    let task = task_of(
        &head.id,
        number,
        step,
        payloads.first().cloned().unwrap_or_default(),
        &results,
    );
    if let Ok(task) = task {
        broker.enqueue(&[task]).await?;
    }
    Ok(())
}

/// Enqueues the next stage.
async fn send_stage(broker: &dyn Broker, head: &WorkflowHead) -> BrokerResult<()> {
    let stage = head.place.sent;
    let (mut from, to) = (head.plan.steps_of(stage), head.plan.steps_of(stage + 1));
    let results = results_before(broker, head, stage).await?;
    while from < to {
        let most = BATCH.min(to - from);
        let steps = broker.workflow_steps(&head.id, from, most).await?;
        let payloads = broker.workflow_payloads(&head.id, from, most).await?;
        let (mut deliveries, mut refused) = (Vec::new(), Vec::new());
        for (step, payload) in steps.iter().zip(payloads) {
            match task_of(&head.id, step.number, &step.step, payload, &results) {
                Ok(task) => deliveries.push((
                    step.number,
                    Delivery {
                        task,
                        remember: REMEMBER,
                    },
                )),
                Err(why) => refused.push((step.number, StepEnd::Failed(why))),
            }
        }
        let (numbers, deliveries): (Vec<u32>, Vec<Delivery>) = deliveries.into_iter().unzip();
        let answers = broker.enqueue_once(&deliveries).await?;
        for (number, answer) in numbers.into_iter().zip(answers) {
            if let Err(Refusal::Invalid(why)) = answer {
                refused.push((number, StepEnd::Failed(why.to_string())));
            }
        }
        if !refused.is_empty() {
            broker.end_steps(&head.id, &refused).await?;
        }
        from += most;
    }
    Ok(())
}

/// The results of the stage before this one, as JSON where they are JSON; else why they cannot be given.
type Results = Result<Vec<serde_json::Value>, String>;

async fn results_before(broker: &dyn Broker, head: &WorkflowHead, stage: u32) -> BrokerResult<Results> {
    let Some(before) = stage.checked_sub(1) else {
        return Ok(Ok(Vec::new()));
    };
    let (mut from, to) = (head.plan.steps_of(before), head.plan.steps_of(stage));
    let (mut results, mut bytes) = (Vec::new(), 0);
    while from < to {
        let most = BATCH.min(to - from);
        for step in broker.workflow_steps(&head.id, from, most).await? {
            let result = match step.end {
                Some(StepEnd::Done(result)) => result,
                _ => Bytes::new(),
            };
            bytes += result.len();
            results.push(json_or_text(&result));
        }
        if bytes > MAX_RESULTS_GIVEN {
            return Ok(Err(format!(
                "the results of the stage before have more than {MAX_RESULTS_GIVEN} bytes; hand on places instead of contents"
            )));
        }
        from += most;
    }
    Ok(Ok(results))
}

fn json_or_text(result: &[u8]) -> serde_json::Value {
    if result.is_empty() {
        return serde_json::Value::Null;
    }
    serde_json::from_slice(result).unwrap_or_else(|_| String::from_utf8_lossy(result).into_owned().into())
}

fn task_of(
    workflow: &str,
    number: u32,
    step: &WorkflowStep,
    payload: Bytes,
    results: &Results,
) -> Result<Task, String> {
    let payload = match &step.takes {
        Some(takes) => with_results(&payload, takes, results)?,
        None => payload,
    };
    let mut task = step
        .task(payload)
        .header(WORKFLOW_HEADER, format!("{workflow}/{number}"));
    task.id = step_task_id(workflow, number);
    Ok(task)
}

fn with_results(payload: &[u8], takes: &GivenResults, results: &Results) -> Result<Bytes, String> {
    let results = results.as_ref().map_err(String::clone)?;
    let mut object: serde_json::Map<String, serde_json::Value> = match payload.is_empty() {
        true => serde_json::Map::new(),
        false => serde_json::from_slice(payload)
            .map_err(|_| "a step that is given results must have an object in JSON as its payload".to_owned())?,
    };
    let value = match takes.all {
        true => serde_json::Value::Array(results.clone()),
        false => results.first().cloned().unwrap_or_default(),
    };
    object.insert(takes.member.clone(), value);
    serde_json::to_vec(&object)
        .map(Bytes::from)
        .map_err(|error| error.to_string())
}

/// Enqueues a callback, once for each end.
async fn call(
    broker: &dyn Broker,
    head: &WorkflowHead,
    callback: Option<&WorkflowCallback>,
    end: &str,
) -> BrokerResult<()> {
    let Some(callback) = callback else { return Ok(()) };
    let mut task = callback.step.task(callback.payload.clone().into());
    task.headers
        .insert(WORKFLOW_HEADER.to_owned(), format!("{}/{end}", head.id));
    task.id = TaskId::new(format!("workflow:{}:{end}", head.id)).ok();
    let delivery = Delivery {
        task,
        remember: REMEMBER,
    };
    broker.enqueue_once(&[delivery]).await.map(drop)
}

/// Deletes the tasks of steps that wait, and stops those that run.
async fn cancel_steps(broker: &dyn Broker, head: &WorkflowHead) -> BrokerResult<()> {
    let sent = head.plan.steps_of(head.place.sent);
    // The stage that was about to be enqueued may be in the queue in part.
    let sent = sent.max(head.plan.steps_of(head.place.sent + 1));
    let mut from = head.plan.steps_of(head.place.sent.saturating_sub(1));
    while from < sent {
        for step in broker.workflow_steps(&head.id, from, BATCH.min(sent - from)).await? {
            if !matches!(step.end, Some(StepEnd::Done(_))) {
                cancel_step(broker, &step.step.queue, &head.id, step.number).await?;
            }
        }
        from += BATCH;
    }
    Ok(())
}

async fn cancel_step(broker: &dyn Broker, queue: &QueueName, workflow: &str, number: u32) -> BrokerResult<()> {
    let Some(task) = step_task_id(workflow, number) else {
        return Ok(());
    };
    match broker.act(queue, &task, Action::Delete).await {
        Err(ActionError::WrongState {
            state: TaskState::Active,
            ..
        }) => {
            broker.stop(queue, &task, "its workflow was cancelled").await?;
            broker.cancel(&task).await
        }
        Err(ActionError::Broker(error)) => Err(error),
        _ => Ok(()),
    }
}
