//! What an idle worker costs: processor time, and commands to the store.

use std::collections::BTreeMap;
use std::time::Duration;

use runner_core::task::QueueName;
use runner_sdk::Registry;

use super::figure::Figure;
use super::meter::Meter;
use super::rig::{Bench, KIND};

/// Queues that the worker serves.
const QUEUES: usize = 3;

/// How long to wait until the worker is idle.
const SETTLING: Duration = Duration::from_secs(2);

/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(10);

/// Processor time of this process and of the store, and commands a second.
#[allow(clippy::disallowed_methods)] // doing nothing for a while is what is measured
pub(super) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let handlers = Registry::new()
        .on(KIND, |_: runner_sdk::Ctx| std::future::ready(()))
        .build()?;
    bench.start(handlers, queues(&bench.queue)?).await;
    tokio::time::sleep(SETTLING).await;
    let meter = Meter::start(bench.broker.as_ref()).await?;
    tokio::time::sleep(WATCHED).await;
    let used = meter.stop().await?;
    bench.end().await;
    let seconds = used.took.as_secs_f64();
    let percent = |cpu: Duration| cpu.as_secs_f64() / seconds * 100.0;
    let mut figures = vec![Figure::plain("idle, cpu", percent(used.cpu), "%")];
    if let Some(store) = used.store {
        figures.push(Figure::plain("idle, store cpu", percent(store.cpu), "%"));
        let rate = store.commands as f64 / seconds;
        figures.push(Figure::plain("idle, store commands", rate, "/s"));
    }
    Ok(figures)
}

/// The measurement's own queue and others beside it.
pub(super) fn queues(own: &QueueName) -> anyhow::Result<BTreeMap<QueueName, u32>> {
    let mut queues = BTreeMap::from([(own.clone(), 1)]);
    for n in 1..QUEUES {
        queues.insert(QueueName::new(format!("{own}-{n}"))?, 1);
    }
    Ok(queues)
}
