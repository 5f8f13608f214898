//! `runner ls limits`: how full the limits of queues are, and how many tasks wait at each.

use clap::Args;
use runner_core::task::QueueName;
use runner_queue::MAX_LIMITS_SHOWN;

use super::exit::Usage;
use super::{CommandContext, print};
use crate::objects::LimitObject;

/// List limits at which tasks run or wait
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner ls limits\n  \
    runner ls limits reports --json | jq '.[] | select(.waiting > 100)'\n\n\
    A limit with a key has a line for each value that is in use, of at most 500 in a queue; those with most waiting come first. What a\n\
    limit says is in the manifest of its function, in worker.limits, or in code.")]
pub struct ListLimits {
    /// Only those of this queue
    queue: Option<String>,
    /// Print a JSON array of objects
    #[arg(long)]
    json: bool,
}

impl ListLimits {
    pub async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let broker = context.looked_at().await?;
        let queues = match &self.queue {
            Some(name) => vec![QueueName::new(name.clone()).map_err(|e| Usage(e.to_string()))?],
            None => broker.queue_names().await?,
        };
        let (mut objects, mut rows) = (Vec::new(), Vec::new());
        for queue in queues {
            let found = broker.limits_in_use(&queue).await?;
            if found.len() >= MAX_LIMITS_SHOWN {
                print::note(&format!(
                    "only {MAX_LIMITS_SHOWN} of the limits in queue {queue} are listed"
                ));
            }
            for limit in found {
                let most = limit.most.map_or_else(String::new, |most| most.to_string());
                rows.push(vec![
                    queue.to_string(),
                    limit.name.clone(),
                    limit.key.clone().unwrap_or_default(),
                    limit.running.to_string(),
                    most,
                    limit.waiting.to_string(),
                ]);
                objects.push(LimitObject::of(&queue, limit));
            }
        }
        if self.json {
            return Ok(print::json(&objects)?);
        }
        let heading = ["QUEUE", "LIMIT", "KEY", "RUNNING", "OF", "WAITING"];
        Ok(print::text(&print::table(&heading, &rows))?)
    }
}
