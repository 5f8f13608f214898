//! Typed tasks, middleware and what handlers may ask for, as an author of handlers uses them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use runner_sdk::testing::{Trial, TrialReport};
use runner_sdk::{
    BoxFuture, Ctx, HandlerService, NotEnqueued, Outcome, Payload, Registry, State, Task, TaskError, TaskType, handler,
};
use serde::{Deserialize, Serialize};
use tower_layer::{Layer, layer_fn};
use tower_service::Service;

#[derive(Serialize, Deserialize, TaskType)]
#[task(
    name = "greet",
    queue = "low",
    retry = 3,
    timeout = "1m30s",
    retention = "1h",
    unique = "5s"
)]
struct Greet {
    name: String,
}

#[handler]
async fn greet(Payload(greet): Payload<Greet>, cx: Ctx) -> anyhow::Result<String> {
    anyhow::ensure!(!greet.name.is_empty(), "there is no name");
    cx.progress(0.5, "half of it");
    Ok(format!("hello, {}", greet.name))
}

fn ada() -> Greet {
    Greet { name: "Ada".into() }
}

async fn trial(task: Trial, registry: Registry) -> TrialReport {
    task.run(registry).await.unwrap()
}

#[tokio::test]
async fn producer_and_handler_agree_by_the_type() {
    let expected = Task::new("greet")
        .payload(r#"{"name":"Ada"}"#)
        .queue("low")
        .retry(3)
        .timeout(Duration::from_secs(90))
        .retention(Duration::from_secs(3600))
        .unique(Duration::from_secs(5));
    assert_eq!(ada().task(), expected);
    let report = trial(Trial::of_task(ada()), Registry::new().on_task(greet)).await;
    assert_eq!(report.outcome, Outcome::success("hello, Ada"));
    assert!(report.log.contains("progress: 50% half of it"), "{}", report.log);
    let unnamed = Trial::of_task(Greet { name: String::new() });
    let report = trial(unnamed, Registry::new().on_task(greet)).await;
    assert_eq!(report.outcome, Outcome::Retry("there is no name".into()));
}

#[tokio::test]
async fn handlers_enqueue_and_know_their_schedule() {
    async fn fan_out(cx: Ctx) -> Result<String, TaskError> {
        cx.enqueue(ada()).await?;
        let answers = cx.enqueue_many([Task::new("a").id("1"), Task::new(" ")]).await?;
        assert_eq!(answers[0].as_ref().map(ToString::to_string), Ok("1".to_owned()));
        assert!(matches!(answers[1], Err(NotEnqueued::Invalid(_))));
        let at = cx.scheduled_at().map(|at| at.to_string());
        Ok(format!("{:?} {at:?}", cx.schedule()))
    }
    let task = Trial::of("fan").header("runner-schedule-id", "m:fan");
    let task = task.header("runner-scheduled-at", "2026-11-22T02:00:00Z");
    let report = trial(task, Registry::new().on("fan", fan_out)).await;
    let expected = r#"Some("m:fan") Some("2026-11-22T02:00:00Z")"#;
    assert_eq!(report.outcome, Outcome::success(expected));
    assert_eq!(report.enqueued, [ada().task(), Task::new("a").id("1")]);
}

#[test]
fn what_could_never_run_is_an_error_at_the_start() {
    async fn needs(_: State<u32>, _: Option<State<u64>>) {}
    let error = Registry::new().on_prefix("x.", needs).build().unwrap_err();
    assert!(
        error.to_string().contains("handler `x.` needs the state `u32`"),
        "{error}"
    );
    assert!(Registry::new().on("x", needs).state(1_u32).build().is_ok());
    let twice = Registry::new().state(1_u32).state(2_u32).build().unwrap_err();
    assert!(twice.to_string().contains("a type of its own around it"), "{twice}");
}

/// Counts calls, and says its name in the log of the run.
#[derive(Clone)]
struct Counting {
    name: &'static str,
    calls: Arc<AtomicUsize>,
    inner: HandlerService,
}

impl Service<Ctx> for Counting {
    type Response = Outcome;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Outcome, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, cx: Ctx) -> Self::Future {
        self.calls.fetch_add(1, Ordering::Relaxed);
        cx.log().push("layer", self.name);
        Box::pin(self.inner.call(cx))
    }
}

fn counting(
    name: &'static str,
    calls: &Arc<AtomicUsize>,
) -> impl Layer<HandlerService, Service = Counting> + Send + Sync + use<> {
    let calls = Arc::clone(calls);
    layer_fn(move |inner| {
        let calls = Arc::clone(&calls);
        Counting { name, calls, inner }
    })
}

#[tokio::test]
async fn layers_are_around_all_handlers_or_one() {
    let (all, one) = (Arc::default(), Arc::default());
    let registry = || {
        Registry::new()
            .layer(counting("inner", &all))
            .layer(counting("outer", &all))
            .on("a", async || "a")
            .with(|a| a.layer(counting("own", &one)))
            .on_prefix("b.", async || "b")
    };
    let report = trial(Trial::of("a"), registry()).await;
    assert_eq!(report.outcome, Outcome::success("a"));
    let lines: Vec<_> = report
        .log
        .lines()
        .filter_map(|line| line.split_once("layer: "))
        .collect();
    let names: Vec<_> = lines.iter().map(|(_, name)| *name).collect();
    assert_eq!(names, ["outer", "inner", "own"]);
    trial(Trial::of("b.c"), registry()).await;
    assert_eq!((all.load(Ordering::Relaxed), one.load(Ordering::Relaxed)), (4, 1));
}

#[tokio::test]
async fn an_error_of_a_layer_is_that_of_the_handler() {
    #[derive(Clone)]
    struct Refusing;
    impl Service<Ctx> for Refusing {
        type Response = Outcome;
        type Error = Box<dyn std::error::Error + Send + Sync>;
        type Future = std::future::Ready<Result<Outcome, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Err("not now".into()))
        }

        fn call(&mut self, _: Ctx) -> Self::Future {
            unreachable!("it is never ready")
        }
    }
    let registry = Registry::new()
        .on("a", async || "a")
        .layer(layer_fn(|_: HandlerService| Refusing));
    assert_eq!(
        trial(Trial::of("a"), registry).await.outcome,
        Outcome::Retry("not now".into())
    );
}

#[tokio::test]
async fn a_handler_of_limited_concurrency_takes_turns() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let handler = {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        move || {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                now.fetch_sub(1, Ordering::Relaxed);
            }
        }
    };
    let registry = Registry::new().on("a", handler).with(|a| a.concurrency(2));
    let handlers = registry.build().unwrap();
    let runs: Vec<_> = (0..10).map(|_| Box::pin(Trial::of("a").run_with(&handlers))).collect();
    let mut runs: Vec<_> = runs.into_iter().map(Some).collect();
    // All are polled in turn, as a runtime would.
    std::future::poll_fn(|cx| {
        let mut waiting = false;
        for run in &mut runs {
            match run.as_mut().map(|run| run.as_mut().poll(cx)) {
                Some(Poll::Ready(report)) => {
                    assert_eq!(report.unwrap().outcome, Outcome::done());
                    *run = None;
                }
                Some(Poll::Pending) => waiting = true,
                None => {}
            }
        }
        if waiting { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    assert_eq!(most.load(Ordering::Relaxed), 2);
}
