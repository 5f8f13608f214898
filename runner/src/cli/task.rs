//! `runner task`: looks at one task, or does what an operator does to it.

use anyhow::bail;
use clap::{Args, Subcommand};
use runner_core::task::{QueueName, TaskId};
use runner_queue::{Action, ActionError, Attempt, Broker, TaskInfo};
use serde_json::json;

use super::exit::Usage;
use super::ls::task_json;
use super::{Context, print};

/// Shows, runs, archives, deletes or cancels one task.
#[derive(Debug, Args)]
pub struct TaskCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Everything known about it, with its attempts
    Show(Show),
    /// Puts it on its queue now
    Run(Which),
    /// Puts it aside
    Archive(Which),
    /// Deletes it and releases its uniqueness lock
    Delete(Which),
    /// Asks the worker that holds it to stop it
    Cancel(Which),
}

#[derive(Debug, Args)]
struct Which {
    /// Identity of the task
    id: String,
    /// Its queue; needed only if several have a task of this id
    #[arg(long)]
    queue: Option<String>,
}

#[derive(Debug, Args)]
struct Show {
    #[command(flatten)]
    which: Which,
    /// As one object
    #[arg(long)]
    json: bool,
}

impl TaskCommand {
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        match self.verb {
            Verb::Show(show) => show.run(context).await,
            Verb::Run(which) => act(context, which, Action::Run, "is on its queue").await,
            Verb::Archive(which) => act(context, which, Action::Archive, "is archived").await,
            Verb::Delete(which) => act(context, which, Action::Delete, "is deleted").await,
            Verb::Cancel(which) => cancel(context, which).await,
        }
    }
}

impl Which {
    /// The one task that is meant.
    async fn find(&self, broker: &dyn Broker) -> anyhow::Result<(QueueName, TaskId)> {
        let id = TaskId::new(self.id.as_str()).map_err(|e| Usage(e.to_string()))?;
        if let Some(queue) = &self.queue {
            let queue = QueueName::new(queue.as_str()).map_err(|e| Usage(e.to_string()))?;
            return Ok((queue, id));
        }
        let queues = broker.find(&id).await?;
        match queues.as_slice() {
            [queue] => Ok((queue.clone(), id)),
            [] => bail!("no task {id} in any queue"),
            several => {
                let names: Vec<&str> = several.iter().map(QueueName::as_str).collect();
                let names = names.join(", ");
                Err(Usage(format!(
                    "several queues have a task {id}: {names}; name one with --queue"
                ))
                .into())
            }
        }
    }
}

async fn act(context: &Context, which: Which, action: Action, done: &str) -> anyhow::Result<()> {
    let broker = context.broker().await?;
    let (queue, id) = which.find(broker.as_ref()).await?;
    match broker.act(&queue, &id, action).await {
        Ok(()) => Ok(print::text(&format!("{id} {done}\n"))?),
        Err(ActionError::Broker(error)) => Err(error.into()),
        Err(refused) => Err(refused.into()),
    }
}

async fn cancel(context: &Context, which: Which) -> anyhow::Result<()> {
    let broker = context.broker().await?;
    let (_, id) = which.find(broker.as_ref()).await?;
    broker.cancel(&id).await?;
    Ok(print::text(&format!("{id} was asked to stop\n"))?)
}

impl Show {
    async fn run(self, context: &Context) -> anyhow::Result<()> {
        let broker = context.broker().await?;
        let (queue, id) = self.which.find(broker.as_ref()).await?;
        let Some(task) = broker.task(&queue, &id).await? else {
            bail!("no task {id} in queue {queue}");
        };
        let attempts = broker.attempts(&queue, &id).await?;
        let zone = &context.settings()?.zone;
        let mut object = task_json(&task, zone);
        if self.json {
            object["attempts"] = attempts
                .iter()
                .map(|a| {
                    json!({
                        "number": a.number, "outcome": a.outcome, "error": a.error, "server": a.server, "log": a.log,
                        "started_at": print::instant(a.started_at, zone), "ended_at": print::instant(a.ended_at, zone),
                    })
                })
                .collect();
            return Ok(print::json(&object)?);
        }
        Ok(print::text(&(facts(&task, &object) + &history(&attempts, zone)))?)
    }
}

/// One line for each thing that is known.
fn facts(task: &TaskInfo, object: &serde_json::Value) -> String {
    let mut rows = Vec::new();
    for (key, value) in object.as_object().into_iter().flatten() {
        let shown = match value {
            serde_json::Value::Null => continue,
            serde_json::Value::String(text) if text.is_empty() => continue,
            serde_json::Value::Object(map) if map.is_empty() => continue,
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        rows.push(vec![key.clone(), shown]);
    }
    print::table(&["TASK", task.record.id.as_str()], &rows)
}

fn history(attempts: &[Attempt], zone: &jiff::tz::TimeZone) -> String {
    if attempts.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = attempts
        .iter()
        .map(|a| {
            vec![
                a.number.to_string(),
                print::instant(a.started_at, zone),
                a.outcome.clone(),
                a.server.clone(),
                a.error.clone().unwrap_or_default(),
            ]
        })
        .collect();
    let heading = ["ATTEMPT", "STARTED", "OUTCOME", "SERVER", "ERROR"];
    format!("\n{}", print::table(&heading, &rows))
}
