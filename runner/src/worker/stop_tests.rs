//! Handlers that are stopped: how long they get, and which of them are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use runner_core::clock::ManualClock;
use runner_core::task::{Task, TaskState};
use runner_queue::Claims as _;
use runner_sdk::{Ctx, Registry, Stop};

use super::in_flight::InFlightTask;
use super::tests::Scene;
use super::*;
use crate::background::BackgroundLoop as _;

/// A task that ignores every stop, in flight and running, and its result.
async fn deaf(scene: &Scene, ctx: &Arc<WorkerContext>, timeout: Duration) -> tokio::task::JoinHandle<()> {
    scene.put(Task::new("deaf").timeout(timeout)).await;
    let claims = scene.broker.claim(&ctx.queue_names(), 1, DEFAULT_LEASE).await;
    let claim = claims.unwrap().remove(0);
    let started_at = ctx.clock.now();
    let task = InFlightTask {
        stop: Stop::new(),
        started_at,
        deadline: attempt::deadline_of(claim.task(), started_at),
        extended_at: tokio::time::Instant::now(),
        claim,
    };
    ctx.in_flight.add([task.clone()]);
    let ctx = ctx.clone();
    let attempt::Started::UnderWay(rest) = attempt::begin(&ctx, task) else {
        panic!("it waits");
    };
    tokio::spawn(async move { drop(rest.end(&ctx).await) })
}

#[tokio::test]
#[allow(clippy::disallowed_methods)] // paused time that passes
async fn a_handler_past_its_deadline_is_gone_before_its_lease_is() {
    let scene = Scene::new().await;
    let ctx = scene.ctx(Registry::new().on("deaf", |_: Ctx| std::future::pending::<()>()), 1);
    let running = deaf(&scene, &ctx, Duration::from_secs(23)).await;
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    tokio::time::sleep(ctx.settings.fence_after()).await;
    assert!(!running.is_finished(), "stopped at 23 s, it has some seconds left");
    assert_eq!(ctx.in_flight.stop_overdue(ctx.settings.fence_after()), 1);
    assert_eq!(
        ctx.in_flight.stop_overdue(ctx.settings.fence_after()),
        0,
        "counted once"
    );
    running.await.unwrap();
    assert!(began.elapsed() < DEFAULT_LEASE, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_worker_that_broke_down_says_so() {
    let scene = Scene::new().await;
    let worker = scene.worker(Registry::new());
    worker.claim_loop.abort();
    tokio::time::timeout(super::tests::PATIENCE, worker.broken())
        .await
        .unwrap();
    worker.drain(CancellationToken::new()).await;
}

#[tokio::test]
async fn a_drain_ends_in_time_also_when_nothing_answers() {
    let scene = Scene::new().await;
    let registry = Registry::new().on("deaf", |_: Ctx| std::future::pending::<()>());
    let worker = scene.worker_with(registry, 1, Duration::ZERO);
    let id = scene.put(Task::new("deaf")).await;
    scene.until_state(&id, TaskState::Active).await;
    let began = Instant::now();
    let in_the_way = scene.sql("BEGIN IMMEDIATE").await;
    let until = worker.drain(CancellationToken::new()).await;
    assert!(Instant::now() <= until, "late by {:?}", until.elapsed());
    assert!(until <= began + LAST_STEPS + CLOSING + Duration::from_secs(1));
    drop(in_the_way);
}

#[tokio::test]
async fn a_clock_that_is_set_forward_takes_no_task_from_its_handler() {
    let clock = Arc::new(ManualClock::at(jiff::Timestamp::from_second(1_893_553_445).unwrap()));
    let scene = Scene::at(clock.clone()).await;
    let ctx = scene.ctx_at(Registry::new(), 1, clock.clone());
    ctx.listed.was_listed_for(ctx.settings.listed_first());
    let mut recoverer = recoverer::Recoverer::new(ctx.clone());
    let id = scene.put(Task::new("a")).await;
    let claims = scene.broker.claim(&ctx.queue_names(), 1, DEFAULT_LEASE).await.unwrap();
    recoverer.turn().await;
    clock.advance(DEFAULT_LEASE * 10);
    let next = recoverer.turn().await;
    assert_eq!(scene.look(&id).await.unwrap().state, TaskState::Active);
    assert!(
        next.is_some_and(|next| next > ctx.settings.heartbeat_every()),
        "{next:?}"
    );
    // Leases that were not extended meanwhile are taken back then.
    recoverer.turn().await;
    assert_eq!(scene.look(&id).await.unwrap().state, TaskState::Retry);
    drop(claims);
}
