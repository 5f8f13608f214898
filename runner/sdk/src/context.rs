//! The context of a handler: everything it may know about its task.
//!
//! The handler's result decides how the task ends. The only way to the broker is to enqueue further tasks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use runner_core::task::{Enqueue, QueueName, Task, TaskId};
use tokio::sync::watch;

use crate::{LeaseLimits, NotEnqueued, RunLog, Services, States, Stop, StopReason};

/// The facts of one attempt, supplied by the worker.
#[derive(Debug, Clone)]
pub struct CtxParts {
    /// The task's identity within its queue; the same for every attempt.
    pub id: TaskId,
    /// The task type.
    pub kind: String,
    /// The payload, byte for byte; empty if the task has none.
    pub payload: Bytes,
    /// The queue it was claimed from.
    pub queue: QueueName,
    /// Number of this attempt, from 1.
    pub attempt: u32,
    /// Maximum number of attempts: retries allowed, plus one.
    pub max_attempts: u32,
    /// Key-value pairs from the producer.
    pub headers: BTreeMap<String, String>,
    /// When this attempt is stopped.
    pub deadline: Option<Timestamp>,
    /// How long this attempt may take, counted from its start.
    pub time_limit: Option<Duration>,
}

/// Headers in which the scheduler describes the occurrence.
const SCHEDULE: &str = "runner-schedule-id";
const SCHEDULED_AT: &str = "runner-scheduled-at";

#[derive(Debug)]
struct Inner {
    parts: CtxParts,
    stop: Stop,
    states: Arc<States>,
    services: Arc<dyn Services>,
    log: RunLog,
    result: Mutex<Option<Bytes>>,
}

/// The context of an attempt. A clone is one atomic increment.
#[derive(Debug, Clone)]
pub struct Ctx(Arc<Inner>);

impl Ctx {
    /// The context of one attempt. The worker uses `stop` to end it early.
    #[must_use]
    pub fn new(parts: CtxParts, stop: Stop, states: Arc<States>, services: Arc<dyn Services>) -> Self {
        Self(Arc::new(Inner {
            parts,
            stop,
            states,
            services,
            log: RunLog::default(),
            result: Mutex::default(),
        }))
    }

    /// The task's identity within its queue; the same for every attempt.
    #[must_use]
    pub fn id(&self) -> &TaskId {
        &self.0.parts.id
    }

    /// The task type.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.0.parts.kind
    }

    /// The payload, byte for byte; empty if the task has none.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.0.parts.payload
    }

    /// The queue it was claimed from.
    #[must_use]
    pub fn queue(&self) -> &QueueName {
        &self.0.parts.queue
    }

    /// Number of this attempt, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.parts.attempt
    }

    /// Maximum number of attempts.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.0.parts.max_attempts
    }

    /// Key-value pairs from the producer.
    #[must_use]
    pub fn headers(&self) -> &BTreeMap<String, String> {
        &self.0.parts.headers
    }

    /// When this attempt is stopped.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.0.parts.deadline
    }

    /// How long this attempt may take, counted from its start.
    #[must_use]
    pub fn time_limit(&self) -> Option<Duration> {
        self.0.parts.time_limit
    }

    /// The schedule whose occurrence this task is, as `m:backup`; `None` for a task that was enqueued otherwise.
    #[must_use]
    pub fn schedule(&self) -> Option<&str> {
        self.headers().get(SCHEDULE).map(String::as_str)
    }

    /// The planned instant of the occurrence: it stays the same for every attempt, and however late the task runs.
    #[must_use]
    pub fn scheduled_at(&self) -> Option<Timestamp> {
        self.headers().get(SCHEDULED_AT)?.parse().ok()
    }

    /// Enqueues a further task, into the broker that this one came from. A retry of this attempt enqueues it again unless it
    /// has an [id](Task::id) or a uniqueness lock.
    ///
    /// ```
    /// # use runner_sdk::{Ctx, Task, TaskError};
    /// async fn fan_out(cx: Ctx) -> Result<(), TaskError> {
    ///     for part in 0..3 {
    ///         cx.enqueue(Task::new("part").payload(part.to_string()).id(format!("{}-{part}", cx.id()))).await?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotEnqueued`]; with `?` this attempt fails and is retried.
    pub async fn enqueue(&self, task: impl Enqueue) -> Result<TaskId, NotEnqueued> {
        let answers = self.0.services.enqueue(vec![task.into_task()]).await?;
        let missing = || Err(NotEnqueued::Unavailable("no answer".to_owned()));
        answers.into_iter().next().unwrap_or_else(missing)
    }

    /// Enqueues further tasks in one round trip, with one answer for each, in order.
    ///
    /// # Errors
    ///
    /// [`NotEnqueued::Unavailable`] if the broker could not be asked.
    pub async fn enqueue_many<T: Enqueue>(
        &self,
        tasks: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Result<TaskId, NotEnqueued>>, NotEnqueued> {
        let tasks: Vec<Task> = tasks.into_iter().map(Enqueue::into_task).collect();
        self.0.services.enqueue(tasks).await
    }

    /// Writes how far this attempt is, from 0 to 1, into the log of the run.
    pub fn progress(&self, done: f64, note: &str) {
        let percent = (done.clamp(0.0, 1.0) * 100.0).round();
        self.log().push("progress", &format!("{percent}% {note}"));
    }

    /// Says that this attempt makes progress. Needed only where the handler has a
    /// [limit for silence](crate::HandlerOptions::silence); a line in the log of the run does the same. The lease needs no
    /// heartbeat of the handler, the worker extends it.
    pub fn heartbeat(&self) {
        self.log().heartbeat();
    }

    /// Waits until this attempt must stop, and returns why. Handlers with long waits select on this; a handler that does not is
    /// dropped after a while.
    pub fn cancelled(&self) -> impl Future<Output = StopReason> + Send + 'static {
        self.0.stop.stopped()
    }

    /// Whether this attempt must stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.stop.is_stopped()
    }

    /// Why this attempt must stop; `None` while it may continue.
    #[must_use]
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.0.stop.reason()
    }

    /// How long this attempt may continue unless its lease is extended, kept up to date. For handlers whose work is done by
    /// another process, which must end by itself if this one is frozen.
    #[must_use]
    pub fn held(&self) -> watch::Receiver<Option<LeaseLimits>> {
        self.0.stop.held()
    }

    /// The log of this run, shown with the attempt. Bounded, see [`RunLog`].
    #[must_use]
    pub fn log(&self) -> &RunLog {
        &self.0.log
    }

    /// Stores `result` as the task's result so far: it stays with the task however the attempt ends, unless the handler returns
    /// another one. The last call counts; the limit is that of a returned result (1 MiB).
    pub fn keep_result(&self, result: impl Into<Bytes>) {
        *self.0.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result.into());
    }

    /// The last stored result, for the worker.
    #[must_use]
    pub fn take_result(&self) -> Option<Bytes> {
        self.0.result.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The shared value of type `T`, if the registry was given one.
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.states.get()
    }
}
