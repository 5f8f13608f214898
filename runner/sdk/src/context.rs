//! What a handler may know of the task that it runs.
//!
//! Read only, and without a way back to the broker: how the task ends is said by the handler's result.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use runner_core::task::{QueueName, TaskId};
use tokio::sync::watch;

use crate::{LeaseLimits, RunLog, States, Stop, StopReason};

/// The facts of one attempt, as the worker states them.
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
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// How many attempts there are at most: retries allowed, plus one.
    pub max_attempts: u32,
    /// Key-value pairs that the producer sent along.
    pub headers: BTreeMap<String, String>,
    /// The instant at which this attempt is stopped.
    pub deadline: Option<Timestamp>,
    /// How long this attempt may take, counted from its start.
    pub time_limit: Option<Duration>,
}

#[derive(Debug)]
struct Inner {
    parts: CtxParts,
    stop: Stop,
    states: Arc<States>,
    log: RunLog,
    result: Mutex<Option<Bytes>>,
}

/// What a handler may know of its task. A clone is one atomic increment.
#[derive(Debug, Clone)]
pub struct Ctx(Arc<Inner>);

impl Ctx {
    /// The context of one attempt. `stop` is the switch that the worker throws to end it early.
    #[must_use]
    pub fn new(parts: CtxParts, stop: Stop, states: Arc<States>) -> Self {
        Self(Arc::new(Inner {
            parts,
            stop,
            states,
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

    /// Which attempt this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.parts.attempt
    }

    /// How many attempts there are at most.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.0.parts.max_attempts
    }

    /// Key-value pairs that the producer sent along.
    #[must_use]
    pub fn headers(&self) -> &BTreeMap<String, String> {
        &self.0.parts.headers
    }

    /// The instant at which this attempt is stopped.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.0.parts.deadline
    }

    /// How long this attempt may take, counted from its start.
    #[must_use]
    pub fn time_limit(&self) -> Option<Duration> {
        self.0.parts.time_limit
    }

    /// Waits until this attempt is to stop, and says why. A handler that waits for something long selects on
    /// this; one that does not is dropped after a while.
    pub fn cancelled(&self) -> impl Future<Output = StopReason> + Send + 'static {
        self.0.stop.stopped()
    }

    /// Whether this attempt is to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.stop.is_stopped()
    }

    /// Why this attempt is to stop; nothing while it may go on.
    #[must_use]
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.0.stop.reason()
    }

    /// How long this attempt may go on if nothing more is heard of its lease, kept up to date. For handlers whose work is
    /// done by another process: that must end by itself when this one is frozen.
    #[must_use]
    pub fn held(&self) -> watch::Receiver<Option<LeaseLimits>> {
        self.0.stop.held()
    }

    /// What this run wrote; shown with the attempt. Bounded, see [`RunLog`].
    #[must_use]
    pub fn log(&self) -> &RunLog {
        &self.0.log
    }

    /// Keeps `result` as what this task has returned so far: it stays with the task whatever becomes of the attempt, unless
    /// the handler returns another one. The last call counts; as long as a returned result may be (1 MiB).
    pub fn keep_result(&self, result: impl Into<Bytes>) {
        *self.0.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result.into());
    }

    /// What was kept last, for the worker.
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
