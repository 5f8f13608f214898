//! What follows from the state of a workflow: the next stage, its end, and what happened to its steps.
//!
//! Each function may be repeated, and run on several instances at once: ids of tasks follow from the workflow, and are
//! accepted once; its place changes by compare and set. So a process that is killed in the middle leaves nothing that the next
//! look does not complete. Not here: how tasks of steps are made (`workflow_steps`).

use std::collections::HashSet;
use std::ops::Range;

use bytes::Bytes;
use futures_util::future::join_all;
use runner_core::task::TaskState;

use super::workflow::{
    MAX_STEP_RESULT, StepEnd, TakenResults, WorkflowHead, WorkflowPlace, WorkflowState, WorkflowStepView, step_of_task,
    step_task_id,
};
use super::workflow_observer::{WorkflowObserver, end_of_move};
use super::workflow_steps::{BATCH, ID_TAKEN, call, cancel_steps, enqueue_again, id_is_taken, send_stage};
use super::{Action, ActionError, Broker, BrokerResult, GLANCE_BYTES, TaskInfo};

/// Steps whose tasks one look asks for.
const STEPS_A_LOOK: u32 = 200;

/// Of these, how many at a time.
const ASKED_AT_ONCE: usize = 50;

/// How often one look reads [`BATCH`] steps at most, most of which have ended.
const READS_A_LOOK: u32 = 10;

/// How often one call finds that the place of the workflow was changed by another one; beyond that it leaves the workflow to
/// the next look. A place that is damaged in the store is never the expected one.
const MOST_OVERTAKEN: u32 = 20;

/// Ends of one call.
const ENDS_A_CALL: usize = 500;

/// The most bytes of results and errors of one call, which stops the store for as long as it takes.
const ENDS_BYTES: usize = 4 << 20;

/// Errors after which a look asks for no further task.
const ERRORS_A_LOOK: usize = 3;

/// Continues as far as the ended steps allow. Returns the workflow as it is then.
///
/// Without an observer, what one would hear of is left to a caller that has one: a failure with its callback, and the end of a
/// workflow that has failed before.
///
/// # Errors
///
/// When the broker could not be asked. What is missing then is done by the next call.
pub async fn advance_workflow(
    broker: &dyn Broker,
    id: &str,
    observer: Option<&dyn WorkflowObserver>,
) -> BrokerResult<Option<WorkflowHead>> {
    // A stage was enqueued, and the place of the workflow was another one afterwards.
    let mut overtaken = false;
    let mut others = 0;
    loop {
        let Some(head) = broker.workflow(id).await? else {
            return Ok(None);
        };
        if observer.is_none() && is_to_be_reported(&head) {
            return Ok(Some(head));
        }
        if head.place.state == WorkflowState::Cancelled && overtaken {
            // Who cancelled it may not have seen what was enqueued here.
            cancel_steps(broker, &head).await?;
            return Ok(Some(head));
        }
        let Some(to) = next_place(broker, &head, observer).await? else {
            return Ok(Some(head));
        };
        let moved = broker.move_workflow(id, head.place, to).await?;
        if moved && let (Some(observer), Some(end)) = (observer, end_of_move(head.place, to)) {
            observer.ended(end);
        }
        overtaken = !moved && (to.sent != head.place.sent || overtaken);
        others += u32::from(!moved);
        if others > MOST_OVERTAKEN {
            return Ok(Some(head));
        }
    }
}

/// Whether an observer is to hear of what follows now.
fn is_to_be_reported(head: &WorkflowHead) -> bool {
    let is_over = head.done >= head.plan.steps() && !head.place.state.is_final();
    head.place.is_unreported() || (is_over && head.place.has_failed())
}

/// Does what follows from the present place. Returns the next one, if there is one for now.
async fn next_place(
    broker: &dyn Broker,
    head: &WorkflowHead,
    observer: Option<&dyn WorkflowObserver>,
) -> BrokerResult<Option<WorkflowPlace>> {
    let place = head.place;
    let heard = |end| observer.map(|observer| observer.tasks(head, end)).unwrap_or_default();
    let to = match place.state {
        // Cancelled too late: the callback may be in the queue already.
        WorkflowState::Running | WorkflowState::Cancelling if head.done >= head.plan.steps() => {
            forget_results(broker, head, place.sent.saturating_sub(2)..place.sent).await?;
            let callback = head.plan.on_done.as_ref().map(|task| (task, "done".to_owned()));
            call(broker, head, callback, heard(WorkflowState::Done)).await?;
            WorkflowPlace {
                state: WorkflowState::Done,
                ..place
            }
        }
        WorkflowState::Running if head.done >= head.plan.steps_of(place.sent) => {
            // The steps of the stage that has just ended were given those of the one before it, and none of them runs again.
            forget_results(broker, head, place.sent.saturating_sub(2)..place.sent.saturating_sub(1)).await?;
            send_stage(broker, head).await?;
            WorkflowPlace {
                sent: place.sent.saturating_add(1),
                ..place
            }
        }
        WorkflowState::Failed if place.is_unreported() => {
            let which = format!("failed:{}", place.epoch);
            let callback = head.plan.on_failed.as_ref().map(|task| (task, which));
            call(broker, head, callback, heard(WorkflowState::Failed)).await?;
            WorkflowPlace {
                called: place.epoch.saturating_add(1),
                ..place
            }
        }
        WorkflowState::Cancelling => {
            if cancel_steps(broker, head).await? {
                return Ok(None);
            }
            let heard = heard(WorkflowState::Cancelled);
            call(broker, head, None, heard).await?;
            WorkflowPlace {
                state: WorkflowState::Cancelled,
                ..place
            }
        }
        _ => return Ok(None),
    };
    Ok(Some(to))
}

/// Forgets the results of stages, as far as any are kept.
async fn forget_results(broker: &dyn Broker, head: &WorkflowHead, stages: Range<u32>) -> BrokerResult<()> {
    for stage in stages {
        let (from, to) = (head.plan.steps_of(stage), head.plan.steps_of(stage.saturating_add(1)));
        let most = match head.plan.taken_of(stage) {
            Some(TakenResults::All) => to - from,
            Some(TakenResults::First) => 1,
            None => continue,
        };
        broker.forget_results(&head.id, from, most).await?;
    }
    Ok(())
}

/// Writes down how steps ended, and continues if that allows it. Failures count only while the workflow is in the epoch of
/// `head`, which the caller has read before it saw them.
///
/// # Errors
///
/// As [`advance_workflow`].
pub async fn end_workflow_steps(
    broker: &dyn Broker,
    head: &WorkflowHead,
    ends: &[(u32, StepEnd)],
    observer: Option<&dyn WorkflowObserver>,
) -> BrokerResult<()> {
    match write_step_ends(broker, head, ends).await? {
        Some(now) => continue_workflow(broker, &now, observer).await,
        None => Ok(()),
    }
}

/// Continues a workflow, as it was read just after ends were written, if they allow it. What fails here is found again by
/// the next look at the workflow: the ends are written.
///
/// # Errors
///
/// As [`advance_workflow`].
pub async fn continue_workflow(
    broker: &dyn Broker,
    now: &WorkflowHead,
    observer: Option<&dyn WorkflowObserver>,
) -> BrokerResult<()> {
    let place = now.place;
    let stage_is_over = place.state == WorkflowState::Running && now.done >= now.plan.steps_of(place.sent);
    if stage_is_over || place.is_unreported() {
        advance_workflow(broker, &now.id, observer).await?;
    }
    Ok(())
}

/// Writes ends down, without the results that no step is given. Returns the workflow as it is then, if there is one.
///
/// # Errors
///
/// When the broker could not be asked: some may be written nevertheless. An end counts once, however often it is written.
pub async fn write_step_ends(
    broker: &dyn Broker,
    head: &WorkflowHead,
    ends: &[(u32, StepEnd)],
) -> BrokerResult<Option<WorkflowHead>> {
    let kept = |(number, end): &(u32, StepEnd)| match end {
        StepEnd::Done(_) if !head.plan.takes_result_of(*number) => (*number, StepEnd::Done(Bytes::new())),
        end => (*number, end.clone()),
    };
    let ends: Vec<(u32, StepEnd)> = ends.iter().map(kept).collect();
    let (mut rest, mut now) = (&ends[..], None);
    while !rest.is_empty() {
        let (some, others) = rest.split_at(fitting(rest));
        now = broker.end_steps(&head.id, head.place.epoch, some).await?;
        rest = others;
    }
    Ok(now)
}

/// How many of these, from the first one on, one call writes.
fn fitting(ends: &[(u32, StepEnd)]) -> usize {
    let mut bytes = 0;
    let fits = |(_, end): &&(u32, StepEnd)| {
        bytes += match end {
            StepEnd::Done(result) => result.len(),
            StepEnd::Failed(error) => error.len(),
        };
        bytes <= ENDS_BYTES
    };
    let fitting = ends.iter().take(ENDS_A_CALL).take_while(fits).count();
    fitting.max(1)
}

/// Continues a workflow, asks for the tasks of some steps that have not ended, from a number on, and writes down what happened
/// to them. A task that is gone counts as failed if it is in `gone`, where it is put when it is missed for the first time: its
/// end may be on its way. Sets `from` to where the next look begins.
///
/// # Errors
///
/// As [`advance_workflow`]; what was found out is written down anyway.
pub async fn look_at_workflow(
    broker: &dyn Broker,
    id: &str,
    from: &mut u32,
    gone: &mut HashSet<String>,
    observer: Option<&dyn WorkflowObserver>,
) -> BrokerResult<()> {
    let Some(head) = advance_workflow(broker, id, observer).await? else {
        return Ok(());
    };
    let place = head.place;
    let sent = head.plan.steps_of(place.sent);
    let to = match place.state {
        WorkflowState::Running => sent,
        // A step may have failed while its stage was being enqueued.
        WorkflowState::Failed => head.plan.steps_of(place.sent.saturating_add(1)),
        _ => return Ok(()),
    };
    let begun = head.plan.steps_of(place.sent.saturating_sub(1));
    if !(begun..to).contains(from) {
        *from = begun;
    }
    // A failed one too: an operator may have run its task again.
    let open = |step: &WorkflowStepView| match &step.end {
        // Also one of a stage that was being enqueued when a step failed.
        None => true,
        Some(StepEnd::Failed(_)) => !id_is_taken(step),
        Some(StepEnd::Done(_)) => false,
    };
    let (mut ends, mut asked, mut errors) = (Vec::new(), 0, Vec::new());
    for _ in 0..READS_A_LOOK {
        let most = BATCH.min(to - *from);
        let mut steps = match broker.workflow_steps(id, *from, most).await {
            Ok(steps) => steps,
            Err(error) => {
                errors.push(error);
                break;
            }
        };
        steps.retain(open);
        for some in steps.chunks(ASKED_AT_ONCE) {
            if errors.len() >= ERRORS_A_LOOK {
                break;
            }
            asked += u32::try_from(some.len()).unwrap_or(u32::MAX);
            // At once: the broker sends them together.
            let found = join_all(some.iter().map(|step| task_of(broker, id, step))).await;
            for (step, found) in some.iter().zip(found) {
                match found {
                    Ok(found) => ends.extend(end_of(&head, step, found, gone).map(|end| (step.number, end))),
                    Err(error) => errors.push(error),
                }
            }
        }
        *from += most;
        if *from >= to || asked >= STEPS_A_LOOK || errors.len() >= ERRORS_A_LOOK {
            break;
        }
    }
    if !ends.is_empty() {
        end_workflow_steps(broker, &head, &ends, observer).await?;
    }
    errors.pop().map_or(Ok(()), Err)
}

/// The task of a step, if it is there, with as much of its result as may be handed on.
async fn task_of(broker: &dyn Broker, id: &str, step: &WorkflowStepView) -> BrokerResult<Option<TaskInfo>> {
    match step_task_id(id, step.number) {
        Some(task) => broker.glance(&step.step.queue, &task).await,
        None => Ok(None),
    }
}

/// What happened to the task of a step, if that is news.
fn end_of(
    head: &WorkflowHead,
    step: &WorkflowStepView,
    found: Option<TaskInfo>,
    gone: &mut HashSet<String>,
) -> Option<StepEnd> {
    let task = step_task_id(&head.id, step.number)?;
    // With the epoch: what was missed before a retry, perhaps seen only by another instance since, is missed again after it.
    let (queue, epoch) = (&step.step.queue, head.place.epoch);
    let sent = head.plan.steps_of(head.place.sent);
    let key = format!("{queue}/{task}/{epoch}");
    let Some(found) = found else {
        // One that has failed is known to have ended; one of a stage that is being enqueued may have no task yet.
        if step.end.is_some() || step.number >= sent {
            return None;
        }
        if gone.remove(&key) {
            return Some(StepEnd::Failed("its task is gone".to_owned()));
        }
        gone.insert(key);
        return None;
    };
    gone.remove(&key);
    match step_of_task(&found.record) {
        Some(task) if !task.is_of(head) => {
            // One of an earlier workflow of this id. Of a step that is yet to be enqueued that is found then.
            let news = step.end.is_none() && step.number < sent;
            return news.then(|| StepEnd::Failed(ID_TAKEN.to_owned()));
        }
        // An old worker in Go may have dropped the headers of what was enqueued; this was not, as far as is known.
        None if step.number >= sent => return None,
        _ => {}
    }
    match found.state {
        TaskState::Completed => Some(StepEnd::Done(result_of(found))),
        TaskState::Archived if step.end.is_none() => Some(StepEnd::Failed(found.record.last_error)),
        _ => None,
    }
}

/// The result of a task that was glanced at, if it is short enough to be handed on.
fn result_of(found: TaskInfo) -> Bytes {
    let is_whole = found.result_bytes <= MAX_STEP_RESULT as u64;
    found.result.filter(|_| is_whole).unwrap_or_default()
}

/// A longer result is cut by a glance, and not handed on.
const _: () = assert!(
    MAX_STEP_RESULT <= GLANCE_BYTES,
    "a glance cuts results that are handed on"
);

/// Asks for the end of a workflow: no further stage begins, tasks that wait are deleted, those that run are stopped. While some
/// run it is being cancelled, and looks repeat that. Returns the workflow as it is then.
///
/// # Errors
///
/// As [`advance_workflow`].
pub async fn cancel_workflow(
    broker: &dyn Broker,
    id: &str,
    observer: Option<&dyn WorkflowObserver>,
) -> BrokerResult<Option<WorkflowHead>> {
    let mut others = 0;
    loop {
        let Some(head) = broker.workflow(id).await? else {
            return Ok(None);
        };
        if head.place.state.is_final() || others > MOST_OVERTAKEN {
            return Ok(Some(head));
        }
        let to = WorkflowPlace {
            state: WorkflowState::Cancelling,
            ..head.place
        };
        if head.place == to || broker.move_workflow(id, head.place, to).await? {
            return advance_workflow(broker, id, observer).await;
        }
        others += 1;
    }
}

/// Runs the failed steps of a workflow again: its archived tasks, or new ones where they are gone. Returns how many, or
/// `None` if there is no such workflow.
///
/// # Errors
///
/// As [`advance_workflow`].
pub async fn retry_workflow(
    broker: &dyn Broker,
    id: &str,
    observer: Option<&dyn WorkflowObserver>,
) -> BrokerResult<Option<u32>> {
    let Some(head) = broker.workflow(id).await? else {
        return Ok(None);
    };
    if head.place.state != WorkflowState::Failed {
        return Ok(Some(0));
    }
    // With the stage that was being enqueued when a step failed.
    let to = head.plan.steps_of(head.place.sent.saturating_add(1));
    let mut from = head.plan.steps_of(head.place.sent.saturating_sub(1));
    let (mut again, mut ends) = (Vec::new(), Vec::new());
    while from < to {
        for step in broker.workflow_steps(id, from, BATCH.min(to - from)).await? {
            if !matches!(step.end, Some(StepEnd::Failed(_))) {
                continue;
            }
            // First the tasks, then the state: should this stop in between, the steps still succeed.
            match run_again(broker, &head, &step).await? {
                RunAgain::Runs => again.push(step.number),
                RunAgain::Ended(end) => ends.push((step.number, end)),
                RunAgain::IdTaken => {}
            }
        }
        from += BATCH;
    }
    if !ends.is_empty() {
        write_step_ends(broker, &head, &ends).await?;
    }
    if !again.is_empty() {
        let now = broker.reopen_workflow(id, &again).await?;
        if let Some(now) = now.filter(|now| now.place.state == WorkflowState::Cancelled) {
            // Cancelled meanwhile, perhaps before the tasks were put back.
            cancel_steps(broker, &now).await?;
        }
    }
    advance_workflow(broker, id, observer).await?;
    Ok(Some(u32::try_from(again.len() + ends.len()).unwrap_or(u32::MAX)))
}

/// What happened to a step that is to run again.
enum RunAgain {
    /// Its task waits or runs.
    Runs,
    /// It had succeeded, which was not written down.
    Ended(StepEnd),
    /// Another task has its id.
    IdTaken,
}

async fn run_again(broker: &dyn Broker, head: &WorkflowHead, step: &WorkflowStepView) -> BrokerResult<RunAgain> {
    let Some(task) = step_task_id(&head.id, step.number) else {
        return Ok(RunAgain::IdTaken);
    };
    let queue = &step.step.queue;
    let Some(found) = broker.glance(queue, &task).await? else {
        enqueue_again(broker, head, step).await?;
        return Ok(RunAgain::Runs);
    };
    match step_of_task(&found.record) {
        Some(task) if task.is_of(head) => {}
        None if !id_is_taken(step) => {}
        _ => return Ok(RunAgain::IdTaken),
    }
    match found.state {
        TaskState::Completed => return Ok(RunAgain::Ended(StepEnd::Done(result_of(found)))),
        TaskState::Archived => match broker.act(queue, &task, Action::Run).await {
            Err(ActionError::NotFound(..)) => enqueue_again(broker, head, step).await?,
            Err(ActionError::Broker(error)) => return Err(error),
            // Wrong state: it was run again meanwhile.
            _ => {}
        },
        // It was run again already.
        _ => {}
    }
    Ok(RunAgain::Runs)
}
