//! The worker against the embedded broker: which state each result leads to.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicUsize, Ordering};

use runner_core::clock::{Clock, SystemClock};
use runner_core::function::Functions;
use runner_core::task::{AttemptOutcome, QueueName, Task, TaskId, TaskState};
use runner_queue::embedded::EmbeddedBroker;
use runner_queue::{Broker, GroupRule, InspectTasks as _, Presence as _, Producer, Signals as _, TaskInfo};
use runner_sdk::{Backoff, Ctx, Handlers, Outcome, Registry, TaskError};

use super::*;
use crate::health::Health;
use crate::metrics::Metrics;

/// The limit of every wait, even on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Scene {
    pub(super) broker: Arc<EmbeddedBroker>,
    pub(super) metrics: Arc<Metrics>,
    dir: tempfile::TempDir,
}

impl Scene {
    pub(super) async fn new() -> Self {
        Self::at(Arc::new(SystemClock)).await
    }

    /// By this clock.
    pub(super) async fn at(clock: Arc<dyn Clock>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let broker = EmbeddedBroker::open(&dir.path().join("q.db"), clock).await.unwrap();
        Self {
            broker: Arc::new(broker),
            metrics: Arc::default(),
            dir,
        }
    }

    /// The same file, opened once more as another process would.
    pub(super) async fn opened_again(&self) -> Arc<dyn Broker> {
        let broker = EmbeddedBroker::open(self.broker.path(), Arc::new(SystemClock)).await;
        Arc::new(broker.unwrap())
    }

    pub(super) fn worker(&self, registry: Registry) -> Worker {
        self.worker_with(registry, 4, Duration::from_secs(5))
    }

    pub(super) fn worker_with(&self, registry: Registry, concurrency: usize, shutdown_timeout: Duration) -> Worker {
        let settings = WorkerSettings {
            shutdown_timeout,
            ..Self::settings(concurrency)
        };
        let handlers = registry.build().unwrap();
        Worker::start(self.parts(handlers, Arc::new(SystemClock), settings))
    }

    /// A worker of this scene by this clock.
    fn parts(&self, handlers: Handlers, clock: Arc<dyn Clock>, settings: WorkerSettings) -> WorkerParts {
        WorkerParts {
            broker: self.broker.clone(),
            handlers,
            functions: Functions::default(),
            clock,
            metrics: self.metrics.clone(),
            health: Arc::new(Health::new(Arc::new(SystemClock), self.metrics.clone())),
            events: crate::events::Events::recording(),
            telemetry: Default::default(),
            workflows: crate::workflow::SettledSteps::default(),
            before_run: None,
            settings,
            instance: Instance::named("here"),
        }
    }

    pub(super) fn settings(concurrency: usize) -> WorkerSettings {
        WorkerSettings {
            concurrency,
            shutdown_timeout: Duration::from_secs(5),
            groups: GroupRule {
                grace: Duration::from_secs(1),
                max_delay: None,
                max_size: Some(3),
            },
            ..WorkerSettings::default()
        }
    }

    /// The context of a worker with these handlers, without the worker.
    pub(super) fn ctx(&self, registry: Registry, concurrency: usize) -> Arc<WorkerContext> {
        self.ctx_at(registry, concurrency, Arc::new(SystemClock))
    }

    /// The same, with slots for notifications.
    pub(super) fn ctx_with_notifications(&self, registry: Registry, concurrency: usize) -> Arc<WorkerContext> {
        let mut settings = Self::settings(concurrency);
        settings.serve_notifications();
        let parts = self.parts(registry.build().unwrap(), Arc::new(SystemClock), settings);
        Arc::new(WorkerContext::new(parts))
    }

    /// The same by this clock.
    pub(super) fn ctx_at(&self, registry: Registry, concurrency: usize, clock: Arc<dyn Clock>) -> Arc<WorkerContext> {
        let handlers = registry.build().unwrap();
        Arc::new(WorkerContext::new(self.parts(
            handlers,
            clock,
            Self::settings(concurrency),
        )))
    }

    /// Runs a statement beside the broker, over the connection that it returns.
    pub(super) async fn sql(&self, text: &str) -> sqlx::SqliteConnection {
        use sqlx::Connection as _;
        let url = format!("sqlite://{}", self.dir.path().join("q.db").display());
        let mut file = sqlx::SqliteConnection::connect(&url).await.unwrap();
        let text = sqlx::AssertSqlSafe(text.to_owned());
        sqlx::raw_sql(text).execute(&mut file).await.unwrap();
        file
    }

    pub(super) async fn put(&self, task: Task) -> TaskId {
        self.broker.enqueue(&[task]).await.unwrap().remove(0).unwrap().id
    }

    pub(super) async fn look(&self, id: &TaskId) -> Option<TaskInfo> {
        self.broker.task(&QueueName::default(), id).await.unwrap()
    }

    /// Waits until the task is as `wanted`.
    pub(super) async fn until(
        &self,
        id: &TaskId,
        what: &str,
        wanted: impl Fn(Option<&TaskInfo>) -> bool,
    ) -> Option<TaskInfo> {
        let begun = tokio::time::Instant::now();
        loop {
            let info = self.look(id).await;
            if wanted(info.as_ref()) {
                return info;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "task {id} never became {what}; it is {info:?}"
            );
            #[allow(clippy::disallowed_methods)] // between two looks
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) async fn until_state(&self, id: &TaskId, state: TaskState) -> TaskInfo {
        self.until(id, state.as_str(), |i| i.is_some_and(|i| i.state == state))
            .await
            .unwrap()
    }
}

fn retained(kind: &str) -> Task {
    Task::new(kind).retention(Duration::from_secs(60))
}

#[tokio::test]
async fn success_is_kept_with_its_result_or_gone() {
    let scene = Scene::new().await;
    let worker = scene.worker(Registry::new().on("greet", |cx: Ctx| async move {
        cx.log().push("stdout", "hello");
        Outcome::success("done")
    }));
    let id = scene.put(retained("greet")).await;
    let info = scene.until_state(&id, TaskState::Completed).await;
    assert_eq!(info.result.as_deref(), Some(&b"done"[..]));
    let attempts = scene.broker.attempts(&QueueName::default(), &id).await.unwrap();
    assert_eq!(
        (attempts.len(), attempts[0].outcome, attempts[0].number),
        (1, AttemptOutcome::Success, 1)
    );
    assert!(attempts[0].log.as_deref().is_some_and(|l| l.contains("hello")));
    let gone = scene.put(Task::new("greet")).await;
    scene.until(&gone, "gone", |i| i.is_none()).await;
    worker.drain(CancellationToken::new()).await;
    assert!(scene.metrics.render().contains(r#"outcome="success"} 2"#));
}

#[tokio::test]
async fn a_task_that_is_put_off_says_that_it_was_tried() {
    let scene = Scene::new().await;
    let worker = scene.worker(Registry::new().on("later", |_: Ctx| async {
        Err::<(), _>(TaskError::snooze(Duration::from_secs(3600)))
    }));
    let id = scene.put(Task::new("later")).await;
    let info = scene.until_state(&id, TaskState::Scheduled).await;
    assert_eq!(info.record.retried, 0);
    let attempts = scene.broker.attempts(&QueueName::default(), &id).await.unwrap();
    let stored: Vec<_> = attempts.iter().map(|a| (a.number, a.outcome)).collect();
    assert_eq!(stored, [(1, AttemptOutcome::Snoozed)]);
    worker.drain(CancellationToken::new()).await;
}

#[tokio::test]
async fn a_result_or_an_error_that_is_too_long_costs_no_verdict() {
    let scene = Scene::new().await;
    let most = runner_queue::MAX_RESULT_BYTES;
    let worker = scene.worker(
        Registry::new()
            .on("just", move |_: Ctx| async move { Outcome::success(vec![b'x'; most]) })
            .on(
                "over",
                move |_: Ctx| async move { Outcome::success(vec![b'x'; most + 1]) },
            )
            .on("wordy", |_: Ctx| async {
                Err::<(), _>(TaskError::skip("é".repeat(100_000)))
            }),
    );
    let (just, over) = (scene.put(retained("just")).await, scene.put(retained("over")).await);
    let info = scene.until_state(&just, TaskState::Completed).await;
    assert_eq!(info.result.map(|r| r.len()), Some(most));
    let info = scene.until_state(&over, TaskState::Completed).await;
    assert_eq!(info.result.map_or(0, |r| r.len()), 0);
    let attempts = scene.broker.attempts(&QueueName::default(), &over).await.unwrap();
    let log = attempts[0].log.clone().unwrap_or_default();
    assert!(log.contains("was not kept"), "{log}");
    let wordy = scene.put(retained("wordy")).await;
    scene.until_state(&wordy, TaskState::Archived).await;
    let attempts = scene.broker.attempts(&QueueName::default(), &wordy).await.unwrap();
    let error = attempts[0].error.clone().unwrap_or_default();
    assert_eq!(error.len(), runner_queue::MAX_ERROR_BYTES);
    worker.drain(CancellationToken::new()).await;
}

#[tokio::test]
async fn failures_retry_until_the_last_and_are_archived_then() {
    let scene = Scene::new().await;
    let worker = scene.worker(
        Registry::new()
            .on("flaky", |_: Ctx| async { Err::<(), _>(TaskError::retry("no luck")) })
            .on("hopeless", |_: Ctx| async {
                Err::<(), _>(TaskError::skip("bad payload"))
            })
            .on("minutes", |_: Ctx| async { Err::<(), _>(TaskError::retry("not yet")) })
            .backoff("minutes", Backoff::Function)
            .on("panics", |_: Ctx| async {
                if true {
                    panic!("at the disco")
                }
            })
            .on("later", |_: Ctx| async {
                Err::<(), _>(TaskError::retry_after(Duration::from_secs(3600), "busy"))
            })
            .on("now", |_: Ctx| async {
                Err::<(), _>(TaskError::retry_after(Duration::ZERO, "busy"))
            })
            .on("revoked", |_: Ctx| async {
                Err::<(), _>(TaskError::revoke("not needed"))
            }),
    );
    let flaky = scene.put(retained("flaky")).await;
    let info = scene.until_state(&flaky, TaskState::Retry).await;
    assert_eq!((info.record.retried, info.record.last_error.as_str()), (1, "no luck"));
    let last = scene.put(retained("flaky").max_retry(0)).await;
    scene.until_state(&last, TaskState::Archived).await;
    // Commands and calls have delays of their own: minutes, not asynq's formula.
    let function = scene.put(retained("minutes").max_retry(1)).await;
    let info = scene.until_state(&function, TaskState::Retry).await;
    let wait = info
        .next_run
        .unwrap()
        .duration_since(info.record.last_failed_at.unwrap());
    assert!((55..120).contains(&wait.as_secs()), "{wait:?}");
    let hopeless = scene.put(retained("hopeless")).await;
    assert_eq!(
        scene
            .until_state(&hopeless, TaskState::Archived)
            .await
            .record
            .last_error,
        "bad payload"
    );
    let panics = scene.put(retained("panics")).await;
    assert_eq!(
        scene.until_state(&panics, TaskState::Retry).await.record.last_error,
        "panic: at the disco"
    );
    let later = scene.put(retained("later").max_retry(1)).await;
    let info = scene.until_state(&later, TaskState::Retry).await;
    assert_eq!(info.record.retried, 1, "a stated delay uses up a retry");
    let wait = info.next_run.unwrap().duration_since(SystemClock.now());
    assert!(wait.as_secs() > 3000, "{wait:?}");
    let last = scene.put(retained("later").max_retry(0)).await;
    let info = scene.until_state(&last, TaskState::Archived).await;
    assert_eq!(info.record.last_error, "busy");
    // "Now" is not taken literally.
    let now = scene.put(retained("now").max_retry(1)).await;
    let failed_at = |info: &TaskInfo| info.record.last_failed_at.unwrap();
    let info = scene.until_state(&now, TaskState::Retry).await;
    let wait = info.next_run.unwrap().duration_since(failed_at(&info));
    assert!(wait.as_millis() >= 1000, "{wait:?}");
    let revoked = scene.put(retained("revoked")).await;
    scene.until(&revoked, "gone", |i| i.is_none()).await;
    worker.drain(CancellationToken::new()).await;
}

#[tokio::test]
async fn a_task_whose_deadline_has_passed_is_archived_and_not_tried_again_and_again() {
    let scene = Scene::new().await;
    let worker = scene.worker(Registry::new().on("known", |_: Ctx| async {}));
    let mut task = retained("known");
    task.deadline = jiff::Timestamp::from_second(1_000_000_000).ok();
    let id = scene.put(task).await;
    let info = scene.until_state(&id, TaskState::Archived).await;
    assert!(
        info.record.last_error.contains("deadline passed"),
        "{}",
        info.record.last_error
    );
    assert_eq!(info.record.retried, 0);
    worker.drain(CancellationToken::new()).await;
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_stopped_and_the_task_retried() {
    let scene = Scene::new().await;
    let stopped = Arc::new(AtomicUsize::new(0));
    let worker = scene.worker(Registry::new().on("slow", {
        let stopped = stopped.clone();
        move |cx: Ctx| {
            let stopped = stopped.clone();
            async move {
                cx.cancelled().await;
                stopped.fetch_add(1, Ordering::SeqCst);
                Outcome::Retry("stopped".into())
            }
        }
    }));
    let id = scene.put(retained("slow").timeout(Duration::from_secs(1))).await;
    let info = scene.until_state(&id, TaskState::Retry).await;
    assert!(
        info.record.last_error.starts_with("context deadline exceeded"),
        "{}",
        info.record.last_error
    );
    assert_eq!(stopped.load(Ordering::SeqCst), 1);
    worker.drain(CancellationToken::new()).await;
}

#[tokio::test]
async fn an_unknown_type_is_left_alone_until_a_worker_knows_it() {
    let scene = Scene::new().await;
    let worker = scene.worker(Registry::new().on("known", |_: Ctx| async {}));
    let id = scene.put(retained("unknown")).await;
    // Behind it, so that the worker has seen it by then.
    scene
        .until_state(&scene.put(retained("known")).await, TaskState::Completed)
        .await;
    let info = scene.until_state(&id, TaskState::Pending).await;
    assert_eq!((info.record.retried, info.waiting_for), (0, None));
    worker.drain(CancellationToken::new()).await;
    let knows = scene.worker(Registry::new().on("unknown", |_: Ctx| async {}));
    let info = scene.until_state(&id, TaskState::Completed).await;
    assert_eq!(info.record.retried, 0);
    knows.drain(CancellationToken::new()).await;
}

#[tokio::test]
async fn a_type_that_a_prefix_refuses_is_handed_back_once() {
    let scene = Scene::new().await;
    let open = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asked = open.clone();
    let worker = scene.worker(Registry::new().on("known", |_: Ctx| async {}).on_prefix_if(
        "some:",
        move |_| asked.load(Ordering::SeqCst),
        |_: Ctx| async {},
    ));
    let id = scene.put(retained("some:type")).await;
    scene
        .until_state(&scene.put(retained("known")).await, TaskState::Completed)
        .await;
    let info = scene.until_state(&id, TaskState::Pending).await;
    assert_eq!(info.record.retried, 0);
    open.store(true, Ordering::SeqCst);
    let info = scene.until_state(&id, TaskState::Completed).await;
    assert_eq!(info.record.retried, 0);
    worker.drain(CancellationToken::new()).await;
}

/// A handler that runs until it is asked to stop, and then stores a result.
fn long() -> Registry {
    Registry::new().on("long", |cx: Ctx| async move {
        cx.keep_result("half");
        cx.cancelled().await;
        Outcome::Skip("stopped".into())
    })
}

impl Scene {
    /// The task once it is in this state. Asks repeatedly, since the worker may not listen yet.
    async fn until_stopped(&self, id: &TaskId, state: TaskState, ask: impl AsyncFn()) -> TaskInfo {
        self.until_state(id, TaskState::Active).await;
        let begun = tokio::time::Instant::now();
        loop {
            ask().await;
            let info = self.broker.task(&QueueName::default(), id).await.unwrap().unwrap();
            if info.state == state {
                return info;
            }
            assert!(begun.elapsed() < PATIENCE, "{info:?}");
            #[allow(clippy::disallowed_methods)] // between two looks
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn a_cancelled_attempt_fails_as_in_go_and_is_retried_while_retries_are_left() {
    let scene = Scene::new().await;
    let worker = scene.worker(long());
    for (retries, state) in [(2, TaskState::Retry), (0, TaskState::Archived)] {
        let id = scene.put(retained("long").max_retry(retries)).await;
        let cancel = async || scene.broker.cancel(&id).await.unwrap();
        let info = scene.until_stopped(&id, state, cancel).await;
        assert_eq!(info.record.last_error, "context canceled");
        assert_eq!(info.record.retried, u32::from(retries > 0));
        assert_eq!(info.result.as_deref(), Some(&b"half"[..]), "what it had is stored");
        let attempts = scene.broker.attempts(&QueueName::default(), &id).await.unwrap();
        assert_eq!(attempts[0].outcome, AttemptOutcome::Cancelled);
    }
    worker.drain(CancellationToken::new()).await;
}

#[tokio::test]
async fn a_task_that_is_stopped_for_good_is_archived_with_who_and_why() {
    let scene = Scene::new().await;
    let worker = scene.worker(long());
    let id = scene.put(retained("long").max_retry(5)).await;
    let (default, low) = (QueueName::default(), QueueName::new("low").unwrap());
    let stop = async || {
        // One of this id in another queue is another task.
        scene.broker.stop(&low, &id, "not this one").await.unwrap();
        scene
            .broker
            .stop(&default, &id, "stopped by me: wrong month")
            .await
            .unwrap();
    };
    let info = scene.until_stopped(&id, TaskState::Archived, stop).await;
    assert_eq!(info.record.last_error, "stopped by me: wrong month");
    assert_eq!(info.record.retried, 0);
    let attempts = scene.broker.attempts(&default, &id).await.unwrap();
    assert_eq!(attempts[0].error.as_deref(), Some("stopped by me: wrong month"));
    worker.drain(CancellationToken::new()).await;
}

#[tokio::test]
async fn a_drain_finishes_what_it_can_and_hands_back_the_rest_untouched() {
    let scene = Scene::new().await;
    let worker = scene.worker_with(
        Registry::new().on("deaf", |_: Ctx| std::future::pending::<()>()),
        2,
        Duration::from_millis(50),
    );
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(scene.put(retained("deaf")).await);
    }
    scene.until_state(&ids[1], TaskState::Active).await;
    let hurry = CancellationToken::new();
    hurry.cancel();
    worker.drain(hurry).await;
    for id in &ids {
        let info = scene.look(id).await.unwrap();
        assert_eq!((info.state, info.record.retried), (TaskState::Pending, 0), "{id}");
    }
    assert_eq!(scene.broker.servers().await.unwrap(), []);
}

#[tokio::test]
async fn no_more_handlers_run_at_once_than_allowed() {
    let scene = Scene::new().await;
    let (now, most, done) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let handler = {
        let (now, most, done) = (now.clone(), most.clone(), done.clone());
        move |_: Ctx| {
            let (now, most, done) = (now.clone(), most.clone(), done.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                now.fetch_sub(1, Ordering::SeqCst);
                done.fetch_add(1, Ordering::SeqCst);
            }
        }
    };
    let tasks: Vec<Task> = (0..500).map(|_| Task::new("quick")).collect();
    scene.broker.enqueue(&tasks).await.unwrap();
    let last = scene.put(Task::new("quick")).await;
    let worker = scene.worker_with(Registry::new().on("quick", handler), 3, PATIENCE);
    scene.until(&last, "gone", |i| i.is_none()).await;
    worker.drain(CancellationToken::new()).await;
    assert_eq!(done.load(Ordering::SeqCst), 501);
    assert!(most.load(Ordering::SeqCst) <= 3);
}

#[test]
fn a_handler_is_gone_before_its_lease_is_over() {
    for seconds in [3, 5, 30, 3600] {
        let settings = WorkerSettings {
            lease: Duration::from_secs(seconds),
            ..WorkerSettings::default()
        };
        let gone = settings.fence_after() + settings.fence_every() + settings.last_moment();
        assert!(gone < settings.lease, "{seconds} s: {gone:?}");
        let at = tokio::time::Instant::now();
        let hold = settings.hold(at);
        assert!(
            hold.ask > (at + settings.fence_after() + settings.fence_every()).into_std(),
            "{seconds} s"
        );
        assert!(hold.kill <= (at + settings.lease).into_std(), "{seconds} s");
        assert!(settings.heartbeat_every() * 3 < settings.fence_after(), "{seconds} s");
        assert!(
            settings.recover_grace() >= Duration::from_secs(1),
            "ends are whole seconds"
        );
    }
}
