//! Tasks a second: enqueueing, draining a full queue, both at once; through the program and through the bare store,
//! in turn, because a machine is not the same from one minute to the next.

use std::sync::Arc;

use anyhow::Context as _;

use super::figure::Figure;
use super::meter::{Meter, Sample};
use super::rig::{Bench, Observed, PATIENCE, put};

/// What is done as often as possible in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rate {
    /// Enqueueing in batches.
    Batches,
    /// Enqueueing one by one; a twentieth of the tasks.
    Singly,
    /// From the worker's start until every waiting task has been handled and its verdict is in the store.
    Drain,
    /// Enqueueing and running at the same time, until all have run and are settled.
    Steady,
}

impl Rate {
    fn name(self) -> &'static str {
        match self {
            Self::Batches => "enqueue, batches of 256",
            Self::Singly => "enqueue, one by one",
            Self::Drain => "drain",
            Self::Steady => "steady, enqueue and run",
        }
    }

    fn tasks(self, bench: &Bench) -> usize {
        match self {
            Self::Singly => (bench.tasks / 20).max(1),
            _ => bench.tasks,
        }
    }
}

/// So many rounds of one rate, each with the ceiling before it if that is asked for.
pub(super) async fn measure(bench: &Bench, rate: Rate, rounds: usize, ceiling: bool) -> anyhow::Result<Figure> {
    let batches = if ceiling { bench.store.batches() } else { &[] };
    let mut forms = vec![Vec::with_capacity(rounds); batches.len()];
    let mut samples = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        for (form, batch) in forms.iter_mut().zip(batches) {
            let bare = tokio::time::timeout(PATIENCE, ceiling_rate(bench, rate, *batch));
            form.push(bare.await.context("the store did not get done in time")??);
        }
        samples.push(ours(bench, rate).await?);
    }
    Ok(Figure::rate(rate.name(), &samples, &forms))
}

/// Through the program. Leaves the queue empty.
async fn ours(bench: &Bench, rate: Rate) -> anyhow::Result<Sample> {
    let tasks = rate.tasks(bench);
    let store = bench.store.as_ref();
    let used = match rate {
        Rate::Batches => {
            let meter = Meter::start(store).await?;
            bench.fill(tasks).await?;
            let used = meter.stop().await?;
            bench.drain(tasks).await?;
            used
        }
        Rate::Singly => {
            let task = [bench.task()];
            let meter = Meter::start(store).await?;
            for _ in 0..tasks {
                put(bench.broker.as_ref(), &task).await?;
            }
            let used = meter.stop().await?;
            bench.drain(tasks).await?;
            used
        }
        Rate::Drain => {
            bench.fill(tasks).await?;
            let tasks = bench.waiting().await?;
            let meter = Meter::start(store).await?;
            bench.drain(tasks).await?;
            meter.stop().await?
        }
        Rate::Steady => {
            let seen = Arc::new(Observed::for_tasks(tasks));
            let meter = Meter::start(store).await?;
            bench.count_with(&seen).await?;
            bench.fill(tasks).await?;
            bench.drained(&seen).await?;
            meter.stop().await?
        }
    };
    bench.end().await;
    Ok(used.over(tasks))
}

/// Through the bare store. Leaves its queue empty.
async fn ceiling_rate(bench: &Bench, rate: Rate, batch: usize) -> anyhow::Result<Sample> {
    let tasks = rate.tasks(bench);
    let store = bench.store.as_ref();
    if rate == Rate::Drain {
        store.enqueue(tasks, batch).await?;
    }
    let meter = Meter::start(store).await?;
    match rate {
        Rate::Batches => store.enqueue(tasks, batch).await?,
        Rate::Singly => store.enqueue_singly(tasks).await?,
        Rate::Drain => store.drain(tasks, batch).await?,
        Rate::Steady => store.steady(tasks, batch).await?,
    }
    let used = meter.stop().await?;
    if matches!(rate, Rate::Batches | Rate::Singly) {
        store.drain(tasks, batch).await?;
    }
    Ok(used.over(tasks))
}
