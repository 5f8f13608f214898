//! `runner notify test CHANNEL`: sends a notification that says that it is a test, and prints what the receiver answered.
//!
//! It is sent as any other one: by an instance that runs.

use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};
use runner_core::notification::Notification;
use runner_core::task::{AttemptOutcome, QueueName, TaskId};
use runner_queue::{Broker, Refusal};

use super::{CommandContext, follow, print};
use crate::text::{nearest, quoted};

/// How long an instance and the receiver may take together; a receiver has a minute.
const PATIENCE: Duration = Duration::from_secs(75);

/// Test the channels of notifications
#[derive(Debug, Args)]
pub struct NotifyCommand {
    #[command(subcommand)]
    what: NotifyWhat,
}

#[derive(Debug, Subcommand)]
enum NotifyWhat {
    /// Send a test over a channel, by an instance that runs, and print what the receiver answered
    #[command(after_help = "Example:\n  runner notify test ops-mail")]
    Test {
        /// The channel, of notify.channels in the settings
        channel: String,
    },
}

impl NotifyCommand {
    pub(super) async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let NotifyWhat::Test { channel } = self.what;
        let known = &context.settings()?.notification.channels;
        if !known.contains(&channel) {
            let likely = nearest(&channel, known.iter().map(String::as_str));
            let hint = match (likely, known.as_slice()) {
                (Some(name), _) => format!("did you mean \"{name}\"?"),
                (None, []) => "the settings have no notify.channels".to_owned(),
                (None, known) => format!("known: {}", known.join(", ")),
            };
            bail!("there is no channel {}; {hint}", quoted(&channel));
        }
        let broker = context.broker().await?;
        let (queue, id) = enqueue(broker.as_ref(), &channel, context).await?;
        print::note(&format!("task {id} in queue {queue}"));
        let followed = tokio::time::timeout(PATIENCE, follow::follow(broker.as_ref(), &queue, &id)).await;
        match followed {
            Ok(ended) => report(broker.as_ref(), &channel, (&queue, &id), ended?).await,
            Err(_) => bail!(
                "{channel}: not sent within {}: does an instance with this channel run? `runner why {id} --queue {queue}` says more",
                print::took(PATIENCE)
            ),
        }
    }
}

async fn enqueue(broker: &dyn Broker, channel: &str, context: &CommandContext) -> anyhow::Result<(QueueName, TaskId)> {
    let task = Notification::test(channel, context.clock.now());
    match broker.enqueue(&[task]).await?.into_iter().next() {
        Some(Ok(enqueued)) => Ok((enqueued.queue, enqueued.id)),
        Some(Err(Refusal::Invalid(error))) => bail!("{error}"),
        Some(Err(refusal)) => bail!("not enqueued: {refusal}"),
        None => bail!("the broker gave no answer"),
    }
}

async fn report(
    broker: &dyn Broker,
    channel: &str,
    (queue, id): (&QueueName, &TaskId),
    ended: Option<AttemptOutcome>,
) -> anyhow::Result<()> {
    let task = broker.glance(queue, id).await?;
    match ended {
        Some(AttemptOutcome::Success) => {
            let answer = task.map_or_else(String::new, |task| follow::result_of(&task));
            Ok(print::done(&format!(
                "{channel}: sent; the receiver answered {answer}"
            ))?)
        }
        _ => {
            let error = task.map_or_else(String::new, |task| task.record.last_error.clone());
            bail!("{channel}: not sent: {error}")
        }
    }
}
