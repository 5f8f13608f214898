//! What a handler logs: its lines name the task, are kept with the run, and count as signs of life.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use runner_core::task::{AttemptOutcome, QueueName, Task, TaskId, TaskState};
use runner_queue::InspectTasks as _;
use runner_sdk::{Ctx, Outcome, Registry, StopReason};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use tracing_subscriber::layer::SubscriberExt as _;

use super::tests::Scene;
use crate::log::RunLogLayer;

/// The streams and texts of the log of the only attempt.
async fn logged(scene: &Scene, id: &TaskId) -> Vec<String> {
    let attempts = scene.broker.attempts(&QueueName::default(), id).await.unwrap();
    assert_eq!(attempts.len(), 1, "{attempts:?}");
    let log = attempts[0].log.clone().unwrap_or_default();
    let without_time = |line: &str| line.split_once(' ').map_or("", |(_, rest)| rest).to_owned();
    log.lines().map(without_time).collect()
}

async fn greet(cx: Ctx) {
    tracing::info!(name = "Ada", "before it waits");
    tokio::task::yield_now().await;
    tracing::info_span!("inner").in_scope(|| tracing::warn!("after it\nhas waited"));
    cx.log().push("stdout", "by hand");
    let spawned = tokio::spawn(async { tracing::error!("in a task of its own") }.in_current_span());
    spawned.await.unwrap();
    drop(tokio::spawn(async { tracing::error!("somewhere else") }).await);
}

#[tokio::test]
async fn lines_of_a_handler_are_kept_with_its_run() {
    let text = tempfile::NamedTempFile::new().unwrap();
    let process = std::sync::Arc::new(text.reopen().unwrap());
    let subscriber = tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().with_ansi(false).with_writer(process))
        .with(RunLogLayer::default());
    let _listening = tracing::subscriber::set_default(subscriber);
    let scene = Scene::new().await;
    let worker = scene.worker(Registry::new().on("greet", greet));
    let retention = Duration::from_secs(60);
    let id = scene.put(Task::new("greet").retention(retention).id("greet-1")).await;
    scene.until_state(&id, TaskState::Completed).await;
    worker.drain(CancellationToken::new()).await;
    let expected = [
        "info: before it waits name=Ada",
        r"warn: after it\nhas waited",
        "stdout: by hand",
        "error: in a task of its own",
    ];
    assert_eq!(logged(&scene, &id).await, expected);
    let process = std::fs::read_to_string(text.path()).unwrap();
    let line = process.lines().find(|line| line.contains("before it waits")).unwrap();
    for part in ["task_id=greet-1", r#"task_type="greet""#, "queue=default", "attempt=1"] {
        assert!(line.contains(part), "{line}");
    }
}

/// Waits until it must stop, and says why it did.
async fn hang(cx: Ctx) -> Outcome {
    match cx.cancelled().await {
        StopReason::Stalled => Outcome::Retry("nothing came".into()),
        other => Outcome::Skip(other.to_string()),
    }
}

/// Needs longer than its handler may be silent, and says so.
async fn work(cx: Ctx) {
    for _ in 0..10 {
        #[allow(clippy::disallowed_methods)] // the work
        tokio::time::sleep(Duration::from_millis(20)).await;
        cx.heartbeat();
    }
}

#[tokio::test]
async fn a_run_without_a_sign_of_life_is_stopped() {
    let scene = Scene::new().await;
    let registry = Registry::new()
        .on("hang", hang)
        .with(|hang| hang.silence(Duration::from_millis(10)))
        .on("work", work)
        // Longer than a busy machine lets it wait between two signs.
        .with(|work| work.silence(Duration::from_secs(600)));
    let worker = scene.worker(registry);
    let retention = Duration::from_secs(60);
    let hanging = scene.put(Task::new("hang").retention(retention)).await;
    let working = scene.put(Task::new("work").retention(retention)).await;
    let info = scene.until_state(&hanging, TaskState::Retry).await;
    let error = info.record.last_error;
    assert!(
        error.starts_with("stalled: ") && error.ends_with("nothing came"),
        "{error}"
    );
    scene.until_state(&working, TaskState::Completed).await;
    let attempts = scene.broker.attempts(&QueueName::default(), &hanging).await.unwrap();
    assert_eq!(attempts[0].outcome, AttemptOutcome::Retry);
    worker.drain(CancellationToken::new()).await;
}
