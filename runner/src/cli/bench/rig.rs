//! What every measurement works with: the broker, a queue of its own, a worker whose handler only counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use runner_core::clock::Clock;
use runner_core::task::{QueueName, Task};
use runner_queue::{Broker, Ceiling, GroupRule};
use runner_sdk::{Ctx, Handlers, Registry};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::worker::{self, Worker};

/// Tasks in one call of the client.
const BATCH: usize = 256;

/// Calls of the client under way at once.
const PRODUCERS: usize = 4;

/// No measurement waits longer than this for a task that does not come.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

/// How long a worker may take to end; its handlers take no time at all.
const ENDING: Duration = Duration::from_secs(10);

/// The task type that the measurements' handlers are registered for.
pub(super) const KIND: &str = "bench:noop";

/// What is measured, and with what.
pub(super) struct Bench {
    pub(super) broker: Arc<dyn Broker>,
    /// The store behind the broker, working on a queue of its own.
    pub(super) store: Box<dyn Ceiling>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) queue: QueueName,
    pub(super) tasks: usize,
    pub(super) concurrency: usize,
    pub(super) payload: usize,
}

/// What the handler saw.
#[derive(Default)]
pub(super) struct Seen {
    count: AtomicUsize,
    target: AtomicUsize,
    reached: Notify,
    started: Mutex<Vec<Instant>>,
}

impl Bench {
    /// Puts so many tasks on the queue: batches, from several callers of one process.
    pub(super) async fn fill(&self, tasks: usize) -> anyhow::Result<()> {
        let next = Arc::new(AtomicUsize::new(0));
        let producers = (0..PRODUCERS).map(|_| {
            let (broker, next, task) = (self.broker.clone(), next.clone(), self.task());
            tokio::spawn(async move {
                loop {
                    let from = next.fetch_add(BATCH, Ordering::Relaxed);
                    if from >= tasks {
                        return anyhow::Ok(());
                    }
                    put(broker.as_ref(), &vec![task.clone(); BATCH.min(tasks - from)]).await?;
                }
            })
        });
        for producer in producers.collect::<Vec<_>>() {
            producer.await.context("a producer")??;
        }
        Ok(())
    }

    /// Starts a worker, and returns once `tasks` of its tasks have been handled.
    pub(super) async fn work_off(&self, tasks: usize) -> anyhow::Result<Worker> {
        let seen = Arc::new(Seen::for_tasks(tasks));
        let worker = self.counting_worker(&seen)?;
        seen.wait().await?;
        Ok(worker)
    }

    /// A task that the counting handler takes.
    pub(super) fn task(&self) -> Task {
        task_for(&self.queue, self.payload)
    }

    /// How many tasks the queue has.
    pub(super) async fn waiting(&self) -> anyhow::Result<usize> {
        let queues = self.broker.queues().await?;
        let ours = queues
            .iter()
            .find(|q| q.name == self.queue)
            .context("the queue is not listed")?;
        Ok(usize::try_from(ours.size()).unwrap_or(usize::MAX))
    }

    /// A worker whose handler does nothing but tell `seen`.
    pub(super) fn counting_worker(&self, seen: &Arc<Seen>) -> anyhow::Result<Worker> {
        let seen = seen.clone();
        let handlers = Registry::new()
            .on(KIND, move |_: Ctx| {
                seen.note();
                std::future::ready(())
            })
            .build()?;
        Ok(self.worker(handlers, [(self.queue.clone(), 1)].into()))
    }

    /// A worker with these handlers on these queues.
    pub(super) fn worker(&self, handlers: Handlers, queues: BTreeMap<QueueName, u32>) -> Worker {
        let settings = worker::Settings {
            concurrency: self.concurrency,
            queues,
            strict_priority: false,
            groups: GroupRule::default(),
            shutdown_timeout: ENDING,
            host: "bench".to_owned(),
            pid: std::process::id(),
            id: uuid::Uuid::new_v4().to_string(),
            lease: worker::DEFAULT_LEASE,
            archive: runner_queue::ArchiveBounds::default(),
            poison_after: 3,
        };
        let metrics = Arc::new(Metrics::default());
        Worker::start(self.broker.clone(), handlers, self.clock.clone(), metrics, settings)
    }
}

/// A task of the measured type.
pub(super) fn task_for(queue: &QueueName, payload: usize) -> Task {
    Task::new(KIND).queue(queue.clone()).payload(vec![b'x'; payload])
}

impl Seen {
    /// Waits for so many tasks.
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
pub(super) async fn put(broker: &dyn Broker, tasks: &[Task]) -> anyhow::Result<()> {
    for answer in broker.enqueue(tasks).await? {
        if let Err(refusal) = answer {
            bail!("a task was refused: {refusal}");
        }
    }
    Ok(())
}
