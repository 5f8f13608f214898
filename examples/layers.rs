//! Measures what a layer of tower costs a task: `cargo run --release -p runner-sdk --example layers`.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use runner_sdk::testing::Trial;
use runner_sdk::{BoxFuture, Ctx, HandlerFuture, HandlerService, Outcome, Registry};
use tokio::time::Instant;
use tower_layer::layer_fn;
use tower_service::Service;

/// Runs of one measurement.
const RUNS: u32 = 1_000_000;

/// Does nothing: what remains is the cost of a layer itself.
#[derive(Clone)]
struct Through(HandlerService);

impl Service<Ctx> for Through {
    type Response = Outcome;
    type Error = Infallible;
    type Future = HandlerFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, cx: Ctx) -> HandlerFuture {
        self.0.call(cx)
    }
}

/// Does something after the handler, as most layers do: it needs a future of its own.
#[derive(Clone)]
struct After(HandlerService);

impl Service<Ctx> for After {
    type Response = Outcome;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Outcome, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, cx: Ctx) -> Self::Future {
        let running = self.0.call(cx);
        Box::pin(async move { std::hint::black_box(running.await) })
    }
}

async fn nothing() {}

/// Nanoseconds of one run with the handlers of this registry, the best of five.
async fn measure(registry: Registry) -> Result<f64, Box<dyn std::error::Error>> {
    let handlers = registry.on("nothing", nothing).build()?;
    let found = handlers.find("nothing").ok_or("no handler")?;
    let cx = Arc::new(Trial::of("nothing").context(&handlers));
    let mut best = f64::MAX;
    for _ in 0..5 {
        let began = Instant::now();
        for _ in 0..RUNS {
            std::hint::black_box(found.call((*cx).clone()).await);
        }
        best = best.min(began.elapsed().as_secs_f64() * 1e9 / f64::from(RUNS));
    }
    Ok(best)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bare = measure(Registry::new()).await?;
    let through = measure(Registry::new().layer(layer_fn(Through))).await?;
    let after = measure(Registry::new().layer(layer_fn(After))).await?;
    let ten = (0..10).fold(Registry::new(), |registry, _| registry.layer(layer_fn(After)));
    let ten = measure(ten).await?;
    println!("a handler without layers    {bare:6.1} ns");
    println!("a layer that does nothing  +{:6.1} ns", through - bare);
    println!("one with its own future    +{:6.1} ns", after - bare);
    println!("each of ten such layers    +{:6.1} ns", (ten - bare) / 10.0);
    Ok(())
}
