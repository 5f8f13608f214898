//! From just before a task is enqueued to its handler's start, one task at a time, the worker idle.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::figure::Figure;
use super::rig::{Bench, Observed, put};

/// Time between two tasks.
const PACE: Duration = Duration::from_millis(10);

/// The part for another program's tasks ends after this time, however many were measured: a store that cannot notify
/// this process of them is only polled.
const LONGEST: Duration = Duration::from_secs(5);

/// Which client enqueues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// The client in this process.
    Us,
    /// A client that shares nothing but the store with the worker.
    Another,
}

/// Median and 99th percentile, for our own tasks and for those of another program.
pub(super) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let own = waits(bench, By::Us).await?;
    let foreign = waits(bench, By::Another).await?;
    let mut figures = Figure::shares(["pick-up latency, p50", "pick-up latency, p99"], &own, "ms");
    let names = [
        "pick-up latency, another program's task, p50",
        "pick-up latency, another program's task, p99",
    ];
    figures.extend(Figure::shares(names, &foreign, "ms"));
    Ok(figures)
}

/// Milliseconds for each task.
async fn waits(bench: &Bench, by: By) -> anyhow::Result<Vec<f64>> {
    let tasks = (bench.tasks / 100).max(20);
    let seen = Arc::new(Observed::default());
    bench.count_with(&seen).await?;
    let mut waits = Vec::with_capacity(tasks);
    let task = [bench.task()];
    let first = Instant::now();
    for n in 1..=tasks {
        if by == By::Another && first.elapsed() > LONGEST {
            break;
        }
        seen.expect(n);
        let begun = Instant::now();
        match by {
            By::Us => put(&*bench.broker, &task).await?,
            By::Another => put(&*bench.other, &task).await?,
        }
        let started = seen.wait().await?;
        waits.push(started.duration_since(begun).as_secs_f64() * 1000.0);
        #[allow(clippy::disallowed_methods)] // the pace of the measurement
        tokio::time::sleep(PACE.saturating_sub(begun.elapsed())).await;
    }
    bench.end().await;
    Ok(waits)
}
