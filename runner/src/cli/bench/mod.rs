//! `runner bench`: what the configured broker and this machine do, measured with the real client and the real
//! worker, in queues of its own.
//!
//! Figures move with the machine; compare those of one run.

mod bare_store;
mod due;
mod figure;
mod idle;
mod interrupt;
mod latency;
mod meter;
mod rate;
mod rates;
mod rig;

use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use runner_core::task::QueueName;
use runner_queue::{Broker, RemoveError};
use tokio::time::Instant;

use super::{CommandContext, open, print, queue};
use bare_store::BareStore;
use figure::{Figure, HEADINGS};
use interrupt::Interrupt;
use rate::Rate;
use rig::Bench;

/// Rounds of each rate when it is compared, unless --rounds says otherwise.
const ROUNDS: u32 = 5;

/// For how long to retry removing a queue with abandoned claims: longer than the leases of the bare store last.
const ABANDONED: Duration = Duration::from_secs(15);

/// Pause between two tries.
const TRY: Duration = Duration::from_millis(250);

/// Measure the configured broker with tasks that do nothing.
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
    A 99th percentile is shown from 100 samples on: --tasks 10000.\n\n\
    --json: an array of objects {measure, value, unit, broker}; rates also have {rounds, cpu_us, store_cpu_us} and,\n\
    with --ceiling, {ceiling, ratio, ceiling_cpu_us, ceiling_store_cpu_us}, latencies and dues {samples}. Times of CPU\n\
    are microseconds a task; those of the store are left out when it has no process of its own. Values of several\n\
    rounds are medians.\n\n\
    Works in queues called bench-… that no worker serves, and removes them at the end, also when it is asked to stop\n\
    (exit code 130 or 143; asked twice it leaves them). A run that was killed leaves them behind: `runner queue rm\n\
    bench-… --force`.")]
pub struct BenchCommand {
    /// What to measure
    #[arg(value_enum, default_value_t = What::All)]
    what: What,
    /// Number of tasks; latency and due take a hundredth
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    tasks: u32,
    /// Number of tasks that the worker runs at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
    /// Size of each payload in bytes
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    payload: u32,
    /// Task types that the worker knows besides the one it runs
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    types: u32,
    /// Compare rates with the best that the store can do (needs a build with the feature `ceiling`)
    #[arg(long)]
    ceiling: bool,
    /// Number of times each rate is measured [default: 1, with --ceiling 5]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// Print a JSON array of objects
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
    pub async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let broker = context.broker().await?;
        let queue = QueueName::new(format!("bench-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]))?;
        let bare = QueueName::new(format!("{queue}-ceiling"))?;
        let like = rig::task_for(&bare, self.payload as usize);
        let place = broker.describe();
        let mut queues: Vec<QueueName> = idle::queues(&queue)?.into_keys().collect();
        queues.push(bare);
        let bench = Bench {
            other: open::open_broker(context.settings()?, context.clock.clone()).await?,
            bare: match self.ceiling {
                true => Some(BareStore::open(context.settings()?, context.clock.clone(), &like).await?),
                false => None,
            },
            broker,
            clock: context.clock.clone(),
            queue,
            tasks: self.tasks as usize,
            concurrency: self.concurrency as usize,
            payload: self.payload as usize,
            types: self.types as usize,
            worker: tokio::sync::Mutex::default(),
        };
        let mut interrupt = Interrupt::listen()?;
        let figures = tokio::select! {
            figures = self.measure(&bench) => figures,
            stopped = interrupt.stopped() => Err(stopped.into()),
        };
        let removed = tokio::select! {
            removed = clean(&bench, &queues) => removed.context("a queue of the measurement is left behind"),
            stopped = interrupt.stopped() => Err(anyhow::Error::new(stopped).context("the queues of the measurement are left behind")),
        };
        // An interruption is reported first, and what is left behind with it.
        let figures = match (figures, removed) {
            (Ok(figures), Ok(())) => figures,
            (Err(error), Err(left)) => return Err(error.context(format!("{left:#}"))),
            (Err(error), Ok(())) | (Ok(_), Err(error)) => return Err(error),
        };
        if self.json {
            let objects = figures.iter().map(|figure| figure.object(&place));
            return Ok(print::json(&objects.collect::<Vec<_>>())?);
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
                figures.push(rates::measure(bench, *rate, rounds).await?);
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

/// Ends the worker and removes those of the queues that were created.
async fn clean(bench: &Bench, queues: &[QueueName]) -> anyhow::Result<()> {
    bench.end().await;
    if let Some(bare) = &bench.bare {
        bare.settle().await?;
    }
    let broker = bench.broker.as_ref();
    for known in broker.queues_of(queues).await? {
        remove(broker, &known.name).await?;
    }
    Ok(())
}

/// Removes a queue once its abandoned claims have expired.
#[allow(clippy::disallowed_methods)] // a pause between two tries, which end in time
async fn remove(broker: &dyn Broker, name: &QueueName) -> anyhow::Result<()> {
    let end = Instant::now() + ABANDONED;
    loop {
        match queue::remove(broker, name, true).await {
            Err(error) if is_held(&error) && Instant::now() < end => tokio::time::sleep(TRY).await,
            removed => return removed.map(drop),
        }
    }
}

fn is_held(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(RemoveError::Active { .. }))
}
