//! `runner why`: why a task waits or a schedule does not fire, or what ended a task. Changes nothing.

use std::sync::Arc;

use anyhow::bail;
use clap::Args;
use runner_core::schedule::{Definition, ScheduleId};
use runner_core::task::{QueueName, TaskId};
use runner_queue::Broker;
use serde_json::json;

use super::exit::Usage;
use super::reasons::ReasonPrinter;
use super::schedule_named::{self, NamedSchedule, named};
use super::task_args::TaskArgs;
use super::{CommandContext, print, schedule_foreign};
use crate::diagnose::{Reason, why_absent, why_broken, why_foreign, why_gone, why_not_in_force};
use crate::facts;
use crate::source::Loaded;

/// Say why a task waits or a schedule does not fire, and what to do.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner why 6a1f…\n  \
    runner why m:backup:default\n  \
    runner why backup --json | jq -r '.reasons[].code'\n\n\
    The first reason is the most important one. docs/why.md explains the codes. Exit code 1 means that there is no such task \
    or schedule.")]
pub struct Why {
    /// Id of a task; id or name of a schedule
    #[arg(value_name = "ID")]
    id: String,
    /// Queue of the task; needed only if several queues have a task with this id
    #[arg(long)]
    queue: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What the reasons are about.
enum Subject {
    Task(QueueName, TaskId),
    Schedule(String),
}

impl Why {
    pub async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let broker = context.looked_at().await?;
        let found = match self.of_task(broker.as_ref()).await? {
            Some(found) => found,
            None if self.queue.is_some() => bail!("no task {} in this queue, and no record of its run", self.id),
            None => self.of_schedule(context, &broker).await?,
        };
        self.print(context, found)
    }

    /// About the task, or about the record of its run.
    async fn of_task(&self, broker: &dyn Broker) -> anyhow::Result<Option<(Subject, Vec<Reason>)>> {
        let which = TaskArgs {
            id: self.id.clone(),
            queue: self.queue.clone(),
            hex: false,
        };
        if let Ok(id) = TaskId::new(self.id.as_str()) {
            match which.find(broker).await {
                Ok((queue, id)) => {
                    if let Some(reasons) = facts::of_task(broker, &queue, &id).await? {
                        return Ok(Some((Subject::Task(queue, id), reasons)));
                    }
                }
                Err(error) if error.is::<Usage>() => return Err(error),
                // It may be a schedule.
                Err(_) => {}
            }
            if let Some(record) = which.record(broker, &id).await? {
                return Ok(Some((Subject::Task(record.queue.clone(), id), vec![why_gone(&record)])));
            }
        }
        Ok(None)
    }

    async fn of_schedule(
        &self,
        context: &CommandContext,
        broker: &Arc<dyn Broker>,
    ) -> anyhow::Result<(Subject, Vec<Reason>)> {
        let about = |id: &str, reasons| (Subject::Schedule(id.to_owned()), reasons);
        if let Some(entry) = schedule_foreign::find(&**broker, &self.id, 1).await? {
            return Ok(about(&self.id, vec![why_foreign(entry.scheduler())]));
        }
        let loaded = schedule_named::load(context, broker).await?;
        match named(&loaded, &self.id) {
            Ok(NamedSchedule::InForce(definition)) => {
                let reasons = of_definition(&**broker, &loaded, definition).await?;
                Ok(about(definition.id.as_str(), reasons))
            }
            Ok(NamedSchedule::Broken(rejected)) => {
                let id = rejected.id.as_ref().map_or(rejected.name.as_str(), ScheduleId::as_str);
                Ok(about(id, vec![why_broken(&rejected.origin.place, &rejected.problems)]))
            }
            Err(error) if error.is::<Usage>() => Err(error),
            Err(error) => {
                let id = ScheduleId::from_text(self.id.as_str());
                if let Some(reason) = why_not_in_force(None, loaded.plan.problems_of(&id)) {
                    return Ok(about(&self.id, vec![reason]));
                }
                if broker.decisions(Some(&id), 1).await?.is_empty() {
                    bail!("no task {} in any queue, and {error}", self.id);
                }
                Ok(about(&self.id, vec![why_absent()]))
            }
        }
    }

    fn print(&self, context: &CommandContext, (subject, reasons): (Subject, Vec<Reason>)) -> anyhow::Result<()> {
        let printer = ReasonPrinter {
            now: context.clock.now(),
            zone: &context.settings()?.source.zone,
        };
        if self.json {
            let reasons = printer.json(&reasons);
            return Ok(print::json(&match subject {
                Subject::Task(queue, id) => json!({"task": id, "queue": queue, "reasons": reasons}),
                Subject::Schedule(id) => json!({"schedule": id, "reasons": reasons}),
            })?);
        }
        let rows = printer.rows(&reasons);
        Ok(print::text(&match &subject {
            Subject::Task(_, id) => print::facts(["TASK", id.as_str()], &rows),
            Subject::Schedule(id) => print::facts(["SCHEDULE", id], &rows),
        })?)
    }
}

/// Why a schedule in force does not fire.
async fn of_definition(broker: &dyn Broker, loaded: &Loaded, definition: &Definition) -> anyhow::Result<Vec<Reason>> {
    let ids = [definition.id.clone()];
    let (standings, decisions) = tokio::try_join!(
        broker.standings(&ids),
        broker.decisions(Some(&definition.id), facts::DECISIONS)
    )?;
    let standing = standings.into_iter().next().flatten();
    let fault = facts::fault_of(broker, &definition.task.queue).await?;
    let reasons = facts::of_schedule(broker, &loaded.plan, definition, standing.as_ref(), &decisions, fault);
    Ok(reasons.await?)
}
