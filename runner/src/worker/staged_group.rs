//! One set of tasks that was taken out of a group: its aggregator makes one task of them, which is enqueued, and the
//! set is dropped.
//!
//! In this order, as two steps: after a crash between them the tasks are combined once more, while the other order
//! could lose them. Until its deadline no other instance touches the set. After any failure it is left where it is, and
//! returns to its group after that.

use std::time::Duration;

use runner_core::chain::chain;
use runner_core::task::{Task, TaskId};
use runner_queue::{BrokerError, BrokerResult, InspectTasks, Refusal, SET_DEADLINE, StagedSet, TaskRecord};
use runner_sdk::{Aggregator, Group, GroupTask};
use tokio::time::{Instant, timeout_at};

use super::context::WorkerContext;
use super::group_failures::GroupFailures;
use crate::background::panic_text;

/// From this long before the deadline of a set nothing of it is written: the store counts in whole seconds, and another
/// instance may take the set back then.
const MARGIN: Duration = Duration::from_secs(5);

/// The least time of a set that is left for writing; an aggregator that still runs then is dropped.
const WRITING: Duration = Duration::from_secs(15);

/// Pause between two tries to write.
const AGAIN: Duration = Duration::from_millis(500);

/// Whether a task of this id, type and payload exists, in any state.
pub(super) async fn is_written(broker: &dyn InspectTasks, task: &Task) -> BrokerResult<bool> {
    let Some(id) = &task.id else { return Ok(false) };
    let found = broker.task(&task.queue, id).await?;
    let payload = task.payload.as_deref().unwrap_or_default();
    Ok(found.is_some_and(|found| found.record.kind == task.kind && found.record.payload == payload))
}

/// A set that belongs to this instance until its deadline.
pub(super) struct OwnedSet {
    pub set: StagedSet,
    /// Just before it was taken.
    pub began: Instant,
}

/// Why the tasks of a set were not combined.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the tasks could not be read in time")]
    Unread(#[source] Option<BrokerError>),
    #[error("the aggregator failed: {0}")]
    Returned(runner_sdk::TaskError),
    #[error("the aggregator panicked: {0}")]
    Panicked(String),
    #[error("the aggregator took too long and was dropped")]
    TooSlow,
    #[error("the combined task was refused: {0}")]
    Refused(Refusal),
    #[error("the combined task could not be written in time")]
    Unwritten(#[source] Option<BrokerError>),
}

impl Failure {
    /// The outcome in metrics.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Unread(_) | Self::Unwritten(_) => "broker",
            Self::Returned(_) | Self::TooSlow => "failed",
            Self::Panicked(_) => "panicked",
            Self::Refused(_) => "refused",
        }
    }

    /// Whether the aggregator failed, and not the broker: it may fail the same way each time.
    fn is_the_aggregators(&self) -> bool {
        !matches!(self, Self::Unread(_) | Self::Unwritten(_))
    }
}

impl OwnedSet {
    pub(super) async fn run(&self, ctx: &WorkerContext, aggregator: &Aggregator, failures: &GroupFailures) {
        let (queue, group) = (&self.set.queue, self.set.group.as_str());
        let outcome = match self.make_one(ctx, aggregator).await {
            Ok(None) => return,
            Ok(Some((tasks, task))) => {
                let duration_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(
                    %queue, group, tasks, task_id = %self.id_of(&task), task_type = %task.kind, duration_ms,
                    "the tasks of a group were combined into one"
                );
                ctx.metrics.aggregated_tasks(queue.as_str(), tasks);
                let in_a_row = failures.succeeded(queue, group);
                if in_a_row > 1 {
                    tracing::info!(%queue, group, failures = in_a_row, "the aggregator of a group works again");
                }
                "success"
            }
            Err(failure) => {
                let error = chain(&failure);
                tracing::error!(
                    %queue, group, error,
                    "the tasks of a group were not combined; they return to it within about two minutes"
                );
                if failure.is_the_aggregators() {
                    self.failed(ctx, failures);
                }
                failure.outcome()
            }
        };
        ctx.metrics.aggregated(queue.as_str(), outcome);
    }

    /// One failure may be an accident; several in a row need an operator.
    fn failed(&self, ctx: &WorkerContext, failures: &GroupFailures) {
        let (queue, group) = (&self.set.queue, self.set.group.as_str());
        let again = failures.failed(queue, group, self.began, Instant::now());
        if again.another && again.in_a_row > 1 {
            ctx.metrics.aggregator_failed_again(queue.as_str());
            tracing::warn!(
                code = "aggregator_failing", %queue, group, failures = again.in_a_row, pause_s = again.pause.as_secs(),
                "the aggregator of a group failed repeatedly; this instance skips the group for a while. \
                 Tasks that it cannot process can be run singly, archived or deleted once they are back in the group"
            );
        }
    }

    /// How many were combined into which task; `None` when none of them existed any more.
    async fn make_one(&self, ctx: &WorkerContext, aggregator: &Aggregator) -> Result<Option<(usize, Task)>, Failure> {
        let read = timeout_at(self.until(WRITING), ctx.broker.read_staged(&self.set)).await;
        let tasks = read
            .map_err(|_| Failure::Unread(None))?
            .map_err(|error| Failure::Unread(Some(error)))?;
        if tasks.is_empty() {
            return Ok(None);
        }
        let count = tasks.len();
        let mut task = self.call(ctx, aggregator, tasks).await?;
        task.queue = self.set.queue.clone();
        self.enqueue(ctx, &task).await?;
        self.drop_set(ctx).await;
        Ok(Some((count, task)))
    }

    /// The instant `before` the last one at which something may be written.
    fn until(&self, before: Duration) -> Instant {
        self.began + (SET_DEADLINE - MARGIN - before)
    }

    /// The identity of the task: the set's own unless the aggregator chose one, so that a second write is detected.
    fn id_of(&self, task: &Task) -> TaskId {
        let own = || TaskId::new(self.set.id.clone()).unwrap_or_else(|_| TaskId::random());
        task.id.clone().unwrap_or_else(own)
    }

    async fn call(
        &self,
        ctx: &WorkerContext,
        aggregator: &Aggregator,
        tasks: Vec<TaskRecord>,
    ) -> Result<Task, Failure> {
        let tasks = tasks.into_iter().map(|task| GroupTask {
            id: task.id,
            kind: task.kind,
            payload: task.payload,
            headers: task.headers,
        });
        let (name, queue) = (self.set.group.clone(), self.set.queue.clone());
        let group = Group::new(name, queue, tasks.collect(), ctx.handlers.states());
        // In a task of its own: a panic ends that and nothing else.
        let mut running = tokio::spawn(aggregator.call(group));
        match timeout_at(self.until(WRITING), &mut running).await {
            Ok(Ok(made)) => made.map_err(Failure::Returned),
            Ok(Err(error)) => Err(match error.try_into_panic() {
                Ok(panic) => Failure::Panicked(panic_text(panic.as_ref())),
                Err(_) => Failure::TooSlow,
            }),
            Err(_) => {
                // Dropping the handle would let it run on.
                running.abort();
                Err(Failure::TooSlow)
            }
        }
    }

    #[allow(clippy::disallowed_methods)] // a named back-off, which ends with the time of the set
    async fn enqueue(&self, ctx: &WorkerContext, task: &Task) -> Result<(), Failure> {
        // An id that the aggregator chose may belong to another task; the set's own id only to an earlier try.
        let chosen = task.id.is_some();
        let task = [task.clone().id(self.id_of(task))];
        let mut last = None;
        while Instant::now() < self.until(Duration::ZERO) {
            match timeout_at(self.until(Duration::ZERO), ctx.broker.enqueue(&task)).await {
                Ok(Ok(mut answers)) => {
                    let refusal = match answers.pop() {
                        Some(Ok(_)) => return Ok(()),
                        Some(Err(refusal)) => refusal,
                        None => return Err(Failure::Unwritten(None)),
                    };
                    // An earlier try may have taken effect although its answer was lost. Then the id is taken, by this
                    // very task if the set's own id was used; otherwise the store has to be asked.
                    let own = !chosen && refusal == Refusal::IdTaken;
                    if last.is_some() && (own || self.is_there(ctx, &task[0]).await) {
                        return Ok(());
                    }
                    return Err(Failure::Refused(refusal));
                }
                // It is stored, only not on enough replicas: to aggregate the set again would enqueue it twice.
                Ok(Err(error @ BrokerError::Unconfirmed { .. })) => {
                    ctx.metrics.broker_error(error.code());
                    let (queue, group) = (&self.set.queue, &self.set.group);
                    tracing::warn!(%queue, group, %error, "the tasks of a group were combined into one, although a replica is missing");
                    return Ok(());
                }
                Ok(Err(error)) if error.is_transient() => {
                    ctx.broker_failed("enqueue the task of a group", &error);
                    last = Some(error);
                    tokio::time::sleep(AGAIN).await;
                }
                Ok(Err(error)) => return Err(Failure::Unwritten(Some(error))),
                Err(_) => break,
            }
        }
        Err(Failure::Unwritten(last))
    }

    /// Whether exactly this task is in the store, where its uniqueness lock refuses a second write.
    async fn is_there(&self, ctx: &WorkerContext, task: &Task) -> bool {
        match timeout_at(self.until(Duration::ZERO), is_written(&*ctx.broker, task)).await {
            Ok(Ok(there)) => there,
            Ok(Err(error)) => {
                ctx.broker_failed("look for the task of a group", &error);
                false
            }
            Err(_) => false,
        }
    }

    /// Drops the set. If that fails until its time is over, its tasks are combined once more.
    #[allow(clippy::disallowed_methods)] // as above
    async fn drop_set(&self, ctx: &WorkerContext) {
        while Instant::now() < self.until(Duration::ZERO) {
            match timeout_at(self.until(Duration::ZERO), ctx.broker.drop_staged(&self.set)).await {
                Ok(Ok(_)) => return,
                Ok(Err(error)) => {
                    ctx.broker_failed("delete combined tasks", &error);
                    tokio::time::sleep(AGAIN).await;
                }
                Err(_) => break,
            }
        }
        tracing::warn!(
            queue = %self.set.queue, group = %self.set.group,
            "combined tasks could not be deleted; they will be combined again"
        );
    }
}
