//! A file that cannot be written for longer than a lease: which worker keeps its tasks, and which one stops them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use runner_core::clock::{Clock as _, SystemClock};
use runner_core::function::Functions;
use runner_core::task::{Task, TaskId, TaskState};
use runner_queue::{Broker, Presence as _};
use runner_sdk::{Ctx, Outcome, Registry};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::tests::Scene;
use super::{Instance, SHORTEST_LEASE, Worker, WorkerParts, WorkerSettings};
use crate::health::Health;

/// The limit of every wait here: outages of some seconds, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A handler that waits for a signal, and how often it began and was stopped.
struct Long {
    go: watch::Sender<bool>,
    begun: Arc<AtomicUsize>,
    stopped: Arc<AtomicUsize>,
}

impl Long {
    fn new() -> Self {
        Self {
            go: watch::Sender::new(false),
            begun: Arc::default(),
            stopped: Arc::default(),
        }
    }

    fn registry(&self) -> Registry {
        let (go, begun, stopped) = (self.go.clone(), self.begun.clone(), self.stopped.clone());
        Registry::new().on("long", move |cx: Ctx| {
            let (mut go, begun, stopped) = (go.subscribe(), begun.clone(), stopped.clone());
            async move {
                begun.fetch_add(1, Ordering::SeqCst);
                tokio::select! {
                    _ = go.wait_for(|go| *go) => Outcome::success("done"),
                    _ = cx.cancelled() => {
                        stopped.fetch_add(1, Ordering::SeqCst);
                        Outcome::Retry("stopped".into())
                    }
                }
            }
        })
    }

    fn seen(&self) -> (usize, usize) {
        (self.begun.load(Ordering::SeqCst), self.stopped.load(Ordering::SeqCst))
    }
}

fn worker(scene: &Scene, broker: Arc<dyn Broker>, long: &Long) -> Worker {
    let settings = WorkerSettings {
        lease: SHORTEST_LEASE,
        ..Scene::settings(2)
    };
    let handlers = long.registry().build().unwrap();
    let (clock, metrics) = (Arc::new(SystemClock), scene.metrics.clone());
    let health = Arc::new(Health::new(clock.clone(), metrics.clone()));
    Worker::start(WorkerParts {
        broker,
        handlers,
        functions: Functions::default(),
        clock,
        metrics,
        health,
        events: Default::default(),
        telemetry: Default::default(),
        workflows: crate::workflow::SettledSteps::default(),
        before_run: None,
        settings,
        instance: Instance::named("here"),
    })
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = tokio::time::Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        #[allow(clippy::disallowed_methods)] // between two looks
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the lease of the task is over, and its grace, and what another worker would need besides.
async fn long_after_the_lease(scene: &Scene, id: &TaskId) {
    let end = scene.look(id).await.unwrap().lease_until.unwrap();
    let enough = jiff::SignedDuration::from_secs(3);
    until("the lease is over", async || SystemClock.now() > end + enough).await;
}

/// A running one, in a file that another process has locked from now on.
async fn begun_and_locked(scene: &Scene, long: &Long) -> (TaskId, sqlx::SqliteConnection) {
    let id = scene.put(Task::new("long").retention(Duration::from_secs(60))).await;
    until("it has begun", async || long.seen().0 == 1).await;
    // A neighbour that has just ended is still listed for a while, and the first heartbeat of this one is on its way.
    until("the worker is listed", async || {
        !scene.broker.servers().await.unwrap().is_empty()
    })
    .await;
    (id, scene.sql("BEGIN IMMEDIATE").await)
}

async fn unlock(mut lock: sqlx::SqliteConnection) {
    sqlx::raw_sql("COMMIT").execute(&mut lock).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_alone_keeps_its_tasks_while_nothing_can_be_written() {
    let (scene, long) = (Scene::new().await, Long::new());
    let only = worker(&scene, scene.broker.clone(), &long);
    let (id, lock) = begun_and_locked(&scene, &long).await;
    long_after_the_lease(&scene, &id).await;
    // It ends while nothing can be written, and is settled later.
    long.go.send_replace(true);
    let ended = SystemClock.now() + jiff::SignedDuration::from_secs(2);
    until("the verdict has waited", async || SystemClock.now() > ended).await;
    unlock(lock).await;
    let info = scene.until_state(&id, TaskState::Completed).await;
    assert_eq!((long.seen(), info.record.retried), ((1, 0), 0));
    only.drain(CancellationToken::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_comes_while_nothing_can_be_written_takes_nothing() {
    let (scene, long) = (Scene::new().await, Long::new());
    let first = worker(&scene, scene.broker.clone(), &long);
    let (id, lock) = begun_and_locked(&scene, &long).await;
    let second = worker(&scene, scene.opened_again().await, &long);
    long_after_the_lease(&scene, &id).await;
    unlock(lock).await;
    until("both are listed", async || {
        scene.broker.servers().await.unwrap().len() == 2
    })
    .await;
    // Long enough for the second one to look for lost leases.
    long_after_the_lease(&scene, &id).await;
    assert_eq!(long.seen(), (1, 0));
    long.go.send_replace(true);
    let info = scene.until_state(&id, TaskState::Completed).await;
    assert_eq!((long.seen(), info.record.retried), ((1, 0), 0));
    first.drain(CancellationToken::new()).await;
    second.drain(CancellationToken::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_workers_each_stops_its_tasks_before_the_other_may_take_them() {
    let (scene, long) = (Scene::new().await, Long::new());
    let first = worker(&scene, scene.broker.clone(), &long);
    let second = worker(&scene, scene.opened_again().await, &long);
    until("both are listed", async || {
        scene.broker.servers().await.unwrap().len() == 2
    })
    .await;
    let (id, lock) = begun_and_locked(&scene, &long).await;
    until("the handler is stopped", async || long.seen() == (1, 1)).await;
    let info = scene.look(&id).await.unwrap();
    assert_eq!((info.state, info.record.retried), (TaskState::Active, 0));
    assert!(SystemClock.now() < info.lease_until.unwrap() + jiff::SignedDuration::from_secs(1));
    unlock(lock).await;
    long.go.send_replace(true);
    let info = scene.until_state(&id, TaskState::Completed).await;
    assert_eq!((long.seen(), info.record.retried), ((2, 1), 1));
    first.drain(CancellationToken::new()).await;
    second.drain(CancellationToken::new()).await;
}
