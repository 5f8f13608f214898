//! `runner queue`: stops claims from a queue, or lets them go on.

use anyhow::bail;
use clap::{Args, Subcommand};
use runner_core::task::QueueName;

use super::exit::Usage;
use super::{Context, print};

/// Pauses or resumes a queue; tasks may still be put on it.
#[derive(Debug, Args)]
pub struct QueueCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// No task is taken from it any more; running ones go on
    Pause {
        /// Name of the queue
        name: String,
    },
    /// Tasks are taken again
    Resume {
        /// Name of the queue
        name: String,
    },
}

impl QueueCommand {
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let (Verb::Pause { name } | Verb::Resume { name }) = &self.verb;
        let queue = QueueName::new(name.as_str()).map_err(|e| Usage(e.to_string()))?;
        let broker = context.broker().await?;
        if !broker.queues().await?.iter().any(|q| q.name == queue) {
            bail!("no queue {queue}; `runner ls queues` shows those that exist");
        }
        let line = match self.verb {
            Verb::Pause { .. } if broker.pause_queue(&queue).await? => "is paused",
            Verb::Pause { .. } => "was paused already",
            Verb::Resume { .. } if broker.resume_queue(&queue).await? => "goes on",
            Verb::Resume { .. } => "was not paused",
        };
        Ok(print::text(&format!("{queue} {line}\n"))?)
    }
}
