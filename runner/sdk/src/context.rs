//! The context of a handler: everything it may know about its task.
//!
//! The handler's result decides how the task ends. The only way to the broker is to enqueue further tasks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use runner_core::task::{Enqueue, QueueName, Task, TaskId, TraceContext};
use tokio::sync::watch;

use crate::side_results::SideResults;
use crate::{
    Artifact, Callback, LeaseLimits, NotEnqueued, Progress, RunLog, Services, States, Stop, StopReason, TypedTasks,
};

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
    /// Made by the first use: most runs have none.
    side: Mutex<Option<Box<SideResults>>>,
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
            side: Mutex::default(),
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

    /// The trace that this attempt belongs to, and its span in it: from the header `traceparent`, which names the span of this
    /// attempt. Tasks that it enqueues belong to the same trace. `None` if the task was enqueued outside of any.
    #[must_use]
    pub fn trace(&self) -> Option<TraceContext> {
        TraceContext::of(self.headers())
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
        let mut task = task.into_task();
        task.inherit_trace(self.headers());
        let answers = self.0.services.enqueue(vec![task]).await?;
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
        let mut tasks: Vec<Task> = tasks.into_iter().map(Enqueue::into_task).collect();
        for task in &mut tasks {
            task.inherit_trace(self.headers());
        }
        self.0.services.enqueue(tasks).await
    }

    /// Lets the work go on elsewhere: who does it gets the token and reports its end, and this attempt waits for that with
    /// [`Callback::reported`]. The token is valid for as long as the attempt may take.
    ///
    /// # Errors
    ///
    /// [`NotEnqueued::Unavailable`] if the broker could not be asked.
    pub async fn await_report(&self) -> Result<Callback, NotEnqueued> {
        const WITHOUT_LIMIT: Duration = Duration::from_secs(24 * 3600);
        /// The clock of the store may be ahead of this one.
        const SPARE: Duration = Duration::from_secs(60);
        let valid = self.time_limit().unwrap_or(WITHOUT_LIMIT) + SPARE;
        let token = self.0.services.await_report(self.queue(), self.id(), valid).await?;
        Ok(Callback::new(token, self.0.services.clone()))
    }

    /// States how far this attempt is, from 0 to 1: shown while it runs, and written into the log of the run.
    pub fn progress(&self, done: f64, note: &str) {
        let done = done.clamp(0.0, 1.0);
        self.log()
            .push("progress", format!("{}% {note}", (done * 100.0).round()).trim_end());
        let note = note.to_owned();
        self.with_side(|side| side.progress = Some(Progress { done, note }));
    }

    /// The last stated progress.
    #[must_use]
    pub fn last_progress(&self) -> Option<Progress> {
        let side = self.0.side.lock().unwrap_or_else(PoisonError::into_inner);
        side.as_ref().and_then(|side| side.progress.clone())
    }

    /// Leaves a file with the run: kept for a week, offered for download, at most [`MAX_ARTIFACTS`](crate::MAX_ARTIFACTS) files
    /// and [`MAX_ARTIFACT_BYTES`](crate::MAX_ARTIFACT_BYTES) in all. Returns whether there was room.
    pub fn keep_artifact(&self, name: impl Into<String>, content: impl Into<Bytes>) -> bool {
        let (name, content) = (name.into(), content.into());
        self.with_side(|side| side.add(Artifact { name, content }))
    }

    /// Whether any file was left so far.
    #[must_use]
    pub fn has_artifacts(&self) -> bool {
        let side = self.0.side.lock().unwrap_or_else(PoisonError::into_inner);
        side.as_ref().is_some_and(|side| !side.artifacts.is_empty())
    }

    /// The files left so far, for the worker.
    #[must_use]
    pub fn take_artifacts(&self) -> Vec<Artifact> {
        let mut side = self.0.side.lock().unwrap_or_else(PoisonError::into_inner);
        side.as_mut()
            .map_or_else(Vec::new, |side| std::mem::take(&mut side.artifacts))
    }

    fn with_side<T>(&self, change: impl FnOnce(&mut SideResults) -> T) -> T {
        let mut side = self.0.side.lock().unwrap_or_else(PoisonError::into_inner);
        change(side.get_or_insert_default())
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

    /// Whether both are the context of one attempt.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// A task of the type with this name, with the options of its `TaskType` if a handler of this program has one
    /// ([`Registry::on_task`](crate::Registry::on_task)): for a name that is not known when the program is written.
    #[must_use]
    pub fn new_task(&self, kind: &str) -> Task {
        match self.state::<TypedTasks>() {
            Some(typed) => typed.new_task(kind),
            None => Task::new(kind),
        }
    }

    /// The shared value of type `T`, if the registry was given one.
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.states.get()
    }
}
