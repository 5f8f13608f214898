//! A whole queue in memory by a clock that the test moves: retries, back-off, delays and locks without waiting.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use runner_core::task::{DEFAULT_TIMEOUT, Enqueue, QueueName, TaskId};

use super::attempt;
use super::table::{TestAttempt, TestTable, TestTask, later};
use crate::{Ctx, CtxParts, Group, GroupTask, Handlers, NotEnqueued, Registry, RegistryError, Stop, TaskError};

/// Most attempts of one call: handlers that enqueue each other without a delay would never end.
const MOST_ATTEMPTS: usize = 10_000;

/// A queue in memory, the handlers of a registry, and a clock that stands still until it is moved.
///
/// Tasks run one after the other, in the order in which they become due. Retries, time limits, locks of unique tasks and what
/// handlers enqueue work as with a worker; retry delays have no random part, so that a test knows when they end. A limit for
/// [silence](crate::HandlerOptions::silence) is not kept. Waits of handlers themselves use the clock of tokio: `#[tokio::test(start_paused = true)]` makes them short.
///
/// ```
/// use std::time::Duration;
///
/// use runner_sdk::testing::TestQueue;
/// use runner_sdk::{Ctx, Registry, Task, TaskError, TaskState};
///
/// /// Fails twice; then it enqueues the receipt.
/// async fn charge(cx: Ctx) -> Result<(), TaskError> {
///     if cx.attempt() < 3 {
///         return Err(TaskError::retry("the bank is closed"));
///     }
///     cx.enqueue(Task::new("receipt").delay(Duration::from_secs(3600))).await?;
///     Ok(())
/// }
///
/// async fn receipt() -> &'static str {
///     "sent"
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = TestQueue::new(Registry::new().on("charge", charge).on("receipt", receipt))?;
/// let id = queue.enqueue(Task::new("charge").retry(5))?;
///
/// queue.run_due().await;
/// let task = queue.task(&id).ok_or("gone")?;
/// assert_eq!((task.state, task.retried), (TaskState::Retry, 1));
/// assert_eq!(task.last_error, "the bank is closed");
/// assert_eq!(task.due, Some(queue.now() + Duration::from_secs(15)));
///
/// // The second attempt after 15 s, the third 16 s later, the receipt an hour after that.
/// queue.run_for(Duration::from_secs(60)).await;
/// assert_eq!(queue.task(&id).ok_or("gone")?.state, TaskState::Completed);
/// assert_eq!(queue.tasks_of("receipt")[0].state, TaskState::Scheduled);
///
/// queue.run_for(Duration::from_secs(3600)).await;
/// assert_eq!(queue.tasks_of("receipt")[0].result.as_deref(), Some(&b"sent"[..]));
/// assert_eq!(queue.attempts().len(), 4);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct TestQueue {
    handlers: Handlers,
    table: Arc<TestTable>,
}

impl TestQueue {
    /// An empty queue. Its clock stands at 2026-01-01T00:00:00Z.
    ///
    /// # Errors
    ///
    /// If the registry has a name twice, or lacks a state.
    pub fn new(registry: Registry) -> Result<Self, RegistryError> {
        Self::at(Timestamp::constant(1_767_225_600, 0), registry)
    }

    /// The same with a clock that stands at this instant.
    ///
    /// # Errors
    ///
    /// As [`TestQueue::new`].
    pub fn at(now: Timestamp, registry: Registry) -> Result<Self, RegistryError> {
        Ok(Self {
            handlers: registry.build()?,
            table: Arc::new(TestTable::at(now)),
        })
    }

    /// The time by its clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.table.lock().now
    }

    /// Moves the clock forward, and runs nothing.
    pub fn advance(&self, by: Duration) {
        let mut table = self.table.lock();
        table.now = later(table.now, by);
    }

    /// Enqueues a task.
    ///
    /// # Errors
    ///
    /// As an enqueue to a broker: an option is out of bounds, the id is taken, or the uniqueness lock is held.
    pub fn enqueue(&self, task: impl Enqueue) -> Result<TaskId, NotEnqueued> {
        self.table.lock().add(task.into_task())
    }

    /// The task with this id, the newest if several had it; `None` if there was none, or it was revoked.
    #[must_use]
    pub fn task(&self, id: &TaskId) -> Option<TestTask> {
        self.table.lock().tasks.iter().rfind(|t| t.id == *id).cloned()
    }

    /// All tasks, in the order in which they were enqueued.
    #[must_use]
    pub fn tasks(&self) -> Vec<TestTask> {
        self.table.lock().tasks.clone()
    }

    /// The tasks of this type, in the order in which they were enqueued.
    #[must_use]
    pub fn tasks_of(&self, kind: &str) -> Vec<TestTask> {
        let table = self.table.lock();
        table.tasks.iter().filter(|t| t.task.kind == kind).cloned().collect()
    }

    /// All attempts so far, in order.
    #[must_use]
    pub fn attempts(&self) -> Vec<TestAttempt> {
        self.table.lock().attempts.clone()
    }

    /// When the next task is due, be it in the past; `None` if none waits for anything but a handler.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        let table = self.table.lock();
        let next = table.first_due(|kind| self.handlers.knows(kind))?;
        table.tasks[next].due
    }

    /// Runs what is due, and what that enqueues without a delay. Returns the number of attempts, at most 10 000. Tasks without a
    /// handler stay pending.
    pub async fn run_due(&self) -> usize {
        let mut attempts = 0;
        while attempts < MOST_ATTEMPTS && self.run_next(self.now()).await {
            attempts += 1;
        }
        attempts
    }

    /// Runs what becomes due within this time, each task at its own instant, and moves the clock to the end of it. Returns the
    /// number of attempts, at most 10 000.
    pub async fn run_for(&self, time: Duration) -> usize {
        let until = later(self.now(), time);
        let attempts = self.run_until(until).await;
        self.table.lock().now = until;
        attempts
    }

    /// Runs until no task waits any more, each at its own instant, and leaves the clock there. Returns the number of attempts, at
    /// most 10 000: for a task that fails again and again, or one that puts itself off.
    pub async fn run_to_end(&self) -> usize {
        self.run_until(Timestamp::MAX).await
    }

    async fn run_until(&self, until: Timestamp) -> usize {
        let mut attempts = 0;
        while attempts < MOST_ATTEMPTS && self.run_next(until).await {
            attempts += 1;
        }
        attempts
    }

    /// Runs the task that is due first, if that is not after `until`.
    async fn run_next(&self, until: Timestamp) -> bool {
        let task = {
            let mut table = self.table.lock();
            let Some(next) = table.first_due(|kind| self.handlers.knows(kind)) else {
                return false;
            };
            let Some(due) = table.tasks[next].due.filter(|due| *due <= until) else {
                return false;
            };
            table.now = table.now.max(due);
            table.tasks[next].clone()
        };
        self.attempt(task).await;
        true
    }

    async fn attempt(&self, task: TestTask) {
        let Some(found) = self.handlers.find(&task.task.kind) else {
            return;
        };
        let (now, stop) = (self.now(), Stop::new());
        let (deadline, limit) = limit(&task, found.timeout(), now);
        let number = task.retried + 1;
        let (id, kind) = (task.id.clone(), task.task.kind.clone());
        let parts = CtxParts {
            id: task.id,
            kind: task.task.kind,
            payload: task.task.payload.unwrap_or_default(),
            queue: task.task.queue,
            attempt: number,
            max_attempts: task.task.max_retry.saturating_add(1),
            headers: task.task.headers,
            deadline: Some(deadline),
            time_limit: Some(limit),
        };
        let cx = Ctx::new(parts, stop.clone(), self.handlers.states(), self.table.clone());
        let outcome = attempt::run(&found, cx.clone(), stop, limit).await;
        let attempt = TestAttempt {
            id,
            kind,
            number,
            at: now,
            outcome,
            log: cx.log().take().unwrap_or_default(),
        };
        self.table
            .lock()
            .settle(cx.queue(), attempt, cx.take_result(), found.backoff());
    }

    /// Combines the tasks that wait in this group of the queue `default` into one, with the aggregator of the registry, and
    /// enqueues that. `None` if the group is empty or has no aggregator.
    ///
    /// # Errors
    ///
    /// That of the aggregator; the tasks stay in the group.
    pub async fn aggregate(&self, group: &str) -> Result<Option<TaskId>, TaskError> {
        self.aggregate_in(&QueueName::default(), group).await
    }

    /// As [`TestQueue::aggregate`], for a group of this queue.
    ///
    /// # Errors
    ///
    /// That of the aggregator; the tasks stay in the group.
    pub async fn aggregate_in(&self, queue: &QueueName, group: &str) -> Result<Option<TaskId>, TaskError> {
        let Some(aggregator) = self.handlers.aggregator(group) else {
            return Ok(None);
        };
        let taken = self.table.lock().take_group(queue, group);
        if taken.is_empty() {
            return Ok(None);
        }
        let tasks = taken.iter().map(|t| GroupTask {
            id: t.id.clone(),
            kind: t.task.kind.clone(),
            payload: t.task.payload.clone().unwrap_or_default(),
            headers: t.task.headers.clone(),
        });
        let states = self.handlers.states();
        let combined = aggregator
            .call(Group::new(group, queue.clone(), tasks.collect(), states))
            .await;
        let mut table = self.table.lock();
        match combined {
            Ok(mut task) => {
                task.queue = queue.clone();
                Ok(Some(table.add(task)?))
            }
            Err(error) => {
                table.tasks.extend(taken);
                Err(error)
            }
        }
    }
}

/// The deadline of an attempt, and how long it may take.
fn limit(task: &TestTask, of_handler: Option<Duration>, now: Timestamp) -> (Timestamp, Duration) {
    let timeout = task.task.timeout.filter(|timeout| !timeout.is_zero());
    let of_task = match (timeout, task.task.deadline) {
        (None, None) => Some(DEFAULT_TIMEOUT),
        (timeout, _) => timeout,
    };
    let timeouts = of_task.into_iter().chain(of_handler).map(|limit| later(now, limit));
    let deadline = timeouts.chain(task.task.deadline).min().unwrap_or(Timestamp::MAX);
    (
        deadline,
        Duration::try_from(deadline.duration_since(now)).unwrap_or(Duration::ZERO),
    )
}
