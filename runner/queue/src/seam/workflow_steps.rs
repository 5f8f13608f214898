//! The tasks of the steps of a workflow: enqueues them, those of its callbacks too, and deletes or stops them.
//!
//! When that is to be done is decided by `workflow_advance`.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use runner_core::task::{Task, TaskId, TaskState};
use serde_json::Value;

use super::workflow::{
    GivenResults, MAX_RESULTS_GIVEN, StepEnd, WORKFLOW_HEADER, WORKFLOWS_KEPT_FOR, WorkflowCallback, WorkflowHead,
    WorkflowStep, WorkflowStepView, step_header, step_of_task, step_task_id,
};
use super::{Action, ActionError, Broker, BrokerResult, Delivery, Refusal};

/// Steps of one call.
pub(super) const BATCH: u32 = 256;

/// Payloads of steps, in bytes, after which they are enqueued: what sending a stage holds in memory, and the last one of them.
const PART_BYTES: usize = 16 << 20;

/// How long the ids of steps are refused after they were accepted.
const REMEMBER: Duration = WORKFLOWS_KEPT_FOR;

/// Why a step was not enqueued whose id another task has, such as one of an earlier workflow of the same id.
pub(super) const ID_TAKEN: &str = "another task has the id of this step; delete that task, then run the step again";

/// Whether a step has no task because another one has its id.
pub(super) fn id_is_taken(step: &WorkflowStepView) -> bool {
    matches!(&step.end, Some(StepEnd::Failed(why)) if why == ID_TAKEN)
}

/// Enqueues the next stage, as far as nothing changes the place of the workflow meanwhile.
pub(super) async fn send_stage(broker: &dyn Broker, head: &WorkflowHead) -> BrokerResult<()> {
    let stage = head.place.sent;
    let (begin, end) = (head.plan.steps_of(stage), head.plan.steps_of(stage.saturating_add(1)));
    let (mut from, mut results) = (begin, None);
    while from < end {
        // It was cancelled, or a step has failed: nothing more begins.
        if from > begin
            && broker
                .workflow(&head.id)
                .await?
                .is_none_or(|now| now.place != head.place)
        {
            return Ok(());
        }
        let to = end.min(from + BATCH);
        send_steps(broker, head, from..to, &mut results).await?;
        from = to;
    }
    Ok(())
}

async fn send_steps(
    broker: &dyn Broker,
    head: &WorkflowHead,
    numbers: Range<u32>,
    results: &mut Option<Results>,
) -> BrokerResult<()> {
    let (from, most) = (numbers.start, numbers.end - numbers.start);
    let steps = broker.workflow_steps(&head.id, from, most).await?;
    let payloads = broker.workflow_payloads(&head.id, from, most).await?;
    let mut unread: BTreeSet<u32> = numbers.collect();
    let (mut part, mut refused) = (Part::default(), Vec::new());
    for step in steps {
        unread.remove(&step.number);
        // Its receipt may have lapsed, and its task may be deleted: it would run a second time.
        if step.end.is_some() {
            continue;
        }
        let payload = payloads.get((step.number - from) as usize).cloned().unwrap_or_default();
        match task_of(broker, head, (step.number, &step.step), payload, results).await? {
            Ok(task) => part.add(step.number, task),
            Err(why) => refused.push((step.number, StepEnd::Failed(why))),
        }
        if part.bytes >= PART_BYTES {
            part.enqueue(broker, &mut refused).await?;
        }
    }
    part.enqueue(broker, &mut refused).await?;
    let lost = |number| (number, StepEnd::Failed("the stored step cannot be read".to_owned()));
    refused.extend(unread.into_iter().map(lost));
    if !refused.is_empty() {
        broker.end_steps(&head.id, head.place.epoch, &refused).await?;
    }
    Ok(())
}

/// Tasks of steps that are enqueued with one call. Each may have all results of the stage before in its payload, so that 256
/// of them could need a gigabyte.
#[derive(Default)]
struct Part {
    numbers: Vec<u32>,
    deliveries: Vec<Delivery>,
    /// Of their payloads.
    bytes: usize,
}

impl Part {
    fn add(&mut self, number: u32, task: Task) {
        self.bytes += task.payload.as_ref().map_or(0, Bytes::len);
        self.numbers.push(number);
        self.deliveries.push(Delivery {
            task,
            remember: REMEMBER,
        });
    }

    /// Enqueues them, if there are any, and forgets them. Adds those that were refused.
    async fn enqueue(&mut self, broker: &dyn Broker, refused: &mut Vec<(u32, StepEnd)>) -> BrokerResult<()> {
        let Self {
            numbers, deliveries, ..
        } = std::mem::take(self);
        if deliveries.is_empty() {
            return Ok(());
        }
        for (number, answer) in numbers.into_iter().zip(broker.enqueue_once(&deliveries).await?) {
            let why = match answer {
                Err(Refusal::Invalid(why)) => why.to_string(),
                // What was accepted for this workflow has a receipt.
                Err(Refusal::IdTaken) => ID_TAKEN.to_owned(),
                _ => continue,
            };
            refused.push((number, StepEnd::Failed(why)));
        }
        Ok(())
    }
}

/// Enqueues a step whose task is gone. One that cannot be enqueued is left to the next sending of its stage, which says why.
pub(super) async fn enqueue_again(
    broker: &dyn Broker,
    head: &WorkflowHead,
    step: &WorkflowStepView,
) -> BrokerResult<()> {
    let payload = broker.workflow_payloads(&head.id, step.number, 1).await?;
    let payload = payload.into_iter().next().unwrap_or_default();
    let Ok(task) = task_of(broker, head, (step.number, &step.step), payload, &mut None).await? else {
        return Ok(());
    };
    // With a receipt, if it has none: its stage may still have to be sent.
    let delivery = Delivery {
        task: task.clone(),
        remember: REMEMBER,
    };
    let answers = broker.enqueue_once(&[delivery]).await?;
    if answers.contains(&Err(Refusal::Received)) {
        broker.enqueue(&[task]).await?;
    }
    Ok(())
}

/// The results of a stage, as JSON where they are JSON.
struct Results {
    /// That of its first step, or why it cannot be given.
    first: Result<Value, String>,
    /// All, or why they cannot be given.
    all: Result<Vec<Value>, String>,
}

/// Why results are not given. No retry helps: they are gone.
fn too_large() -> String {
    format!(
        "the results of the stage before have more than {MAX_RESULTS_GIVEN} bytes; hand on places instead of contents"
    )
}

/// The results of the stage before that of this step.
async fn results_before(broker: &dyn Broker, head: &WorkflowHead, number: u32) -> BrokerResult<Results> {
    let stage = head.plan.stage_of(number);
    let (begin, to) = (head.plan.steps_of(stage.saturating_sub(1)), head.plan.steps_of(stage));
    let (mut from, mut results, mut bytes) = (begin, Vec::new(), 0);
    let (mut first_is_there, mut all_are_there) = (true, true);
    while from < to && bytes <= MAX_RESULTS_GIVEN {
        for step in broker.workflow_steps(&head.id, from, BATCH.min(to - from)).await? {
            // One that cannot be read is left out, and keeps its place.
            results.resize((step.number - begin) as usize, Value::Null);
            let result = match step.end {
                Some(StepEnd::Done(result)) => result,
                _ => Bytes::new(),
            };
            bytes += result.len();
            all_are_there &= !step.left_out;
            first_is_there &= !step.left_out || step.number != begin;
            results.push(json_or_text(&result));
        }
        from += BATCH;
    }
    let first = results.first().cloned().unwrap_or_default();
    Ok(Results {
        first: first_is_there.then_some(first).ok_or_else(too_large),
        all: (all_are_there && bytes <= MAX_RESULTS_GIVEN)
            .then_some(results)
            .ok_or_else(too_large),
    })
}

fn json_or_text(result: &[u8]) -> Value {
    if result.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(result).unwrap_or_else(|_| String::from_utf8_lossy(result).into_owned().into())
}

/// The task of a step, or why there is none. Results are read when the first step takes some.
async fn task_of(
    broker: &dyn Broker,
    head: &WorkflowHead,
    (number, step): (u32, &WorkflowStep),
    payload: Bytes,
    results: &mut Option<Results>,
) -> BrokerResult<Result<Task, String>> {
    let payload = match &step.takes {
        None => Ok(payload),
        Some(takes) => {
            let known = match results.take() {
                Some(known) => known,
                None => results_before(broker, head, number).await?,
            };
            with_results(&payload, takes, results.insert(known))
        }
    };
    Ok(payload.map(|payload| {
        let mut task = step.task(payload).header(WORKFLOW_HEADER, step_header(head, number));
        task.id = step_task_id(&head.id, number);
        task
    }))
}

fn with_results(payload: &[u8], takes: &GivenResults, results: &Results) -> Result<Bytes, String> {
    let mut object: serde_json::Map<String, Value> = match payload.is_empty() {
        true => serde_json::Map::new(),
        false => serde_json::from_slice(payload)
            .map_err(|_| "a step that is given results must have an object in JSON as its payload".to_owned())?,
    };
    let value = match takes.all {
        true => Value::Array(results.all.clone()?),
        false => results.first.clone()?,
    };
    object.insert(takes.member.clone(), value);
    serde_json::to_vec(&object)
        .map(Bytes::from)
        .map_err(|error| error.to_string())
}

/// Enqueues the callback of an end, with the word that identifies the end, and what an observer adds; each once.
pub(super) async fn call(
    broker: &dyn Broker,
    head: &WorkflowHead,
    callback: Option<(&WorkflowCallback, String)>,
    mut deliveries: Vec<Delivery>,
) -> BrokerResult<()> {
    if let Some((callback, end)) = callback {
        let mut task = callback.step.task(callback.payload.clone().into());
        task.headers
            .insert(WORKFLOW_HEADER.to_owned(), format!("{}/{end}", head.id));
        // With the time: the queue may still have a callback of an earlier workflow of this id.
        let created = head.created_at.as_millisecond();
        task.id = TaskId::new(format!("workflow:{}:{end}:{created}", head.id)).ok();
        deliveries.push(Delivery {
            task,
            remember: REMEMBER,
        });
    }
    if deliveries.is_empty() {
        return Ok(());
    }
    broker.enqueue_once(&deliveries).await.map(drop)
}

/// Deletes the tasks of steps that wait, and stops those that run. Returns whether some ran: they may be tried again, and are
/// to be deleted then.
pub(super) async fn cancel_steps(broker: &dyn Broker, head: &WorkflowHead) -> BrokerResult<bool> {
    // The stage that was about to be enqueued may be in the queue in part.
    let to = head.plan.steps_of(head.place.sent.saturating_add(1));
    let mut from = head.plan.steps_of(head.place.sent.saturating_sub(1));
    let mut ran = false;
    while from < to {
        for step in broker.workflow_steps(&head.id, from, BATCH.min(to - from)).await? {
            if !matches!(step.end, Some(StepEnd::Done(_))) && !id_is_taken(&step) {
                ran |= cancel_step(broker, head, &step).await?;
            }
        }
        from += BATCH;
    }
    Ok(ran)
}

async fn cancel_step(broker: &dyn Broker, head: &WorkflowHead, step: &WorkflowStepView) -> BrokerResult<bool> {
    let queue = &step.step.queue;
    let Some(task) = step_task_id(&head.id, step.number) else {
        return Ok(false);
    };
    let Some(found) = broker.glance(queue, &task).await? else {
        return Ok(false);
    };
    // One of an earlier workflow of this id stays as it is.
    if step_of_task(&found.record).is_some_and(|task| !task.is_of(head)) {
        return Ok(false);
    }
    match found.state {
        TaskState::Completed | TaskState::Archived => Ok(false),
        TaskState::Active => {
            broker.stop(queue, &task, "its workflow was cancelled").await?;
            broker.cancel(&task).await?;
            Ok(true)
        }
        _ => match broker.act(queue, &task, Action::Delete).await {
            Err(ActionError::Broker(error)) => Err(error),
            // It began to run.
            Err(ActionError::WrongState { .. }) => Ok(true),
            _ => Ok(false),
        },
    }
}
