//! `runner bench`: what the configured broker and this machine do, measured with the real client and the real
//! worker, in a queue of its own.
//!
//! Figures move with the machine; compare those of one run.

mod measure;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use runner_core::task::QueueName;
use serde_json::json;

use super::{Context, print, queue};
use measure::{Bench, Figure};

/// Measures the configured broker with tasks that do nothing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner bench\n  \
    runner bench drain --tasks 100000 --concurrency 64 --json\n\n\
    enqueue: batches from one process, and one by one · drain: a full queue, one worker ·\n\
    latency: one task every 10 ms, an idle worker · steady: enqueue and run at the same time.\n\
    Works in a queue called bench-… that no worker serves, and removes it at the end. A run that was cut short\n\
    leaves it behind: `runner queue rm bench-… --force`.")]
pub struct BenchCommand {
    /// What to measure
    #[arg(value_enum, default_value_t = What::All)]
    what: What,
    /// Tasks in all; latency takes a hundredth
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    tasks: u32,
    /// Tasks that the worker runs at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
    /// Bytes of each payload
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    payload: u32,
    /// As an array of objects
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    All,
    Enqueue,
    Drain,
    Latency,
    Steady,
}

impl BenchCommand {
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let broker = context.broker().await?;
        let queue = QueueName::new(format!("bench-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]))?;
        let place = broker.describe();
        let bench = Bench {
            broker,
            clock: context.clock.clone(),
            queue,
            tasks: self.tasks as usize,
            concurrency: self.concurrency as usize,
            payload: self.payload as usize,
        };
        let figures = self.measure(&bench).await;
        let removed = queue::remove(bench.broker.as_ref(), &bench.queue, true).await;
        let figures = figures?;
        removed.context("the queue of the measurement is left behind")?;
        if self.json {
            let objects = figures
                .iter()
                .map(|f| json!({"measure": f.name, "value": f.value, "unit": f.unit, "broker": place}));
            return Ok(print::json(&objects.collect())?);
        }
        let rows: Vec<Vec<String>> = figures
            .iter()
            .map(|f| vec![f.name.to_owned(), format!("{:.2}", f.value), f.unit.to_owned()])
            .collect();
        let title = format!(
            "{place}, {} tasks of {} bytes, concurrency {}\n",
            self.tasks, self.payload, self.concurrency
        );
        Ok(print::text(
            &(title + &print::table(&["MEASURE", "VALUE", "UNIT"], &rows)),
        )?)
    }

    async fn measure(&self, bench: &Bench) -> anyhow::Result<Vec<Figure>> {
        let wanted = |what| self.what == What::All || self.what == what;
        let mut figures: Vec<Figure> = Vec::new();
        if wanted(What::Enqueue) {
            figures.push(bench.enqueue_batches().await?);
            bench.drain().await?;
            figures.push(bench.enqueue_singly().await?);
            bench.drain().await?;
        }
        if wanted(What::Drain) {
            bench.enqueue_batches().await?;
            figures.push(bench.drain().await?);
        }
        if wanted(What::Latency) {
            figures.extend(bench.latency().await?);
        }
        if wanted(What::Steady) {
            figures.push(bench.steady().await?);
        }
        Ok(figures)
    }
}
