//! Takes workflows on: from what this process's worker has settled, and by looking at all open ones from time to time.
//!
//! The look alone would do, a few seconds later: it finds what a process that was killed, or a worker in Go, left. What follows
//! from the state of a workflow is decided in `queue`, and may be done by several instances at once.

mod ends;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use runner_core::task::{QueueName, TaskId, TaskState};
use runner_queue::{
    Broker, BrokerResult, Settlement, StepEnd, StepOfTask, Verdict, WorkflowObserver, end_workflow_steps, kept_result,
    look_at_workflow, step_of_task,
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

/// Tasks that were missed once; beyond that they are forgotten, and missed again.
const MOST_GONE: usize = 10_000;

/// What a worker has settled of workflows, until it is written down. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct SettledSteps(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    ends: Mutex<Vec<SettledStep>>,
    wake: Notify,
}

#[derive(Debug)]
struct SettledStep {
    step: StepOfTask,
    task: (QueueName, TaskId),
    end: StepEnd,
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
        let mut ends = self.0.ends.lock().unwrap_or_else(PoisonError::into_inner);
        if ends.len() < MOST_ENDS {
            ends.push(SettledStep {
                step,
                task: (task.queue.clone(), task.id.clone()),
                end,
            });
        }
        drop(ends);
        self.0.wake.notify_one();
    }

    fn take(&self) -> Vec<SettledStep> {
        std::mem::take(&mut *self.0.ends.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes down what was settled so far, and continues the workflows that this allows. Once more after the worker has
    /// ended, because the loop ends earlier.
    ///
    /// # Errors
    ///
    /// When the broker could not be asked. What was not written is found by a look.
    pub async fn write(&self, broker: &dyn Broker, observer: &dyn WorkflowObserver) -> BrokerResult<()> {
        let mut by_workflow: BTreeMap<String, Vec<SettledStep>> = BTreeMap::new();
        for step in self.take() {
            by_workflow.entry(step.step.workflow.clone()).or_default().push(step);
        }
        let mut failed = None;
        for (workflow, steps) in by_workflow {
            failed = write_ends(broker, &workflow, steps, observer).await.err().or(failed);
        }
        failed.map_or(Ok(()), Err)
    }
}

/// The workflow is read before the tasks: should a step be run again from now on, its failure no longer counts.
async fn write_ends(
    broker: &dyn Broker,
    workflow: &str,
    steps: Vec<SettledStep>,
    observer: &dyn WorkflowObserver,
) -> BrokerResult<()> {
    let Some(head) = broker.workflow(workflow).await? else {
        return Ok(());
    };
    let (mut ends, mut failed) = (Vec::new(), None);
    for step in steps.into_iter().filter(|settled| settled.step.is_of(&head)) {
        match is_over(broker, &step).await {
            Ok(true) => ends.push((step.step.number, step.end)),
            Ok(false) => {}
            Err(error) => failed = Some(error),
        }
    }
    let written = end_workflow_steps(broker, &head, &ends, Some(observer)).await;
    failed = written.err().or(failed);
    failed.map_or(Ok(()), Err)
}

/// Whether this is the end of the step still: one that has failed may have been run again before that was written down.
async fn is_over(broker: &dyn Broker, step: &SettledStep) -> BrokerResult<bool> {
    if matches!(step.end, StepEnd::Done(_)) {
        return Ok(true);
    }
    let (queue, id) = &step.task;
    let found = broker.task(queue, id).await?;
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
        None
    }
}
