//! `runner ls`: queues and servers as the broker sees them. Tasks and schedules are in files of their own.

use clap::{Args, Subcommand};
use runner_core::task::{QueueName, TaskState, covers};
use runner_queue::{InspectQueues, QueueInfo, unclaimed};

use super::ls_audit::ListAudit;
use super::ls_bad_messages::ListBadMessages;
use super::ls_limits::ListLimits;
use super::ls_schedules::ListSchedules;
use super::ls_tasks::Tasks;
use super::ls_triggers::ListTriggers;
use super::{CommandContext, print};
use crate::objects::{QueueObject, WorkerObject};
use crate::queue_pause;

/// Queues that the broker is asked about in one call.
const CHUNK: usize = 500;

/// List queues, tasks, schedules, triggers, limits or servers.
#[derive(Debug, Args)]
pub struct Ls {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Queues(Queues),
    Tasks(Tasks),
    Schedules(ListSchedules),
    Triggers(ListTriggers),
    BadMessages(ListBadMessages),
    Limits(ListLimits),
    Servers(Servers),
    Audit(ListAudit),
}

impl Ls {
    pub async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        match self.what {
            What::Queues(queues) => queues.run(context).await,
            What::Tasks(tasks) => tasks.run(context).await,
            What::Schedules(schedules) => schedules.run(context).await,
            What::Triggers(triggers) => triggers.run(context).await,
            What::BadMessages(messages) => messages.run(context).await,
            What::Limits(limits) => limits.run(context).await,
            What::Servers(servers) => servers.run(context).await,
            What::Audit(audit) => audit.run(context).await,
        }
    }
}

/// List queues with task counts by state, and task types that no worker handles
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner ls queues\n  \
    runner ls queues --match 'tenant-*' --page 2\n  \
    runner ls queues --json --size 10000 | jq -r '.[] | select(.paused) | .name'\n\n\
    Queues are listed by name. If there are more than fit on the page, standard error says how many. Task types that\n\
    no worker claims are searched in the queues of the page.")]
struct Queues {
    /// Only queues whose names match; * matches any characters
    #[arg(long = "match", value_name = "PATTERN")]
    pattern: Option<String>,
    /// Page number, from 1
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    page: u32,
    /// Queues on a page
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    size: u32,
    /// Print a JSON array of objects
    #[arg(long)]
    json: bool,
}

impl Queues {
    async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let broker = context.looked_at().await?;
        let (queues, left_out) = self.page_of(&*broker).await?;
        if let Some(words) = left_out {
            print::note(&words);
        }
        let unclaimed = unclaimed(broker.as_ref(), &queues).await?.types;
        let zone = &context.settings()?.source.zone;
        if self.json {
            let pauses = queue_pause::of_paused(&*broker, &queues).await?;
            let object = |queue| QueueObject::of(queue, &unclaimed, zone);
            let objects = queues
                .iter()
                .map(|queue| object(queue).paused_as(pauses.get(&queue.name), zone));
            return Ok(print::json(&objects.collect::<Vec<_>>())?);
        }
        let count = |q: &QueueInfo, state| q.counts.get(&state).copied().unwrap_or(0).to_string();
        let rows: Vec<Vec<String>> = queues
            .iter()
            .map(|q| {
                let mut row = vec![q.name.to_string(), q.size().to_string()];
                row.extend(TaskState::ALL.iter().map(|state| count(q, *state)));
                row.push(if q.paused { "paused" } else { "" }.to_owned());
                row
            })
            .collect();
        let heading = [
            "QUEUE",
            "SIZE",
            "PENDING",
            "ACTIVE",
            "SCHEDULED",
            "RETRY",
            "ARCHIVED",
            "COMPLETED",
            "GROUPED",
            "PAUSED",
        ];
        let mut text = print::table(&heading, &rows);
        if !unclaimed.is_empty() {
            let rows: Vec<Vec<String>> = unclaimed
                .iter()
                .map(|one| {
                    let since = print::instant(one.oldest, zone);
                    vec![one.kind.clone(), one.queue.to_string(), one.count.to_string(), since]
                })
                .collect();
            text += "\nNo worker takes these; start one that has a handler for the type, or delete the tasks:\n";
            text += &print::table(&["TYPE", "QUEUE", "TASKS", "OLDEST SINCE"], &rows);
        }
        Ok(print::text(&text)?)
    }

    /// The queues of the page, by name; and how many there are, if that is more. Only those of the page are asked
    /// about.
    async fn page_of(&self, broker: &dyn InspectQueues) -> anyhow::Result<(Vec<QueueInfo>, Option<String>)> {
        let mut names = broker.queue_names().await?;
        if let Some(pattern) = &self.pattern {
            names.retain(|name| covers(pattern, name.as_str()));
        }
        names.sort();
        let size = self.size as usize;
        let (page, skip) = (self.page as usize, (self.page as usize - 1).saturating_mul(size));
        let listed: Vec<QueueName> = names.iter().skip(skip).take(size).cloned().collect();
        let mut queues = Vec::with_capacity(listed.len());
        for chunk in listed.chunks(CHUNK) {
            queues.append(&mut broker.queues_of(chunk).await?);
        }
        let pages = names.len().div_ceil(size).max(1);
        let left_out = (pages > 1 || page > 1).then(|| {
            let next = if page < pages {
                format!("; --page {} has the next", page + 1)
            } else {
                String::new()
            };
            format!(
                "page {page} of {pages}, {} of {} queues{next}",
                queues.len(),
                names.len()
            )
        });
        Ok((queues, left_out))
    }
}

/// List live workers and the tasks they are running
#[derive(Debug, Args)]
struct Servers {
    /// Print a JSON array of objects
    #[arg(long)]
    json: bool,
}

impl Servers {
    async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let servers = context.looked_at().await?.servers().await?;
        let zone = &context.settings()?.source.zone;
        if self.json {
            let objects = servers.iter().map(|server| WorkerObject::of(server, zone));
            return Ok(print::json(&objects.collect::<Vec<_>>())?);
        }
        let rows: Vec<Vec<String>> = servers
            .iter()
            .map(|s| {
                let queues: Vec<String> = s
                    .info
                    .queues
                    .iter()
                    .map(|(q, weight)| format!("{q}={weight}"))
                    .collect();
                vec![
                    s.info.host.clone(),
                    s.info.pid.to_string(),
                    format!("{:?}", s.info.status).to_lowercase(),
                    format!("{}/{}", s.info.active, s.info.concurrency),
                    queues.join(","),
                    print::instant(s.info.started_at, zone),
                ]
            })
            .collect();
        let heading = ["HOST", "PID", "STATUS", "BUSY", "QUEUES", "STARTED"];
        Ok(print::text(&print::table(&heading, &rows))?)
    }
}
