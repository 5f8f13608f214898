//! Takes workflows on: from what this process's worker has settled, and by looking at all open ones from time to time.
//!
//! The look alone would do, a few seconds later: it finds what a process that was killed, or a worker in Go, left. What follows
//! from the state of a workflow is decided in `queue`, and may be done by several instances at once.

mod ends;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use runner_core::task::{QueueName, TaskId, TaskState};
use runner_queue::{
    Broker, BrokerError, BrokerResult, Settlement, StepEnd, StepOfTask, Verdict, WorkflowObserver, end_workflow_steps,
    kept_result, look_at_workflow, step_of_task,
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
    ends: Mutex<Vec<SettledStep>>,
    wake: Notify,
}

#[derive(Debug)]
struct SettledStep {
    step: StepOfTask,
    task: (QueueName, TaskId),
    end: StepEnd,
    /// How often it could not be written.
    tries: u8,
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
                tries: 0,
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
    /// When the broker could not be asked. What was not written is written with the next call, at most [`MOST_TRIES`] times.
    pub async fn write(&self, broker: &dyn Broker, observer: &dyn WorkflowObserver) -> BrokerResult<()> {
        let mut by_workflow: BTreeMap<String, Vec<SettledStep>> = BTreeMap::new();
        for step in self.take() {
            by_workflow.entry(step.step.workflow.clone()).or_default().push(step);
        }
        let (mut unwritten, mut failed, mut in_a_row) = (Vec::new(), None, 0);
        for (workflow, steps) in by_workflow {
            if in_a_row >= MOST_FAILURES {
                unwritten.extend(steps);
                continue;
            }
            match write_ends(broker, &workflow, steps, observer).await {
                Ok(()) => in_a_row = 0,
                Err((steps, error)) => {
                    in_a_row += 1;
                    failed = Some(error);
                    unwritten.extend(steps.into_iter().map(|step| SettledStep {
                        tries: step.tries.saturating_add(1),
                        ..step
                    }));
                }
            }
        }
        self.put_back(unwritten);
        failed.map_or(Ok(()), Err)
    }

    /// Before those that have come meanwhile.
    fn put_back(&self, mut steps: Vec<SettledStep>) {
        let count = steps.len();
        steps.retain(|step| step.tries < MOST_TRIES);
        let given_up = count - steps.len();
        let mut ends = self.0.ends.lock().unwrap_or_else(PoisonError::into_inner);
        steps.append(&mut ends);
        let left_out = given_up + steps.len().saturating_sub(MOST_ENDS);
        steps.truncate(MOST_ENDS);
        *ends = steps;
        drop(ends);
        if left_out > 0 {
            tracing::warn!(
                count = left_out,
                "ends of steps of workflows could not be written; a look at their workflows finds them"
            );
        }
    }

    fn has_some(&self) -> bool {
        !self.0.ends.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// Writes down how steps of a workflow ended. On an error also returns those that are to be written again; an end counts once.
///
/// The workflow is read before the tasks: should a step be run again from now on, its failure no longer counts.
async fn write_ends(
    broker: &dyn Broker,
    workflow: &str,
    mut steps: Vec<SettledStep>,
    observer: &dyn WorkflowObserver,
) -> Result<(), (Vec<SettledStep>, BrokerError)> {
    let head = match broker.workflow(workflow).await {
        Ok(Some(head)) => head,
        Ok(None) => return Ok(()),
        Err(error) => return Err((steps, error)),
    };
    steps.retain(|settled| settled.step.is_of(&head));
    let (mut over, mut unknown, mut failed) = (Vec::new(), Vec::new(), None);
    while !steps.is_empty() {
        let some: Vec<SettledStep> = steps.drain(..steps.len().min(ASKED_AT_ONCE)).collect();
        // At once: the broker sends them together.
        let found = join_all(some.iter().map(|step| is_over(broker, step))).await;
        for (step, found) in some.into_iter().zip(found) {
            match found {
                Ok(true) => over.push(step),
                Ok(false) => {}
                Err(error) => {
                    failed = Some(error);
                    unknown.push(step);
                }
            }
        }
    }
    let ends: Vec<_> = over.iter().map(|step| (step.step.number, step.end.clone())).collect();
    if let Err(error) = end_workflow_steps(broker, &head, &ends, Some(observer)).await {
        failed = Some(error);
        unknown.append(&mut over);
    }
    failed.map_or(Ok(()), |error| Err((unknown, error)))
}

/// Whether this is the end of the step still: one that has failed may have been run again before that was written down.
async fn is_over(broker: &dyn Broker, step: &SettledStep) -> BrokerResult<bool> {
    if matches!(step.end, StepEnd::Done(_)) {
        return Ok(true);
    }
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use runner_core::clock::{Clock, SystemClock};
    use runner_core::task::Task;
    use runner_queue::embedded::EmbeddedBroker;
    use runner_queue::{
        Claims as _, NewWorkflow, WorkflowPlan, WorkflowState, WorkflowStep, Workflows as _, advance_workflow,
    };

    use super::*;
    use crate::metrics::Metrics;

    async fn open(directory: &tempfile::TempDir) -> EmbeddedBroker {
        let path = directory.path().join("runner.db");
        EmbeddedBroker::open(path, Arc::new(SystemClock)).await.unwrap()
    }

    #[tokio::test]
    async fn what_could_not_be_written_is_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let broker = open(&directory).await;
        let new = NewWorkflow {
            id: "w".to_owned(),
            plan: WorkflowPlan {
                name: "w".to_owned(),
                stages: vec![1],
                ..WorkflowPlan::default()
            },
            steps: vec![(WorkflowStep::of(&Task::new("s"), None), Bytes::new())],
        };
        assert!(broker.keep_workflow(&new).await.unwrap());
        advance_workflow(&broker, "w", None).await.unwrap();
        let claims = broker.claim(&[QueueName::default()], 1, Duration::from_secs(30)).await;
        let settlement = Settlement {
            claim: claims.unwrap().remove(0),
            verdict: Verdict::Revoke,
            result: None,
            attempt: None,
        };
        broker.settle(std::slice::from_ref(&settlement)).await.unwrap();
        let settled = SettledSteps::default();
        settled.settled(&settlement);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ends = WorkflowEnds::new(&Default::default(), &clock, &Arc::<Metrics>::default());
        broker.close().await;
        for _ in 1..MOST_TRIES {
            assert!(settled.write(&broker, &ends).await.is_err());
            assert!(settled.has_some());
        }
        let opened = open(&directory).await;
        settled.write(&opened, &ends).await.unwrap();
        assert!(!settled.has_some());
        let state = opened.workflow("w").await.unwrap().unwrap().place.state;
        assert_eq!(state, WorkflowState::Done);
        // It is bounded how often.
        settled.settled(&settlement);
        for _ in 0..MOST_TRIES {
            assert!(settled.has_some());
            assert!(settled.write(&broker, &ends).await.is_err());
        }
        assert!(!settled.has_some());
        opened.close().await;
    }
}
