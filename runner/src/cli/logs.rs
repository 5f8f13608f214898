//! `runner logs`: what a run printed, and with `--follow` what it prints. Reads only.

use std::borrow::Cow;

use anyhow::bail;
use clap::Args;
use runner_core::task::{QueueName, TaskId, TaskState};
use runner_queue::{Attempt, Broker, LiveRun, MAX_OUTPUT_BYTES, Page, RunRecord};

use super::follow::{ended, follow, print_text, result_of};
use super::function_runs::{QueueArg, TYPE, functions, no_function, runs_of};
use super::{CommandContext, print};
use crate::run_output;

/// Tasks of a queue that continue, among which a function's are searched.
const SEARCHED: Page = Page { number: 1, size: 1000 };

/// Print what a run printed
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner logs nightly-backup\n  \
    runner logs nightly-backup -f\n  \
    runner logs 6a1f… --queue low\n\n\
    NAME stands for the run of the function or type that continues, or else for its last one. Standard output has the text only; what is\n\
    to be said about it is on standard error. A run that continues shows its last 32 KiB.")]
pub struct LogsCommand {
    /// Name of a function, task type, or id of a task
    #[arg(value_name = "NAME|ID")]
    of: String,
    /// Print what the run prints until it has ended, further attempts included
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    queue: QueueArg,
}

/// What is printed.
enum Found {
    /// A task that exists.
    Task(QueueName, TaskId),
    /// A run whose task is gone.
    Record(Box<RunRecord>),
}

impl LogsCommand {
    pub async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let broker = context.looked_at().await?;
        let broker = broker.as_ref();
        let found = match self.task(broker).await? {
            Some(found) => found,
            None => self.of_function(context, broker).await?,
        };
        match found {
            Found::Record(record) => print_record(broker, &record).await,
            Found::Task(queue, id) if self.follow => follow(broker, &queue, &id).await.map(|_| ()),
            Found::Task(queue, id) => print_task(broker, &queue, &id).await,
        }
    }

    /// The task of this id, or the record of its run.
    async fn task(&self, broker: &dyn Broker) -> anyhow::Result<Option<Found>> {
        let Ok(id) = TaskId::new(self.of.as_str()) else {
            return Ok(None);
        };
        let queues = self.queue.searched(broker).await?;
        let holding = broker.find(&id).await?;
        if let Some(queue) = holding.into_iter().find(|queue| queues.contains(queue)) {
            return Ok(Some(Found::Task(queue, id)));
        }
        for queue in &queues {
            if let Some(record) = broker.run(queue, &id).await? {
                return Ok(Some(Found::Record(Box::new(record))));
            }
        }
        Ok(None)
    }

    /// The run of this function or type that continues, or its last one.
    async fn of_function(&self, context: &CommandContext, broker: &dyn Broker) -> anyhow::Result<Found> {
        let functions = functions(context).await?;
        let type_named = self.of.strip_prefix(TYPE);
        let function = functions.get(&self.of).filter(|_| type_named.is_none());
        let kind = function.map_or_else(|| type_named.unwrap_or(&self.of).to_owned(), |f| f.task_type());
        // One that waits for its next attempt continues as well.
        for state in [TaskState::Active, TaskState::Retry] {
            for queue in self.queue.searched(broker).await? {
                let page = broker.tasks(&queue, state, SEARCHED).await?;
                let newest = page.tasks.into_iter().rev().find(|task| task.record.kind == kind);
                if let Some(task) = newest {
                    return Ok(Found::Task(queue, task.record.id));
                }
            }
        }
        match runs_of(broker, &self.of, &self.queue).await?.runs.into_iter().next() {
            Some(last) => {
                if self.follow {
                    print::note(&format!("{} is not running; this is its last run", self.of));
                }
                // Without a record the task has it: see `add_seen_runs`.
                Ok(match last.known_length() {
                    Some(_) => Found::Record(Box::new(last)),
                    None => Found::Task(last.queue, last.task),
                })
            }
            None if functions.get(&self.of).is_some() => bail!("{} has not run, as far as is remembered", self.of),
            None => bail!(no_function(&self.of, &functions.names())),
        }
    }
}

/// The whole output of an attempt: its record in the task has room for less than the record of the run.
async fn whole<'a>(
    broker: &dyn Broker,
    queue: &QueueName,
    id: &TaskId,
    attempt: &Attempt,
    log: &'a str,
) -> anyhow::Result<Cow<'a, str>> {
    if log.len() <= MAX_OUTPUT_BYTES {
        return Ok(Cow::Borrowed(log));
    }
    let record = broker.run(queue, id).await?;
    let whole = match record.filter(|record| record.attempt == attempt.number && record.output_cut) {
        Some(record) => run_output::of(broker, &record).await?,
        None => None,
    };
    // The record alone has less.
    Ok(whole
        .filter(|whole| whole.len() > log.len())
        .map_or(Cow::Borrowed(log), Cow::Owned))
}

async fn print_record(broker: &dyn Broker, record: &RunRecord) -> anyhow::Result<()> {
    let output = run_output::of(broker, record).await?;
    print_text(output.as_deref().unwrap_or_default())?;
    ended(record.attempt, record.outcome, record.error.as_deref());
    Ok(())
}

/// The output of the current attempt so far, or that of the last one.
async fn print_task(broker: &dyn Broker, queue: &QueueName, id: &TaskId) -> anyhow::Result<()> {
    let Some(task) = broker.glance(queue, id).await? else {
        return match broker.run(queue, id).await? {
            Some(record) => print_record(broker, &record).await,
            None => bail!("task {id} has ended meanwhile, and no record of it is kept"),
        };
    };
    if task.state == TaskState::Active {
        if let Some(live) = LiveRun::of(broker, &task).await? {
            print_text(&live.output)?;
        }
        print::note("still running; -f follows it");
        return Ok(());
    }
    match broker.attempts(queue, id).await?.pop() {
        Some(last) => {
            match last.log.as_deref() {
                Some(log) => print_text(&whole(broker, queue, id, &last, log).await?)?,
                None => print_text(&result_of(&task))?,
            }
            ended(last.number, last.outcome, last.error.as_deref());
        }
        None if task.state == TaskState::Completed => print_text(&result_of(&task))?,
        None => print::note(&format!("it has not run yet: it is {}", task.state)),
    }
    Ok(())
}
