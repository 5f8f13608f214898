//! The measurements themselves: the client's `enqueue`, the program's own worker, a handler that only counts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use runner_core::clock::Clock;
use runner_core::task::{QueueName, Task};
use runner_queue::{Broker, GroupRule};
use runner_sdk::{Ctx, Handlers, Registry};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::worker::{self, Worker};

/// Tasks in one call of the client.
const BATCH: usize = 256;

/// Calls of the client under way at once.
const PRODUCERS: usize = 4;

/// Distance of two tasks when latency is measured.
const PACE: Duration = Duration::from_millis(10);

/// No measurement waits longer than this for a task that does not come.
const PATIENCE: Duration = Duration::from_secs(600);

const KIND: &str = "bench:noop";

/// One measured value.
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) value: f64,
    pub(super) unit: &'static str,
}

/// What is measured, and with what.
pub(super) struct Bench {
    pub(super) broker: Arc<dyn Broker>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) queue: QueueName,
    pub(super) tasks: usize,
    pub(super) concurrency: usize,
    pub(super) payload: usize,
}

/// What the handler saw.
#[derive(Default)]
struct Seen {
    count: AtomicUsize,
    target: AtomicUsize,
    reached: Notify,
    started: Mutex<Vec<Instant>>,
}

impl Bench {
    /// Batches from several callers of one process.
    pub(super) async fn enqueue_batches(&self) -> anyhow::Result<Figure> {
        let next = Arc::new(AtomicUsize::new(0));
        let begun = Instant::now();
        let producers = (0..PRODUCERS).map(|_| {
            let (broker, next, task, tasks) = (self.broker.clone(), next.clone(), self.task(), self.tasks);
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
        Ok(rate("enqueue, batches of 256", self.tasks, begun.elapsed()))
    }

    /// One call after the other, a twentieth of the tasks.
    pub(super) async fn enqueue_singly(&self) -> anyhow::Result<Figure> {
        let tasks = (self.tasks / 20).max(1);
        let task = [self.task()];
        let begun = Instant::now();
        for _ in 0..tasks {
            put(self.broker.as_ref(), &task).await?;
        }
        Ok(rate("enqueue, one by one", tasks, begun.elapsed()))
    }

    /// From the worker's start until every waiting task has been handled.
    pub(super) async fn drain(&self) -> anyhow::Result<Figure> {
        let waiting = self.waiting().await?;
        let seen = Arc::new(Seen::default());
        seen.target.store(waiting, Ordering::Relaxed);
        let begun = Instant::now();
        let worker = self.worker(&seen)?;
        seen.wait().await?;
        let took = begun.elapsed();
        worker.drain(CancellationToken::new()).await;
        Ok(rate("drain", waiting, took))
    }

    /// From just before the enqueue to the handler's start, one task at a time.
    pub(super) async fn latency(&self) -> anyhow::Result<Vec<Figure>> {
        let tasks = (self.tasks / 100).max(20);
        let seen = Arc::new(Seen::default());
        let worker = self.worker(&seen)?;
        let mut waits = Vec::with_capacity(tasks);
        let task = [self.task()];
        for n in 1..=tasks {
            seen.target.store(n, Ordering::Relaxed);
            let begun = Instant::now();
            put(self.broker.as_ref(), &task).await?;
            seen.wait().await?;
            let started = seen.started.lock().unwrap_or_else(PoisonError::into_inner).pop();
            waits.push(started.map_or(Duration::ZERO, |s| s.duration_since(begun)));
            #[allow(clippy::disallowed_methods)] // the pace of the measurement
            tokio::time::sleep(PACE.saturating_sub(begun.elapsed())).await;
        }
        worker.drain(CancellationToken::new()).await;
        waits.sort_unstable();
        let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
        Ok(vec![
            Figure {
                name: "pick-up latency, p50",
                value: at(0.5),
                unit: "ms",
            },
            Figure {
                name: "pick-up latency, p99",
                value: at(0.99),
                unit: "ms",
            },
        ])
    }

    /// Enqueue and run at the same time, until all have run.
    pub(super) async fn steady(&self) -> anyhow::Result<Figure> {
        let seen = Arc::new(Seen::default());
        seen.target.store(self.tasks, Ordering::Relaxed);
        let worker = self.worker(&seen)?;
        let begun = Instant::now();
        self.enqueue_batches().await?;
        seen.wait().await?;
        let took = begun.elapsed();
        worker.drain(CancellationToken::new()).await;
        Ok(rate("steady, enqueue and run", self.tasks, took))
    }

    fn task(&self) -> Task {
        Task::new(KIND)
            .queue(self.queue.clone())
            .payload(vec![b'x'; self.payload])
    }

    async fn waiting(&self) -> anyhow::Result<usize> {
        let queues = self.broker.queues().await?;
        let ours = queues
            .iter()
            .find(|q| q.name == self.queue)
            .context("the queue is not listed")?;
        Ok(usize::try_from(ours.size()).unwrap_or(usize::MAX))
    }

    fn worker(&self, seen: &Arc<Seen>) -> anyhow::Result<Worker> {
        let seen = seen.clone();
        let handlers: Handlers = Registry::new()
            .on(KIND, move |_: Ctx| {
                seen.note();
                std::future::ready(())
            })
            .build()?;
        let settings = worker::Settings {
            concurrency: self.concurrency,
            queues: [(self.queue.clone(), 1)].into(),
            strict_priority: false,
            shutdown_timeout: Duration::from_secs(10),
            lease: worker::DEFAULT_LEASE,
            poison_after: 3,
            groups: GroupRule::default(),
            host: "bench".to_owned(),
            pid: std::process::id(),
            id: uuid::Uuid::new_v4().to_string(),
        };
        Ok(Worker::start(
            self.broker.clone(),
            handlers,
            self.clock.clone(),
            Arc::new(Metrics::default()),
            settings,
        ))
    }
}

impl Seen {
    fn note(&self) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if count == self.target.load(Ordering::Relaxed) {
            self.started
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Instant::now());
            self.reached.notify_one();
        }
    }

    async fn wait(&self) -> anyhow::Result<()> {
        if self.target.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        tokio::time::timeout(PATIENCE, self.reached.notified())
            .await
            .context("tasks did not come back in time")
    }
}

async fn put(broker: &dyn Broker, tasks: &[Task]) -> anyhow::Result<()> {
    for answer in broker.enqueue(tasks).await? {
        if let Err(refusal) = answer {
            bail!("a task was refused: {refusal}");
        }
    }
    Ok(())
}

fn rate(name: &'static str, tasks: usize, took: Duration) -> Figure {
    Figure {
        name,
        value: tasks as f64 / took.as_secs_f64().max(1e-9),
        unit: "tasks/s",
    }
}
