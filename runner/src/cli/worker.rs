//! `runner worker`: pauses and resumes one worker or all of a host, and sets how many tasks it runs at once, while it runs.

use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};
use runner_queue::{Broker, OrderTarget, ServerStatus, ServerView, WorkerOrder};

use super::audited::{Audited, actor};
use super::{CommandContext, print};

/// How long a command waits until the order is obeyed: two looks of the worker and a heartbeat.
const PATIENCE: Duration = Duration::from_secs(12);

/// How long it may take until a worker has its own concurrency again.
const RETURN: Duration = Duration::from_secs(5);

/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// Pause or resume a worker, or set how many tasks it runs at once
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner worker pause web-1:4711\n  \
    runner worker pause --host web-1\n  \
    runner worker resume --host web-1\n  \
    runner worker set web-1:4711 --concurrency 8\n  \
    runner worker set --host web-1 --concurrency default\n\n\
    `runner ls servers` lists the workers. An order for one worker holds until it ends; one for a host also for workers that start there\n\
    later, until it is taken back or nothing has obeyed it for 30 days. Workers in Go take no orders.")]
pub struct WorkerCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Take no new tasks; running ones go on
    Pause(Whom),
    /// Take new tasks again
    Resume(Whom),
    /// Set how many tasks run at once
    Set {
        #[command(flatten)]
        whom: Whom,
        /// From 1 to 10,000, or `default`: what the worker's settings say
        #[arg(long, value_name = "N", value_parser = concurrency)]
        concurrency: Concurrency,
    },
    /// List the orders in force for this worker or host
    Show(Whom),
}

/// A worker or a host.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Whom {
    /// `host:pid`, or the id of the worker
    #[arg(value_name = "WORKER")]
    worker: Option<String>,
    /// All workers of this host, also later ones
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
}

/// What `--concurrency` says; `None`: the settings.
#[derive(Debug, Clone, Copy)]
struct Concurrency(Option<u32>);

fn concurrency(text: &str) -> Result<Concurrency, String> {
    if text == "default" {
        return Ok(Concurrency(None));
    }
    let number = text.parse().ok().filter(|n| (1..=10_000).contains(n));
    let number = number.ok_or("it must be a whole number from 1 to 10000, or default")?;
    Ok(Concurrency(Some(number)))
}

impl WorkerCommand {
    pub async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let broker = context.looked_at().await?;
        let broker = broker.as_ref();
        match self.verb {
            Verb::Show(whom) => show(context, broker, &whom.found(broker).await?).await,
            Verb::Pause(whom) => {
                let change = |order: &mut WorkerOrder, _: &WorkerOrder| order.pause();
                give(context, broker, &whom, "worker.pause", change).await
            }
            Verb::Resume(whom) => give(context, broker, &whom, "worker.resume", WorkerOrder::resume).await,
            Verb::Set { whom, concurrency } => {
                let change = move |order: &mut WorkerOrder, _: &WorkerOrder| order.concurrency = concurrency.0;
                give(context, broker, &whom, "worker.set", change).await
            }
        }
    }
}

/// Whom an order reaches.
struct Found {
    target: OrderTarget,
    /// `host:pid`, or the host.
    name: String,
    workers: Vec<ServerView>,
}

impl Whom {
    async fn found(&self, broker: &dyn Broker) -> anyhow::Result<Found> {
        let servers = broker.servers().await?;
        if let Some(host) = &self.host {
            return Ok(Found {
                target: OrderTarget::Host(host.clone()),
                name: format!("host {host}"),
                workers: servers.into_iter().filter(|one| one.info.host == *host).collect(),
            });
        }
        let wanted = self.worker.as_deref().unwrap_or_default();
        let names: Vec<String> = servers.iter().map(name_of).collect();
        let found = servers
            .into_iter()
            .find(|one| one.info.id == wanted || name_of(one) == wanted);
        match found {
            Some(worker) => Ok(Found {
                target: OrderTarget::Worker(worker.info.id.clone()),
                name: name_of(&worker),
                workers: vec![worker],
            }),
            None if names.is_empty() => {
                bail!("no worker {wanted}: none is running; --host gives an order to those that start later")
            }
            None => bail!("no worker {wanted}; running now: {}", names.join(", ")),
        }
    }
}

fn name_of(server: &ServerView) -> String {
    format!("{}:{}", server.info.host, server.info.pid)
}

/// Changes the order for a target, and waits until those that it reaches obey it.
async fn give(
    context: &CommandContext,
    broker: &dyn Broker,
    whom: &Whom,
    action: &'static str,
    change: impl Fn(&mut WorkerOrder, &WorkerOrder),
) -> anyhow::Result<()> {
    let found = whom.found(broker).await?;
    let before = write_order(context, broker, &found, action, change).await?;
    if found.workers.is_empty() {
        return Ok(print::done(&format!(
            "{} has no worker now; the order holds for those that start there",
            found.name
        ))?);
    }
    for worker in &found.workers {
        print::done(&obeyed(broker, worker, before).await?)?;
    }
    Ok(())
}

/// Changes the order for one live worker, without waiting until it is obeyed.
pub(super) async fn order_one(
    context: &CommandContext,
    broker: &dyn Broker,
    id: &str,
    action: &'static str,
    change: impl Fn(&mut WorkerOrder, &WorkerOrder),
) -> anyhow::Result<()> {
    let whom = Whom {
        worker: Some(id.to_owned()),
        host: None,
    };
    let found = whom.found(broker).await?;
    write_order(context, broker, &found, action, change).await?;
    Ok(())
}

/// Changes the order for a target. Returns the concurrency of the earlier one.
async fn write_order(
    context: &CommandContext,
    broker: &dyn Broker,
    found: &Found,
    action: &'static str,
    change: impl Fn(&mut WorkerOrder, &WorkerOrder),
) -> anyhow::Result<Option<u32>> {
    let mut order = WorkerOrder::read(broker, &found.target).await?;
    let host = match (&found.target, found.workers.first()) {
        (OrderTarget::Worker(_), Some(worker)) => {
            WorkerOrder::read(broker, &OrderTarget::Host(worker.info.host.clone())).await?
        }
        _ => WorkerOrder::default(),
    };
    let before = order.concurrency;
    change(&mut order, &host);
    order.by = actor();
    order.at = context.clock.now();
    order.write(broker, &found.target).await?;
    Audited::done(action, &found.name).write(broker).await;
    Ok(before)
}

/// What a worker does once it has obeyed; `before` is the concurrency of the earlier order.
async fn obeyed(broker: &dyn Broker, worker: &ServerView, before: Option<u32>) -> anyhow::Result<String> {
    let name = name_of(worker);
    let [own, host] = OrderTarget::of(&worker.info);
    let wanted = WorkerOrder::read(broker, &own)
        .await?
        .or(WorkerOrder::read(broker, &host).await?);
    // Only the worker knows the concurrency of its settings, to which it returns; it may be the same.
    let left = before.filter(|_| wanted.concurrency.is_none());
    let began = tokio::time::Instant::now();
    loop {
        let servers = broker.servers().await?;
        let Some(now) = servers.into_iter().find(|one| one.info.id == worker.info.id) else {
            return Ok(format!("{name} has ended"));
        };
        let paused = now.info.status == ServerStatus::Stopped;
        let returned = left.is_none_or(|n| n != now.info.concurrency) || began.elapsed() >= RETURN;
        let obeys = paused == (wanted.paused == Some(true))
            && wanted.concurrency.is_none_or(|n| n == now.info.concurrency)
            && returned;
        let state = match (paused, now.info.active) {
            (true, 0) => "paused, no task is running".to_owned(),
            (true, n) => format!("paused, {} still running", print::task_count(u64::from(n))),
            (false, _) => format!("takes tasks, {} at once", now.info.concurrency),
        };
        if obeys {
            return Ok(format!("{name} {state}"));
        }
        if began.elapsed() >= PATIENCE {
            return Ok(format!(
                "{name} {state}: it has not obeyed within {} s. It may be a worker in Go, which takes no orders, or be paused by a signal",
                PATIENCE.as_secs()
            ));
        }
        #[allow(clippy::disallowed_methods)] // between two looks
        tokio::time::sleep(LOOK).await;
    }
}

async fn show(context: &CommandContext, broker: &dyn Broker, found: &Found) -> anyhow::Result<()> {
    let zone = &context.settings()?.source.zone;
    let order = WorkerOrder::read(broker, &found.target).await?;
    if order.is_empty() {
        return Ok(print::done(&format!("{}: no order", found.name))?);
    }
    let paused = match order.paused {
        Some(true) => "yes",
        Some(false) => "no, whatever is ordered for its host",
        None => "not ordered",
    };
    let concurrency = order.concurrency.map_or("not ordered".to_owned(), |n| n.to_string());
    let rows = [
        vec!["paused".to_owned(), paused.to_owned()],
        vec!["concurrency".to_owned(), concurrency],
        vec!["ordered by".to_owned(), order.by.clone()],
        vec!["at".to_owned(), print::instant(order.at, zone)],
    ];
    Ok(print::text(&print::facts(["WORKER", &found.name], &rows))?)
}
