//! What every measurement works with: the broker, a queue of its own, a worker whose handler only counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use runner_core::clock::Clock;
use runner_core::function::Functions;
use runner_core::task::{QueueName, Task};
use runner_queue::{Broker, Producer};
use runner_sdk::{Ctx, Handlers, Registry};
use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::bare_store::BareStore;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::worker::{self, Worker, WorkerParts};

/// Tasks in one call of the client.
pub(super) const BATCH: usize = 256;

/// Calls of the client under way at once.
const PRODUCERS: usize = 4;

/// The longest wait of a measurement for the next task.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

/// How long a worker may take to end; its handlers take no time at all.
const ENDING: Duration = Duration::from_secs(10);

/// The task type that the measurements' handlers are registered for.
pub(super) const KIND: &str = "bench:noop";

/// What is measured, and with what.
pub(super) struct Bench {
    pub(super) broker: Arc<dyn Broker>,
    /// The same store through a second broker, which the first one sees as another program.
    pub(super) other: Arc<dyn Broker>,
    /// What the rates are compared with, working on a queue of its own.
    pub(super) bare: Option<BareStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) queue: QueueName,
    pub(super) tasks: usize,
    pub(super) concurrency: usize,
    pub(super) payload: usize,
    /// Additional types that the worker knows.
    pub(super) types: usize,
    /// The worker of the measurement under way, here so that it can be ended when the measurement is cut short.
    pub(super) worker: AsyncMutex<Option<Worker>>,
}

/// What the handler saw.
#[derive(Default)]
pub(super) struct Observed {
    count: AtomicUsize,
    target: AtomicUsize,
    reached: Notify,
    started: Mutex<Vec<Instant>>,
}

impl Bench {
    /// Puts this many tasks on the queue: batches, from several callers of one process.
    pub(super) async fn fill(&self, tasks: usize) -> anyhow::Result<()> {
        let next = Arc::new(AtomicUsize::new(0));
        let mut producers = JoinSet::new();
        for _ in 0..PRODUCERS {
            let (broker, next, task) = (self.broker.clone(), next.clone(), self.task());
            producers.spawn(async move {
                loop {
                    let from = next.fetch_add(BATCH, Ordering::Relaxed);
                    if from >= tasks {
                        return anyhow::Ok(());
                    }
                    put(&*broker, &vec![task.clone(); BATCH.min(tasks - from)]).await?;
                }
            });
        }
        while let Some(producer) = producers.join_next().await {
            producer.context("a producer")??;
        }
        Ok(())
    }

    /// Starts a worker, and returns once `tasks` of its tasks have been handled and settled.
    pub(super) async fn drain(&self, tasks: usize) -> anyhow::Result<()> {
        let seen = Arc::new(Observed::for_tasks(tasks));
        self.count_with(&seen).await?;
        self.drained(&seen).await
    }

    /// Returns once as many tasks as expected began, and the store has accepted the verdict of each.
    pub(super) async fn drained(&self, seen: &Observed) -> anyhow::Result<()> {
        seen.wait().await?;
        if let Some(worker) = self.worker.lock().await.as_ref() {
            let settled = tokio::time::timeout(PATIENCE, worker.at_rest()).await;
            settled.context("verdicts were not accepted in time")?;
        }
        Ok(())
    }

    /// A task that the counting handler takes.
    pub(super) fn task(&self) -> Task {
        task_for(&self.queue, self.payload)
    }

    /// How many tasks the queue has.
    pub(super) async fn waiting(&self) -> anyhow::Result<usize> {
        let queues = self.broker.queues_of(std::slice::from_ref(&self.queue)).await?;
        let ours = queues.first().context("the queue is not listed")?;
        Ok(usize::try_from(ours.size()).unwrap_or(usize::MAX))
    }

    /// Starts a worker whose handler only counts in `seen`.
    pub(super) async fn count_with(&self, seen: &Arc<Observed>) -> anyhow::Result<()> {
        let seen = seen.clone();
        let registry = Registry::new().on(KIND, move |_: Ctx| {
            seen.note();
            std::future::ready(())
        });
        let others = (0..self.types).map(|number| format!("{KIND}-{number}"));
        let handlers = others.fold(registry, |all, kind| all.on(&kind, async || ())).build()?;
        self.start(handlers, [(self.queue.clone(), 1)].into()).await;
        Ok(())
    }

    /// Starts a worker with these handlers on these queues; the one before it must have been ended.
    pub(super) async fn start(&self, handlers: Handlers, queues: BTreeMap<QueueName, u32>) {
        let settings = worker::WorkerSettings {
            concurrency: self.concurrency,
            queues,
            shutdown_timeout: ENDING,
            ..worker::WorkerSettings::default()
        };
        let metrics = Arc::new(Metrics::default());
        let health = Arc::new(Health::new(self.clock.clone(), metrics.clone()));
        let worker = Worker::start(WorkerParts {
            broker: self.broker.clone(),
            handlers,
            functions: Functions::default(),
            clock: self.clock.clone(),
            metrics,
            health,
            events: Default::default(),
            telemetry: Default::default(),
            workflows: crate::workflow::SettledSteps::default(),
            before_run: None,
            settings,
            instance: worker::Instance::named("bench"),
        });
        *self.worker.lock().await = Some(worker);
    }

    /// Ends the worker, if there is one.
    pub(super) async fn end(&self) {
        let worker = self.worker.lock().await.take();
        if let Some(worker) = worker {
            worker.drain(CancellationToken::new()).await;
        }
    }
}

/// A task of the measured type.
pub(super) fn task_for(queue: &QueueName, payload: usize) -> Task {
    Task::new(KIND).queue(queue.clone()).payload(vec![b'x'; payload])
}

impl Observed {
    /// Waits for this many tasks.
    pub(super) fn for_tasks(tasks: usize) -> Self {
        let seen = Self::default();
        seen.target.store(tasks, Ordering::Relaxed);
        seen
    }

    /// Waits for `tasks` in all, those seen before included.
    pub(super) fn expect(&self, tasks: usize) {
        self.target.store(tasks, Ordering::Relaxed);
    }

    /// A task began.
    pub(super) fn note(&self) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if count == self.target.load(Ordering::Relaxed) {
            self.started
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Instant::now());
            self.reached.notify_one();
        }
    }

    /// When the last of the expected tasks began.
    pub(super) async fn wait(&self) -> anyhow::Result<Instant> {
        if self.target.load(Ordering::Relaxed) == 0 {
            return Ok(Instant::now());
        }
        tokio::time::timeout(PATIENCE, self.reached.notified())
            .await
            .context("tasks did not come back in time")?;
        let started = self.started.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Ok(started.unwrap_or_else(Instant::now))
    }
}

/// Enqueues; a refusal is an error.
pub(super) async fn put(broker: &dyn Producer, tasks: &[Task]) -> anyhow::Result<()> {
    for answer in broker.enqueue(tasks).await? {
        if let Err(refusal) = answer {
            bail!("a task was refused: {refusal}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use runner_core::clock::SystemClock;
    use runner_queue::embedded::EmbeddedBroker;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_queue_is_drained_when_the_last_verdict_is_in_the_store() {
        let directory = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let broker = EmbeddedBroker::open(directory.path().join("q.db"), clock.clone()).await;
        let broker = Arc::new(broker.unwrap());
        let queue = QueueName::default();
        let bench = Bench {
            other: broker.clone(),
            broker,
            bare: None,
            clock,
            queue,
            types: 0,
            tasks: 300,
            concurrency: 64,
            payload: 1,
            worker: AsyncMutex::default(),
        };
        for _ in 0..5 {
            bench.fill(bench.tasks).await.unwrap();
            assert_eq!(bench.waiting().await.unwrap(), bench.tasks);
            bench.drain(bench.tasks).await.unwrap();
            assert_eq!(bench.waiting().await.unwrap(), 0, "none waits, none is active");
            bench.end().await;
        }
    }
}
