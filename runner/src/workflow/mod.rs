//! Takes workflows on: from what this process's worker has settled, and by looking at all open ones from time to time.
//!
//! The look alone would do, a few seconds later: it finds what a process that was killed, or a worker in Go, left. What follows
//! from the state of a workflow is decided in `queue`, and may be done by several instances at once.

mod ends;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use runner_core::task::{QueueName, TaskId, TaskState};
use runner_queue::{
    Broker, BrokerError, BrokerResult, Settlement, StepEnd, StepOfTask, Verdict, WorkflowObserver, continue_workflow,
    kept_result, look_at_workflow, step_of_task, write_step_ends,
};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::ends::WorkflowEnds;
use crate::background::{self, BackgroundLoop};
use crate::health::Health;

/// How often open workflows are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Open workflows of one look; with more of them each is looked at more rarely.
const WORKFLOWS_A_LOOK: usize = 50;

/// Ends that wait to be written. Beyond that they are left to the look.
const MOST_ENDS: usize = 20_000;

/// Bytes of their results and errors. Beyond that they are left to the look too.
const MOST_BYTES: usize = 64 << 20;

/// How often an end is written that cannot be; after that it is left to the look.
const MOST_TRIES: u8 = 60;

/// After this time what could not be written is written again.
const AGAIN: Duration = Duration::from_secs(1);

/// Calls that failed in a row, after which the rest is left for the next time: each may take as long as one to a store that is gone.
const MOST_FAILURES: u32 = 3;

/// Tasks that are asked for at a time.
const ASKED_AT_ONCE: usize = 50;

/// Tasks that were missed once; beyond that they are forgotten, and missed again.
const MOST_GONE: usize = 10_000;

/// What a worker has settled of workflows, until it is written down. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct SettledSteps(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    ends: Mutex<Ends>,
    /// The last workflow whose ends could not be written: the next time begins behind it, so that it holds up no others.
    behind: Mutex<Option<String>>,
    wake: Notify,
}

/// Bounded by [`MOST_ENDS`] and [`MOST_BYTES`].
#[derive(Debug, Default)]
struct Ends {
    steps: Vec<SettledStep>,
    bytes: usize,
}

impl Ends {
    /// Whether there was room.
    fn push(&mut self, step: SettledStep) -> bool {
        let bytes = self.bytes + step.size();
        let has_room = self.steps.len() < MOST_ENDS && bytes <= MOST_BYTES;
        if has_room {
            self.bytes = bytes;
            self.steps.push(step);
        }
        has_room
    }
}

#[derive(Debug)]
struct SettledStep {
    step: StepOfTask,
    task: (QueueName, TaskId),
    end: StepEnd,
    /// How often it could not be written.
    tries: u8,
}

impl SettledStep {
    fn tried(self) -> Self {
        Self {
            tries: self.tries.saturating_add(1),
            ..self
        }
    }

    fn size(&self) -> usize {
        match &self.end {
            StepEnd::Done(result) => result.len(),
            StepEnd::Failed(error) => error.len(),
        }
    }
}

impl SettledSteps {
    /// Notes the end of a task that belongs to a workflow. Never waits.
    pub fn settled(&self, settlement: &Settlement) {
        let task = settlement.claim.task();
        let Some(step) = step_of_task(task) else {
            return;
        };
        let end = match &settlement.verdict {
            Verdict::Done => StepEnd::Done(kept_result(settlement.result.clone())),
            // There was nothing to do.
            Verdict::Revoke => StepEnd::Done(kept_result(None)),
            Verdict::Archive { error } => StepEnd::Failed(error.clone()),
            Verdict::Retry { .. } | Verdict::HandBack | Verdict::Snooze { .. } => return,
        };
        // One for which there is no room is found by the look.
        self.ends().push(SettledStep {
            step,
            task: (task.queue.clone(), task.id.clone()),
            end,
            tries: 0,
        });
        self.0.wake.notify_one();
    }

    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.0.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<SettledStep> {
        std::mem::take(&mut *self.ends()).steps
    }

    /// Writes down what was settled so far, and continues the workflows that this allows. Once more after the worker has
    /// ended, because the loop ends earlier.
    ///
    /// # Errors
    ///
    /// When the broker could not be asked. What was not written is written with the next call, at most [`MOST_TRIES`] times.
    pub async fn write(&self, broker: &dyn Broker, observer: &dyn WorkflowObserver) -> BrokerResult<()> {
        let mut by_workflow: BTreeMap<String, Vec<SettledStep>> = BTreeMap::new();
        for step in self.take() {
            by_workflow.entry(step.step.workflow.clone()).or_default().push(step);
        }
        let last = self.0.behind.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (mut unwritten, mut failed, mut behind, mut in_a_row) = (Vec::new(), None, None, 0);
        for (workflow, steps) in beginning_behind(by_workflow, last.as_deref()) {
            if in_a_row >= MOST_FAILURES {
                unwritten.extend(steps);
                continue;
            }
            match write_ends(broker, &workflow, steps, observer).await {
                Ok(()) => in_a_row = 0,
                Err((steps, error)) => {
                    in_a_row += 1;
                    failed = Some(error);
                    unwritten.extend(steps);
                    behind = Some(workflow);
                }
            }
        }
        *self.0.behind.lock().unwrap_or_else(PoisonError::into_inner) = behind;
        self.put_back(unwritten);
        failed.map_or(Ok(()), Err)
    }

    /// Before those that have come meanwhile.
    fn put_back(&self, steps: Vec<SettledStep>) {
        let mut left_out = 0;
        let mut ends = self.ends();
        let since = std::mem::take(&mut *ends).steps;
        for step in steps.into_iter().chain(since) {
            if step.tries >= MOST_TRIES || !ends.push(step) {
                left_out += 1;
            }
        }
        drop(ends);
        if left_out > 0 {
            tracing::warn!(
                count = left_out,
                "ends of steps of workflows could not be written; a look at their workflows finds them"
            );
        }
    }

    fn has_some(&self) -> bool {
        !self.ends().steps.is_empty()
    }
}

/// All of them, from the one behind `last` on.
fn beginning_behind<T>(by_workflow: BTreeMap<String, T>, last: Option<&str>) -> Vec<(String, T)> {
    let mut all: Vec<_> = by_workflow.into_iter().collect();
    let first = all.partition_point(|(id, _)| last.is_some_and(|last| id.as_str() <= last));
    all.rotate_left(first);
    all
}

/// Writes down how steps of a workflow ended. On an error also returns those that are to be written again, first those that were
/// not tried; an end counts once.
///
/// The workflow is read before the tasks: should a step be run again from now on, its failure no longer counts.
async fn write_ends(
    broker: &dyn Broker,
    workflow: &str,
    steps: Vec<SettledStep>,
    observer: &dyn WorkflowObserver,
) -> Result<(), (Vec<SettledStep>, BrokerError)> {
    let head = match broker.workflow(workflow).await {
        Ok(Some(head)) => head,
        Ok(None) => return Ok(()),
        Err(error) => return Err((steps.into_iter().map(SettledStep::tried).collect(), error)),
    };
    let ours = steps.into_iter().filter(|settled| settled.step.is_of(&head));
    let (mut over, mut asked): (Vec<_>, Vec<_>) = ours.partition(|step| matches!(step.end, StepEnd::Done(_)));
    let (mut again, mut failed) = (Vec::new(), None);
    // After an error no more are asked for: each call may take as long as one to a store that is gone.
    while !asked.is_empty() && failed.is_none() {
        let some: Vec<SettledStep> = asked.drain(..asked.len().min(ASKED_AT_ONCE)).collect();
        // At once: the broker sends them together.
        let found = join_all(some.iter().map(|step| is_over(broker, step))).await;
        for (step, found) in some.into_iter().zip(found) {
            match found {
                Ok(true) => over.push(step),
                Ok(false) => {}
                Err(error) => {
                    failed = Some(error);
                    again.push(step.tried());
                }
            }
        }
    }
    let ends: Vec<_> = over.iter().map(|step| (step.step.number, step.end.clone())).collect();
    match write_step_ends(broker, &head, &ends).await {
        // Should this fail, the look does it: the ends are written, and need not be held.
        Ok(Some(now)) => failed = continue_workflow(broker, &now, Some(observer)).await.err().or(failed),
        Ok(None) => {}
        Err(error) => {
            failed = Some(error);
            again.extend(over.into_iter().map(SettledStep::tried));
        }
    }
    asked.append(&mut again);
    failed.map_or(Ok(()), |error| Err((asked, error)))
}

/// Whether a step has failed still: it may have been run again before that was written down.
async fn is_over(broker: &dyn Broker, step: &SettledStep) -> BrokerResult<bool> {
    let (queue, id) = &step.task;
    let found = broker.glance(queue, id).await?;
    Ok(found.is_none_or(|found| found.state == TaskState::Archived))
}

/// What the loop works with.
pub struct WorkflowParts {
    /// Where they are.
    pub broker: Arc<dyn Broker>,
    /// What the worker of this process has settled.
    pub settled: SettledSteps,
    /// What reports and counts ends.
    pub ends: Arc<WorkflowEnds>,
    /// Where failures of the broker are reported.
    pub health: Arc<Health>,
}

/// Continues them until `stop`.
pub fn watch(parts: WorkflowParts, stop: CancellationToken) {
    let settled = parts.settled.clone();
    let role = WorkflowLoop {
        parts,
        looked: None,
        skip: 0,
        places: HashMap::new(),
        gone: HashSet::new(),
    };
    tokio::spawn(async move { background::run(role, &settled.0.wake, &stop).await });
}

struct WorkflowLoop {
    parts: WorkflowParts,
    looked: Option<Instant>,
    /// Workflows before this one were looked at.
    skip: usize,
    /// Where the next look at each begins.
    places: HashMap<String, u32>,
    /// Tasks that were missed once.
    gone: HashSet<String>,
}

impl WorkflowLoop {
    async fn look(&mut self) -> BrokerResult<()> {
        let mut open = self
            .parts
            .broker
            .workflow_ids(true, self.skip, WORKFLOWS_A_LOOK)
            .await?;
        // Only an empty page is the last one: those that are over are left out.
        if open.is_empty() && self.skip > 0 {
            self.skip = 0;
            open = self.parts.broker.workflow_ids(true, 0, WORKFLOWS_A_LOOK).await?;
        }
        self.skip += open.len();
        if self.gone.len() > MOST_GONE {
            self.gone.clear();
        }
        if self.places.len() > MOST_GONE {
            self.places.clear();
        }
        let mut failed = None;
        for id in open {
            let from = self.places.entry(id.clone()).or_default();
            let ends: &dyn WorkflowObserver = &*self.parts.ends;
            if let Err(error) = look_at_workflow(&*self.parts.broker, &id, from, &mut self.gone, Some(ends)).await {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

#[async_trait]
impl BackgroundLoop for WorkflowLoop {
    fn name(&self) -> &'static str {
        "workflows"
    }

    fn every(&self) -> Duration {
        LOOK_EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        let mut failed = self
            .parts
            .settled
            .write(&*self.parts.broker, &*self.parts.ends)
            .await
            .err();
        if self.looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            self.looked = Some(Instant::now());
            failed = self.look().await.err().or(failed);
        }
        if let Some(error) = failed {
            self.parts.health.failed("take workflows on", &error);
        }
        self.parts.settled.has_some().then_some(AGAIN)
    }
}

#[cfg(test)]
mod tests;
