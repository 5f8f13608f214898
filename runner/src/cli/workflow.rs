//! `runner workflow`: lists workflows, shows one, cancels one, or runs its failed steps again.

use anyhow::bail;
use clap::{Args, Subcommand};
use runner_queue::{StepEnd, WorkflowHead, WorkflowState, cancel_workflow, retry_workflow, step_task_id};
use serde_json::{Value, json};

use super::{CommandContext, print};

/// Steps that `show` lists at most; failed ones come first.
const SHOWN: usize = 50;

/// Steps of one call.
const BATCH: u32 = 500;

/// List, show, cancel or retry workflows: stages of tasks that are one thing
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner workflow ls --open\n  \
    runner workflow show import-2026-07\n  \
    runner workflow retry import-2026-07\n  \
    runner workflow cancel import-2026-07")]
pub struct WorkflowCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Ls(List),
    Show(Show),
    /// Cancel it: no further stage begins, tasks that wait are deleted, those that run are stopped
    Cancel {
        /// Its id
        id: String,
    },
    /// Run its failed steps again; it continues when they succeed
    Retry {
        /// Its id
        id: String,
    },
}

/// List workflows, newest first
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    runner workflow ls --open --json | jq '.[] | select(.state == \"failed\")'\n\n\
    One that is over or has failed is kept for 7 days after its last change.")]
struct List {
    /// Only those that are neither done nor cancelled
    #[arg(long)]
    open: bool,
    /// How many
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=1000))]
    size: u16,
    /// Which page of that size
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    page: u32,
    /// Print a JSON array of objects
    #[arg(long)]
    json: bool,
}

/// Show where it stands, and its failed and open steps
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    runner workflow show import-2026-07 --json | jq .done\n\n\
    Of the steps those that failed and the first that have not ended are listed, at most 50.")]
struct Show {
    /// Its id
    id: String,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

impl WorkflowCommand {
    pub async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        match self.verb {
            Verb::Ls(list) => list.run(context).await,
            Verb::Show(show) => show.run(context).await,
            Verb::Cancel { id } => {
                let broker = context.broker().await?;
                match cancel_workflow(&*broker, &id, None).await? {
                    Some(head) if head.place.state == WorkflowState::Cancelled => Ok(print::done("cancelled")?),
                    Some(head) if head.place.state == WorkflowState::Cancelling => {
                        Ok(print::done("cancelling: steps that run are being stopped")?)
                    }
                    Some(head) => bail!("workflow {id} is {}", head.place.state.as_str()),
                    None => Err(unknown(&id)),
                }
            }
            Verb::Retry { id } => {
                let broker = context.broker().await?;
                match retry_workflow(&*broker, &id, None).await? {
                    Some(0) => bail!("workflow {id} has no failed steps; only these are run again"),
                    Some(steps) => Ok(print::done(&format!("{steps} steps run again"))?),
                    None => Err(unknown(&id)),
                }
            }
        }
    }
}

fn unknown(id: &str) -> anyhow::Error {
    anyhow::anyhow!("no workflow {id}; `runner workflow ls` lists those that are kept (7 days after their last change)")
}

fn object(head: &WorkflowHead) -> Value {
    json!({
        "id": head.id, "name": head.plan.name, "state": head.place.state.as_str(),
        "done": head.done, "failed": head.failed, "steps": head.plan.steps(),
        "stage": head.place.sent, "stages": head.plan.stages.len(), "error": head.error,
        "created_at": head.created_at.to_string(), "changed_at": head.changed_at.to_string(),
    })
}

impl List {
    async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let broker = context.looked_at().await?;
        let mut heads = Vec::new();
        let size = usize::from(self.size);
        let skip = size.saturating_mul(self.page as usize - 1);
        for id in broker.workflow_ids(self.open, skip, size).await? {
            heads.extend(broker.workflow(&id).await?);
        }
        if self.json {
            return Ok(print::json(&heads.iter().map(object).collect::<Vec<_>>())?);
        }
        let rows: Vec<Vec<String>> = heads
            .iter()
            .map(|head| {
                vec![
                    head.id.clone(),
                    head.plan.name.clone(),
                    head.place.state.as_str().to_owned(),
                    format!("{}/{}", head.done, head.plan.steps()),
                    head.failed.to_string(),
                    head.changed_at.to_string(),
                ]
            })
            .collect();
        let heading = ["ID", "NAME", "STATE", "DONE", "FAILED", "CHANGED"];
        Ok(print::text(&print::table(&heading, &rows))?)
    }
}

impl Show {
    async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let broker = context.looked_at().await?;
        let Some(head) = broker.workflow(&self.id).await? else {
            return Err(unknown(&self.id));
        };
        let (mut failed, mut open) = (Vec::new(), Vec::new());
        let sent = head.plan.steps_of(head.place.sent);
        // A step may have failed while its stage was being enqueued.
        let (mut from, to) = (0, head.plan.steps_of(head.place.sent.saturating_add(1)));
        while from < to && failed.len() < SHOWN {
            for step in broker.workflow_steps(&self.id, from, BATCH.min(to - from)).await? {
                let (list, said) = match step.end {
                    Some(StepEnd::Done(_)) => continue,
                    Some(StepEnd::Failed(error)) => (&mut failed, error),
                    None if step.number < sent => (&mut open, String::new()),
                    None => continue,
                };
                if list.len() < SHOWN {
                    let task = step_task_id(&self.id, step.number).map_or_else(String::new, |id| id.to_string());
                    list.push((step.number, step.step.kind, step.step.queue, task, said));
                }
            }
            from += BATCH;
        }
        let state = |place: usize| if place < failed.len() { "failed" } else { "open" };
        let steps: Vec<_> = failed.iter().chain(&open).take(SHOWN).enumerate().collect();
        if self.json {
            let mut shown = object(&head);
            shown["unfinished"] = steps
                .iter()
                .map(|(place, (number, kind, queue, task, error))| {
                    json!({"number": number, "type": kind, "queue": queue, "task": task, "state": state(*place), "error": error})
                })
                .collect();
            return Ok(print::json(&shown)?);
        }
        let mut text = format!(
            "{} {}: {}, {} of {} steps done, {} failed, stage {} of {}\n",
            head.plan.name,
            head.id,
            head.place.state.as_str(),
            head.done,
            head.plan.steps(),
            head.failed,
            head.place.sent,
            head.plan.stages.len()
        );
        if !steps.is_empty() {
            let rows: Vec<Vec<String>> = steps
                .iter()
                .map(|(place, (number, kind, queue, task, error))| {
                    let line = error.lines().next().unwrap_or_default().to_owned();
                    vec![
                        number.to_string(),
                        state(*place).to_owned(),
                        kind.clone(),
                        queue.to_string(),
                        task.clone(),
                        line,
                    ]
                })
                .collect();
            let heading = ["STEP", "STATE", "TYPE", "QUEUE", "TASK", "ERROR"];
            text.push_str(&print::table(&heading, &rows));
        }
        Ok(print::text(&text)?)
    }
}
