//! `runner bench`: what the configured broker and this machine do, measured with the real client and the real
//! worker, in queues of its own.
//!
//! Figures move with the machine; compare those of one run.

mod due;
mod figure;
mod idle;
mod latency;
mod meter;
mod rates;
mod rig;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use runner_core::task::QueueName;
use runner_queue::Broker;

use super::{Context, open, print, queue};
use figure::{Figure, HEADINGS};
use rates::Rate;
use rig::Bench;

/// Rounds of each rate when it is compared, unless told otherwise.
const ROUNDS: u32 = 5;

/// Measures the configured broker with tasks that do nothing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner bench\n  \
    runner bench drain --tasks 100000 --concurrency 64 --json\n  \
    runner bench drain --ceiling --rounds 9\n\n\
    enqueue: batches from one process, and one by one · drain: a full queue, one worker ·\n\
    latency: one task every 10 ms, an idle worker, enqueued by us and by another program ·\n\
    steady: enqueue and run at the same time · due: from the due time to the start, scheduled and tried again ·\n\
    idle: processor time and commands of a worker of three queues with nothing to do, for 10 s.\n\n\
    --ceiling measures the bare store too (the same effects in large batches, no decoding, no handler), in turn with\n\
    the program, and prints the ratio. CPU is processor time for each task: of this process, of the store's.\n\n\
    --json: an array of objects {measure, value, unit, broker}; rates also have {rounds, cpu_us, store_cpu_us} and,\n\
    with --ceiling, {ceiling, ratio, ceiling_cpu_us, ceiling_store_cpu_us}. Times of CPU are microseconds a task; those\n\
    of the store are left out when it has no process of its own. Values of several rounds are medians.\n\n\
    Works in queues called bench-… that no worker serves, and removes them at the end. A run that was cut short\n\
    leaves them behind: `runner queue rm bench-… --force`.")]
pub struct BenchCommand {
    /// What to measure
    #[arg(value_enum, default_value_t = What::All)]
    what: What,
    /// Tasks in all; latency and due take a hundredth
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    tasks: u32,
    /// Tasks that the worker runs at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
    /// Bytes of each payload
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    payload: u32,
    /// Hold rates against the best that the store can do
    #[arg(long)]
    ceiling: bool,
    /// How often each rate is measured [default: 1, with --ceiling 5]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
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
    Due,
    Idle,
}

impl BenchCommand {
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let broker = context.broker().await?;
        let queue = QueueName::new(format!("bench-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]))?;
        let bare = QueueName::new(format!("{queue}-ceiling"))?;
        let like = rig::task_for(&bare, self.payload as usize);
        let place = broker.describe();
        let mut queues: Vec<QueueName> = idle::queues(&queue)?.into_keys().collect();
        queues.push(bare);
        let bench = Bench {
            store: open::ceiling(context.settings()?, context.clock.clone(), &like).await?,
            broker,
            clock: context.clock.clone(),
            queue,
            tasks: self.tasks as usize,
            concurrency: self.concurrency as usize,
            payload: self.payload as usize,
            worker: tokio::sync::Mutex::default(),
        };
        let figures = self.measure(&bench).await;
        let removed = clean(bench.broker.as_ref(), &queues).await;
        let figures = figures?;
        removed.context("a queue of the measurement is left behind")?;
        if self.json {
            let objects = figures.iter().map(|figure| figure.object(&place));
            return Ok(print::json(&objects.collect())?);
        }
        let rows: Vec<Vec<String>> = figures.iter().map(Figure::row).collect();
        let title = format!(
            "{place}, {} tasks of {} bytes, concurrency {}\n",
            self.tasks, self.payload, self.concurrency
        );
        Ok(print::text(&(title + &print::table(&HEADINGS, &rows)))?)
    }

    async fn measure(&self, bench: &Bench) -> anyhow::Result<Vec<Figure>> {
        let wanted = |what| self.what == What::All || self.what == what;
        let rounds = self.rounds.unwrap_or(if self.ceiling { ROUNDS } else { 1 }) as usize;
        let mut figures: Vec<Figure> = Vec::new();
        for (what, rates) in [
            (What::Enqueue, &[Rate::Batches, Rate::Singly][..]),
            (What::Drain, &[Rate::Drain]),
            (What::Steady, &[Rate::Steady]),
        ] {
            for rate in rates.iter().filter(|_| wanted(what)) {
                figures.push(rates::measure(bench, *rate, rounds, self.ceiling).await?);
            }
        }
        if wanted(What::Latency) {
            figures.extend(latency::measure(bench).await?);
        }
        if wanted(What::Due) {
            figures.extend(due::measure(bench).await?);
        }
        if wanted(What::Idle) {
            figures.extend(idle::measure(bench).await?);
        }
        Ok(figures)
    }
}

/// Removes those of the queues that came into being.
async fn clean(broker: &dyn Broker, queues: &[QueueName]) -> anyhow::Result<()> {
    for known in broker.queues().await? {
        if queues.contains(&known.name) {
            queue::remove(broker, &known.name, true).await?;
        }
    }
    Ok(())
}
