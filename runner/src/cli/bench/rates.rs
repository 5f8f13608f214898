//! Tasks a second: enqueueing, draining a full queue, both at once; through the program and through the bare store,
//! in turn, because a machine is not the same from one minute to the next.

use std::sync::Arc;

use anyhow::Context as _;

use super::bare_store::BareStore;
use super::figure::Figure;
use super::meter::{Meter, Sample};
use super::rate::Rate;
use super::rig::{Bench, Observed, PATIENCE, put};

/// This many rounds of one rate, each after the bare store if that is measured too.
pub(super) async fn measure(bench: &Bench, rate: Rate, rounds: usize) -> anyhow::Result<Figure> {
    let batches = bench.bare.as_ref().map_or(&[][..], BareStore::batches);
    let mut forms = vec![Vec::with_capacity(rounds); batches.len()];
    let mut samples = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        if let Some(bare) = &bench.bare {
            for (form, batch) in forms.iter_mut().zip(batches) {
                let sample = tokio::time::timeout(
                    PATIENCE,
                    bare.rate(bench.broker.as_ref(), rate, rate.tasks(bench.tasks), *batch),
                );
                form.push(sample.await.context("the store did not finish in time")??);
            }
        }
        samples.push(ours(bench, rate).await?);
    }
    Ok(Figure::rate(rate.name(), &samples, &forms))
}

/// Through the program. Leaves the queue empty.
async fn ours(bench: &Bench, rate: Rate) -> anyhow::Result<Sample> {
    let tasks = rate.tasks(bench.tasks);
    let store = bench.broker.as_ref();
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
                put(&*bench.broker, &task).await?;
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
