//! Looks for groups that are ripe and makes one task of each, where an aggregator for them is registered.
//!
//! A set is enqueued as one task and then dropped: two steps, so that a crash between them repeats the first. Until
//! its deadline the set is ours alone; whatever goes wrong, it is left alone and goes back to its group after that.
//! A group whose aggregator fails again and again is looked at less and less often.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_core::task::{QueueName, Task, TaskId};
use runner_queue::{Broker, BrokerError, BrokerResult, Lists, Refusal, SET_DEADLINE, StagedSet, TaskRecord};
use runner_sdk::{Aggregator as Function, Group, GroupTask};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::WorkerContext;
use super::group_failures::GroupFailures;
use crate::background::{BackgroundLoop, panic_text};

/// The longest time between two looks at the groups.
const EVERY: Duration = Duration::from_secs(7);

/// Sets in work at once.
const AT_ONCE: usize = 3;

/// Sets of one group in a row, so that a group that fills faster than it is worked off lets others have a turn.
const IN_A_ROW: usize = 100;

/// Before the deadline of a set nothing of it is written any more: the store counts in whole seconds, and another
/// instance may take the set back then.
const MARGIN: Duration = Duration::from_secs(5);

/// What the writing gets of the time of a set, at least; an aggregator that runs into it is dropped.
const WRITING: Duration = Duration::from_secs(15);

/// How long after its deadline a set is taken back: allowance for clocks that differ, since Go servers write
/// deadlines by their own.
const RECLAIM_GRACE: Duration = Duration::from_secs(5);

/// Tasks taken back in one call.
const RECLAIM_BATCH: usize = 1000;

/// Pause between two tries to write.
const AGAIN: Duration = Duration::from_millis(500);

pub(super) struct GroupAggregator {
    ctx: Arc<WorkerContext>,
    stop: CancellationToken,
    slots: Arc<Semaphore>,
    sets: TaskTracker,
    setbacks: Arc<GroupFailures>,
}

impl GroupAggregator {
    /// `sets` keeps count of what is under way; `stop` ends the looking, not the sets.
    pub(super) fn new(ctx: Arc<WorkerContext>, stop: CancellationToken, sets: TaskTracker) -> Self {
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        Self {
            ctx,
            stop,
            slots,
            sets,
            setbacks: Arc::default(),
        }
    }

    /// Waits for a free slot; `None` when stopped.
    async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            slot = self.slots.clone().acquire_owned() => slot.ok(),
        }
    }

    async fn look(&self, queue: &QueueName) -> BrokerResult<()> {
        let mut from: Option<String> = None;
        loop {
            let part = self.ctx.broker.group_names(queue, from.as_deref()).await?;
            for group in &part.names {
                if let Some(function) = self.ctx.handlers.aggregator(group) {
                    self.empty(queue, group, &function).await?;
                }
                if self.stop.is_cancelled() {
                    return Ok(());
                }
            }
            from = part.next;
            if from.is_none() {
                return Ok(());
            }
        }
    }

    /// Takes sets out of a group while it is ripe.
    async fn empty(&self, queue: &QueueName, group: &str, function: &Function) -> BrokerResult<()> {
        for _ in 0..IN_A_ROW {
            let Some(slot) = self.slot().await else { break };
            let began = Instant::now();
            if self.setbacks.pauses(queue, group, began) {
                break;
            }
            let Some(set) = self.ctx.broker.stage(queue, group, &self.ctx.settings.groups).await? else {
                break;
            };
            let (ctx, function, setbacks) = (self.ctx.clone(), function.clone(), self.setbacks.clone());
            self.sets.spawn(async move {
                let set = OwnedSet { set, began };
                set.run(&ctx, &function, &setbacks).await;
                drop(slot);
            });
        }
        Ok(())
    }
}

#[async_trait]
impl BackgroundLoop for GroupAggregator {
    fn name(&self) -> &'static str {
        "aggregator"
    }

    fn every(&self) -> Duration {
        EVERY.min(self.ctx.settings.groups.grace)
    }

    async fn turn(&mut self) -> Option<Duration> {
        let queues = match self.ctx.queues_with(Lists::Grouped).await {
            Ok(chunks) => chunks.concat(),
            Err(error) => {
                self.ctx.broker_failed("look for groups", &error);
                return None;
            }
        };
        for queue in queues {
            if let Err(error) = self.look(&queue).await {
                // In a cluster the server of one queue may be away, and those of others not.
                self.ctx.broker_failed("look at the groups", &error);
            }
        }
        None
    }
}

/// Puts the tasks of sets that nobody came back for into their groups again.
pub(super) async fn reclaim(ctx: &WorkerContext) {
    let pass = async {
        let mut all = Vec::new();
        for queues in ctx.queues_with(Lists::Grouped).await? {
            all.extend(ctx.broker.reclaim(&queues, RECLAIM_GRACE, RECLAIM_BATCH).await?);
        }
        Ok(all)
    };
    match pass.await {
        Ok(reclaimed) => {
            for group in reclaimed {
                tracing::warn!(
                    queue = %group.queue, group = group.group, tasks = group.tasks,
                    "tasks that were to become one went back to their group: their aggregator died or failed"
                );
            }
        }
        Err(error) => ctx.broker_failed("take back tasks of groups", &error),
    }
}

/// Whether a task of this id, type and payload is there, in whatever state.
pub(super) async fn is_written(broker: &dyn Broker, task: &Task) -> BrokerResult<bool> {
    let Some(id) = &task.id else { return Ok(false) };
    let found = broker.task(&task.queue, id).await?;
    let payload = task.payload.as_deref().unwrap_or_default();
    Ok(found.is_some_and(|found| found.record.kind == task.kind && found.record.payload == payload))
}

/// A set that is ours until its deadline.
struct OwnedSet {
    set: StagedSet,
    /// Just before it was taken.
    began: Instant,
}

/// Why the tasks of a set did not become one.
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
    #[error("the task that it made was refused: {0}")]
    Refused(Refusal),
    #[error("the task that it made could not be written in time")]
    Unwritten(#[source] Option<BrokerError>),
}

impl Failure {
    /// The word for metrics.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Unread(_) | Self::Unwritten(_) => "broker",
            Self::Returned(_) | Self::TooSlow => "failed",
            Self::Panicked(_) => "panicked",
            Self::Refused(_) => "refused",
        }
    }

    /// Whether the aggregator is to blame, which may fail the same way each time.
    fn is_the_aggregators(&self) -> bool {
        !matches!(self, Self::Unread(_) | Self::Unwritten(_))
    }
}

impl OwnedSet {
    async fn run(&self, ctx: &WorkerContext, function: &Function, setbacks: &GroupFailures) {
        let (queue, group) = (&self.set.queue, self.set.group.as_str());
        let outcome = match self.make_one(ctx, function).await {
            Ok(None) => return,
            Ok(Some((tasks, task))) => {
                let duration_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(
                    %queue, group, tasks, task_id = %self.id_of(&task), task_type = %task.kind, duration_ms,
                    "the tasks of a group became one"
                );
                ctx.metrics.aggregated_tasks(queue.as_str(), tasks);
                let failures = setbacks.succeeded(queue, group);
                if failures > 1 {
                    tracing::info!(%queue, group, failures, "the aggregator of a group works again");
                }
                "success"
            }
            Err(failure) => {
                let error = runner_core::chain::chain(&failure);
                tracing::error!(
                    %queue, group, error,
                    "the tasks of a group did not become one; they go back to it within about two minutes"
                );
                if failure.is_the_aggregators() {
                    self.failed(ctx, setbacks);
                }
                failure.outcome()
            }
        };
        ctx.metrics.aggregated(queue.as_str(), outcome);
    }

    /// One failure may be luck; a row of them is for somebody to look at.
    fn failed(&self, ctx: &WorkerContext, setbacks: &GroupFailures) {
        let (queue, group) = (&self.set.queue, self.set.group.as_str());
        let again = setbacks.failed(queue, group, self.began, Instant::now());
        if again.another && again.in_a_row > 1 {
            ctx.metrics.aggregator_failed_again(queue.as_str());
            tracing::warn!(
                code = "aggregator_failing", %queue, group, failures = again.in_a_row, pause_s = again.pause.as_secs(),
                "the aggregator of a group failed again and again; this instance leaves the group alone for a while. \
                 A task that it cannot bear can be run alone, archived or deleted once it is back in its group"
            );
        }
    }

    /// How many became which one; nothing when none of them was there any more.
    async fn make_one(&self, ctx: &WorkerContext, function: &Function) -> Result<Option<(usize, Task)>, Failure> {
        let read = timeout_at(self.until(WRITING), ctx.broker.read_staged(&self.set)).await;
        let tasks = read
            .map_err(|_| Failure::Unread(None))?
            .map_err(|error| Failure::Unread(Some(error)))?;
        if tasks.is_empty() {
            return Ok(None);
        }
        let count = tasks.len();
        let mut task = self.call(ctx, function, tasks).await?;
        task.queue = self.set.queue.clone();
        self.enqueue(ctx, &task).await?;
        self.drop_set(ctx).await;
        Ok(Some((count, task)))
    }

    /// `before` the last instant at which something may be written.
    fn until(&self, before: Duration) -> Instant {
        self.began + (SET_DEADLINE - MARGIN - before)
    }

    /// The identity of the task: the set's own unless the aggregator chose one, so that writing it twice is noticed.
    fn id_of(&self, task: &Task) -> TaskId {
        let own = || TaskId::new(self.set.id.clone()).unwrap_or_else(|_| TaskId::random());
        task.id.clone().unwrap_or_else(own)
    }

    async fn call(&self, ctx: &WorkerContext, function: &Function, tasks: Vec<TaskRecord>) -> Result<Task, Failure> {
        let tasks = tasks.into_iter().map(|task| GroupTask {
            id: task.id,
            kind: task.kind,
            payload: task.payload,
            headers: task.headers,
        });
        let (name, queue) = (self.set.group.clone(), self.set.queue.clone());
        let group = Group::new(name, queue, tasks.collect(), ctx.handlers.states());
        // In a task of its own, so that a panic ends it and nothing else.
        let mut running = tokio::spawn(function.call(group));
        match timeout_at(self.until(WRITING), &mut running).await {
            Ok(Ok(made)) => made.map_err(Failure::Returned),
            Ok(Err(error)) => Err(match error.try_into_panic() {
                Ok(panic) => Failure::Panicked(panic_text(panic.as_ref())),
                Err(_) => Failure::TooSlow,
            }),
            Err(_) => {
                running.abort();
                Err(Failure::TooSlow)
            }
        }
    }

    #[allow(clippy::disallowed_methods)] // a named back-off, which ends with the time of the set
    async fn enqueue(&self, ctx: &WorkerContext, task: &Task) -> Result<(), Failure> {
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
                    // An earlier try may have taken effect though its answer was lost.
                    let own = !chosen && refusal == Refusal::IdTaken;
                    if last.is_some() && (own || self.is_there(ctx, &task[0]).await) {
                        return Ok(());
                    }
                    return Err(Failure::Refused(refusal));
                }
                // It is there: to put the set together again would double it for as long as a replica is away.
                Ok(Err(error @ BrokerError::Unconfirmed { .. })) => {
                    ctx.metrics.broker_error(error.code());
                    let (queue, group) = (&self.set.queue, &self.set.group);
                    tracing::warn!(%queue, group, %error, "the tasks of a group became one all the same");
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

    /// Whether this very task lies in the store, where its own uniqueness lock bars it from being written a second
    /// time.
    async fn is_there(&self, ctx: &WorkerContext, task: &Task) -> bool {
        match timeout_at(self.until(Duration::ZERO), is_written(ctx.broker.as_ref(), task)).await {
            Ok(Ok(there)) => there,
            Ok(Err(error)) => {
                ctx.broker_failed("look for the task of a group", &error);
                false
            }
            Err(_) => false,
        }
    }

    /// What cannot be dropped in time is put together once more.
    #[allow(clippy::disallowed_methods)] // as above
    async fn drop_set(&self, ctx: &WorkerContext) {
        while Instant::now() < self.until(Duration::ZERO) {
            match timeout_at(self.until(Duration::ZERO), ctx.broker.drop_staged(&self.set)).await {
                Ok(Ok(_)) => return,
                Ok(Err(error)) => {
                    ctx.broker_failed("delete tasks that became one", &error);
                    tokio::time::sleep(AGAIN).await;
                }
                Err(_) => break,
            }
        }
        tracing::warn!(
            queue = %self.set.queue, group = %self.set.group,
            "tasks that became one could not be deleted; they will become one again"
        );
    }
}
