//! `runner queue`: pauses, resumes or removes a queue, and shows its daily history and its groups.

use anyhow::bail;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use runner_core::task::QueueName;
use runner_queue::{Broker, InspectQueues, MAX_ACTED, Page, Pause, RemoveError};
use serde_json::json;

use super::audited::{Audited, actor};
use super::exit::Usage;
use super::{CommandContext, print, values};
use crate::queue_pause::{self, LONGEST_QUEUE_PAUSE};

/// Additional calls when a queue is removed, for tasks that are enqueued meanwhile.
const SPARE_CALLS: u64 = 10;

/// Pause, resume or remove a queue, or show its daily history or its groups.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner queue pause low\n  \
    runner queue history low --days 30\n  \
    runner queue groups low\n  \
    runner queue rm bench-1234 --force")]
pub struct QueueCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Pause(PauseQueue),
    /// Take tasks from it again
    Resume {
        /// Name of the queue
        name: String,
    },
    Rm(Remove),
    History(History),
    Groups(Groups),
}

/// Stop taking tasks from it; running ones go on, and new ones can still be enqueued
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    runner queue pause mail --for 2h --note 'the mail server moves'\n\n\
    Pausing a paused queue gives the pause another end; its beginning stays, and so does its note unless there is a new \
    one. Ends are kept by running instances of this program, to within a few seconds.")]
struct PauseQueue {
    /// Name of the queue
    name: String,
    /// The reason, on one line
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Resume automatically after this time, at most 366 days
    #[arg(long = "for", value_name = "DURATION", value_parser = values::seconds)]
    length: Option<std::time::Duration>,
}

/// Remove it with all its tasks and counters
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    runner queue rm old-imports --force\n\n\
    Gone are its tasks in all states, their attempts and uniqueness locks, its counters and its pause. A queue that has \
    tasks is removed with --force only; one that has active tasks is never removed: pause it and wait for them, or \
    cancel them. Those whose lease expired more than 5 s ago count as any other. A queue that a running worker serves comes back, empty, with the worker's next heartbeat.")]
struct Remove {
    /// Name of the queue
    name: String,
    /// Delete its tasks too
    #[arg(long)]
    force: bool,
    /// Print what was done as a JSON object
    #[arg(long)]
    json: bool,
}

/// Show how many tasks it processed on each day (UTC), today first
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    runner queue history default --days 30 --json | jq 'map(.failed) | add'\n\n\
    Failures are among the processed ones. Days are remembered for 90 days.")]
struct History {
    /// Name of the queue
    name: String,
    /// Number of days
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u8).range(1..=90))]
    days: u8,
    /// Print a JSON array of objects
    #[arg(long)]
    json: bool,
}

/// List its groups and how many tasks wait in each
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    runner queue groups default --json | jq -r '.[].name'\n\n\
    Tasks that are becoming one right now are not counted. Those of one group are listed by `runner ls tasks --group`.")]
struct Groups {
    /// Name of the queue
    name: String,
    /// Page number, from 1
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    page: u32,
    /// Groups on a page
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=1000))]
    size: u16,
    /// Print a JSON array of objects
    #[arg(long)]
    json: bool,
}

impl QueueCommand {
    pub async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        match self.verb {
            Verb::Pause(pause) => pause.run(context).await,
            Verb::Resume { name } => resume(context, &name).await,
            Verb::Rm(remove) => remove.run(context).await,
            Verb::History(history) => history.run(context).await,
            Verb::Groups(groups) => groups.run(context).await,
        }
    }
}

fn named(name: &str) -> anyhow::Result<QueueName> {
    Ok(QueueName::new(name).map_err(|e| Usage(e.to_string()))?)
}

/// How many tasks the queue has, which must exist.
pub(super) async fn known(broker: &dyn InspectQueues, queue: &QueueName) -> anyhow::Result<u64> {
    match broker.queues_of(std::slice::from_ref(queue)).await?.first() {
        Some(info) => Ok(info.size()),
        None => bail!("no queue {queue}; `runner ls queues` shows those that exist"),
    }
}

async fn resume(context: &CommandContext, name: &str) -> anyhow::Result<()> {
    let queue = named(name)?;
    // Without a store there is no queue.
    let broker = context.looked_at().await?;
    known(&*broker, &queue).await?;
    let line = match queue_pause::release(&*broker, &queue).await? {
        true => "is resumed",
        false => "was not paused",
    };
    Audited::done("queue.resume", &queue)
        .becomes(line)
        .write(&*broker)
        .await;
    Ok(print::done(&format!("{queue} {line}"))?)
}

impl PauseQueue {
    async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let queue = named(&self.name)?;
        if self.length.is_some_and(|length| length > LONGEST_QUEUE_PAUSE) {
            return Err(
                Usage("--for must be at most 366 days; without it a person resumes the queue".to_owned()).into(),
            );
        }
        let broker = context.looked_at().await?;
        known(&*broker, &queue).await?;
        let now = broker.now().await?;
        let until = self.length.and_then(|length| now.checked_add(length).ok());
        let pause = Pause {
            until: until.and_then(|until| Timestamp::from_second(until.as_second()).ok()),
            ..Pause::by(actor())
        };
        let until = pause.until;
        let pause = pause.because(self.note.as_deref());
        let was_running = queue_pause::hold(&*broker, &queue, pause).await?;
        let mut line = if was_running { "is paused" } else { "was already paused" }.to_owned();
        if let Some(until) = until {
            line += &format!(
                "; it is resumed at {}",
                print::instant(until, &context.settings()?.source.zone)
            );
        }
        let audited = Audited::done("queue.pause", &queue).because(self.note.as_deref());
        audited.becomes(&line).write(&*broker).await;
        Ok(print::done(&format!("{queue} {line}"))?)
    }
}

impl Remove {
    async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let queue = named(&self.name)?;
        let broker = context.looked_at().await?;
        let tasks = remove(broker.as_ref(), &queue, self.force).await?;
        let removed = Audited::done("queue.remove", &queue);
        removed
            .ended(format!("done, with {}", print::task_count(tasks)))
            .write(&*broker)
            .await;
        if self.json {
            return Ok(print::done_as_json(&json!({"queue": queue, "tasks": tasks}))?);
        }
        Ok(print::done(&format!(
            "{queue} is removed, with {}",
            print::task_count(tasks)
        ))?)
    }
}

/// Removes a queue call by call. Returns how many tasks it had.
///
/// # Errors
///
/// When it cannot be removed.
pub(super) async fn remove(broker: &dyn Broker, queue: &QueueName, force: bool) -> anyhow::Result<u64> {
    let calls = known(broker, queue).await? / MAX_ACTED as u64 + SPARE_CALLS;
    let mut tasks = 0;
    for _ in 0..calls {
        let removed = match broker.remove_queue(queue, force).await {
            Ok(removed) => removed,
            Err(RemoveError::Broker(error)) => return Err(error.into()),
            Err(error @ RemoveError::NotEmpty { .. }) => bail!("{error}; --force deletes them too"),
            Err(error) => return Err(error.into()),
        };
        tasks += removed.tasks;
        if !removed.more {
            return Ok(tasks);
        }
    }
    bail!("{tasks} tasks were deleted, and more keep coming; {queue} is paused: stop its producers and try again")
}

impl History {
    async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let queue = named(&self.name)?;
        let broker = context.looked_at().await?;
        known(&*broker, &queue).await?;
        let days = broker.history(&queue, usize::from(self.days)).await?;
        if self.json {
            return Ok(print::json(&serde_json::to_value(&days)?)?);
        }
        let rows: Vec<Vec<String>> = days
            .iter()
            .map(|d| vec![d.day.to_string(), d.processed.to_string(), d.failed.to_string()])
            .collect();
        Ok(print::text(&print::table(&["DAY", "PROCESSED", "FAILED"], &rows))?)
    }
}

impl Groups {
    async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let queue = named(&self.name)?;
        let broker = context.looked_at().await?;
        known(&*broker, &queue).await?;
        let page = Page {
            number: self.page as usize,
            size: usize::from(self.size),
        };
        let groups = broker.groups(&queue, page).await?.groups;
        if self.json {
            return Ok(print::json(&serde_json::to_value(&groups)?)?);
        }
        let rows: Vec<Vec<String>> = groups
            .into_iter()
            .map(|group| vec![group.name, group.tasks.to_string()])
            .collect();
        Ok(print::text(&print::table(&["GROUP", "TASKS"], &rows))?)
    }
}
