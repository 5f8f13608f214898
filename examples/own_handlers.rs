//! A program of your own: a typed handler, shared state, a schedule in code, and everything else that `runner` does.
//!
//! Try it: `cargo run --example own_handlers -- -c config.yaml`, then
//! `cargo run --example own_handlers -- enqueue greet --payload '{"name":"Ada"}'`, or its own command `… -- wave`.

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use runner::sdk::{BoxFuture, Ctx, HandlerService, Outcome, Payload, Registry, ResultExt, State, TaskError};
use runner::{App, CatchUpPolicy, Command, Overlap, Schedule, Task};
use tower_layer::layer_fn;
use tower_service::Service;

/// What a `greet` task carries. A payload that does not decode is never retried.
#[derive(serde::Deserialize)]
struct Greeting {
    name: String,
}

/// Shared by all runs of all handlers.
#[derive(Default)]
struct Greeted(AtomicU64);

async fn greet(
    Payload(greeting): Payload<Greeting>,
    State(greeted): State<Greeted>,
    cx: Ctx,
) -> Result<String, TaskError> {
    let count = greeted.0.fetch_add(1, Ordering::Relaxed) + 1;
    cx.log().push("stdout", &format!("hello, {}", greeting.name));
    Ok(format!("greeted {count} times"))
}

/// Errors are retried unless they say otherwise: here one that a retry cannot solve, and one that waits.
async fn divide(Payload((a, b)): Payload<(String, String)>) -> Result<String, TaskError> {
    let a: i64 = a.parse::<i64>().skip_retry()?;
    let b: i64 = b.parse::<i64>().skip_retry()?;
    match a.checked_div(b) {
        Some(quotient) => Ok(quotient.to_string()),
        None => Err(TaskError::retry_after(
            Duration::from_secs(60),
            "perhaps b is not zero in a minute",
        )),
    }
}

/// Middleware: notes in the log of each run how long its handler took.
#[derive(Clone)]
struct Timed(HandlerService);

impl Service<Ctx> for Timed {
    type Response = Outcome;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Outcome, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, cx: Ctx) -> Self::Future {
        let run = self.0.call(cx.clone());
        let began = tokio::time::Instant::now();
        Box::pin(async move {
            let outcome = run.await;
            cx.log().push("log", &format!("took {:?}", began.elapsed()));
            outcome
        })
    }
}

fn register(registry: Registry) -> Registry {
    registry
        .state(Greeted::default())
        .layer(layer_fn(Timed))
        .on("greet", greet)
        .on("divide", divide)
        .with(|divide| divide.timeout(Duration::from_secs(5)).concurrency(2))
}

/// A text is enough for a schedule; one with options is made so.
fn nightly() -> Schedule {
    Schedule::cron("30 2 * * *")
        .timezone("Europe/Berlin")
        .overlap(Overlap::Skip)
        .catch_up(CatchUpPolicy::None)
        .jitter(Duration::from_secs(120))
        .retry(3)
        .description("Greets once a night, at some time within two minutes")
}

fn main() -> ExitCode {
    // Commands of manifests start this program once more, as their guard, which must not run the lines below.
    if let Some(code) = runner::guard_main() {
        return code;
    }
    let greeting = Task::new("greet")
        .payload(r#"{"name":"world"}"#)
        .retention(Duration::from_secs(3600));
    App::new()
        .name("own")
        .version(env!("CARGO_PKG_VERSION"))
        .command(Command::new("wave").about("Greet once, now"), async |_, client| {
            let greeting = Task::new("greet").payload(r#"{"name":"you"}"#);
            client.enqueue(greeting).await.map(drop)
        })
        .handlers(register)
        .schedule("greetings", "@every 10s", greeting)
        .schedule("nightly", nightly(), Task::new("greet").payload(r#"{"name":"night"}"#))
        .main()
}
