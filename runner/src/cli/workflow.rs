//! `runner workflow`: lists workflows, shows one, cancels one, or runs its failed steps again.

use anyhow::bail;
use clap::{Args, Subcommand};
use runner_queue::{WorkflowState, cancel_workflow, retry_workflow};

use super::audited::Audited;
use super::{CommandContext, print};
use crate::facts::unfinished_steps;
use crate::objects::{StepObject, WorkflowDetailsObject, WorkflowObject};

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
                let head = cancel_workflow(&*broker, &id, None).await?;
                if head.is_some() {
                    Audited::done("workflow.cancel", &id).write(&*broker).await;
                }
                match head {
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
                let steps = retry_workflow(&*broker, &id, None).await?;
                if steps.is_some_and(|steps| steps > 0) {
                    Audited::done("workflow.retry", &id).write(&*broker).await;
                }
                match steps {
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
            let zone = &context.settings()?.source.zone;
            let objects = heads.iter().map(|head| WorkflowObject::of(head, zone));
            return Ok(print::json(&objects.collect::<Vec<_>>())?);
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
        let steps = unfinished_steps(&*broker, &head).await?.into_iter();
        let steps: Vec<StepObject> = steps.filter_map(|step| StepObject::of(&self.id, step)).collect();
        if self.json {
            let zone = &context.settings()?.source.zone;
            return Ok(print::json(&WorkflowDetailsObject {
                workflow: WorkflowObject::of(&head, zone),
                unfinished: steps,
            })?);
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
                .map(|step| {
                    let line = step.error.lines().next().unwrap_or_default().to_owned();
                    vec![
                        step.number.to_string(),
                        step.state.clone(),
                        step.kind.clone(),
                        step.queue.clone(),
                        step.task.clone(),
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
