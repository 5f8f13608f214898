//! Options of one handler, for every task that it runs in this process. Those of the task itself are its producer's.

use std::sync::Arc;
use std::time::Duration;

use runner_core::limit::TaskLimit;
use tokio::sync::Semaphore;

use crate::matched::{Call, HandlerMatch};
use crate::middleware::{self, HandlerLayer, Wrap};
use crate::{Backoff, TaskError};

/// Options of one handler: the argument of [`Registry::with`](crate::Registry::with).
#[derive(Default)]
pub struct HandlerOptions {
    timeout: Option<Duration>,
    silence: Option<Duration>,
    concurrency: Option<usize>,
    backoff: Option<Backoff>,
    layers: Vec<Wrap>,
    limits: Vec<TaskLimit>,
}

impl HandlerOptions {
    /// No attempt may take longer, whatever the task allows.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// An attempt that gives no sign of life for this long is stopped and retried: for work that hangs instead of failing,
    /// and is too long for a short [`timeout`](Self::timeout). Signs are [`Ctx::heartbeat`](crate::Ctx::heartbeat),
    /// [`Ctx::progress`](crate::Ctx::progress) and lines in the log of the run.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use runner_sdk::{Ctx, Registry};
    /// async fn import(cx: Ctx) {
    ///     for _batch in 0..1_000 {
    ///         cx.heartbeat();
    ///     }
    /// }
    /// let registry = Registry::new()
    ///     .on("import", import)
    ///     .with(|import| import.silence(Duration::from_secs(60)).timeout(Duration::from_secs(6 * 3600)));
    /// # assert!(registry.build().is_ok());
    /// ```
    #[must_use]
    pub fn silence(mut self, limit: Duration) -> Self {
        self.silence = Some(limit);
        self
    }

    /// At most this many run at once in this process; at least one. A further one waits in its place among the tasks of the
    /// worker, and its time limit runs: give a type of which many wait a queue and a worker of its own.
    #[must_use]
    pub fn concurrency(mut self, tasks: usize) -> Self {
        self.concurrency = Some(tasks.clamp(1, Semaphore::MAX_PERMITS));
        self
    }

    /// A limit that holds over all processes that share the broker: how many of its tasks run at a time, how many start in a time,
    /// or in which order. Decided when a task is claimed: one that has to wait takes up no place in a worker. One of each rule; a
    /// second one of the same rule is ignored.
    ///
    /// ```
    /// # use runner_sdk::Registry;
    /// use runner_sdk::{LimitKey, LimitRule, TaskLimit};
    ///
    /// # async fn import() {}
    /// let each_tenant = TaskLimit {
    ///     key: Some(LimitKey::new("payload.tenant")?),
    ///     ..TaskLimit::new(LimitRule::Concurrency(3))
    /// };
    /// let registry = Registry::new().on("import", import).with(|import| import.limit(each_tenant));
    /// # assert!(registry.build().is_ok());
    /// # Ok::<_, runner_sdk::LimitKeyError>(())
    /// ```
    #[must_use]
    pub fn limit(mut self, limit: TaskLimit) -> Self {
        self.limits.push(limit);
        self
    }

    pub(crate) fn take_limits(&mut self) -> Vec<TaskLimit> {
        std::mem::take(&mut self.limits)
    }

    /// The retry delays after failures that state none; the default is asynq's. How often a task is retried is an option of the
    /// task: `#[task(retry = 3)]`, `Task::retry`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use runner_sdk::Registry;
    /// use runner_sdk::Backoff;
    ///
    /// # async fn import() {}
    /// let registry = Registry::new()
    ///     .on("import", import)
    ///     .with(|import| import.backoff(Backoff::exponential(Duration::from_secs(5), Duration::from_secs(600))));
    /// # assert!(registry.build().is_ok());
    /// ```
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// Puts a layer of tower around this handler, inside those of the whole registry. The one that is added last is the
    /// outermost.
    #[must_use]
    pub fn layer<L: HandlerLayer>(mut self, layer: L) -> Self {
        self.layers.push(middleware::wrap(layer));
        self
    }

    pub(crate) fn apply(self, found: &mut HandlerMatch) {
        let inner = Arc::clone(&found.call);
        let layered = self.layers.iter().fold(inner, |call, wrap| wrap(call));
        found.call = match self.concurrency {
            Some(tasks) => limited(layered, tasks),
            None => layered,
        };
        found.timeout = self.timeout.or(found.timeout);
        found.silence = self.silence.or(found.silence);
        found.backoff = self.backoff.unwrap_or(found.backoff);
    }
}

/// The same handler, for this many tasks at once.
fn limited(call: Call, tasks: usize) -> Call {
    let places = Arc::new(Semaphore::new(tasks));
    Arc::new(move |cx| {
        let (places, call) = (Arc::clone(&places), Arc::clone(&call));
        Box::pin(async move {
            let stopped = cx.cancelled();
            tokio::select! {
                place = places.acquire() => {
                    let outcome = call(cx).await;
                    drop(place);
                    outcome
                }
                reason = stopped => TaskError::retry(format!("{reason} while it waited for its turn")).into_outcome(),
            }
        })
    })
}
