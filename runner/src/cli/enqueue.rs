//! `runner enqueue`: puts one task on a queue.

use std::time::Duration;

use clap::Args;
use clap::builder::TypedValueParser as _;
use runner_core::function::FunctionOptions;
use runner_core::task::{OnConflict, QueueName, Run, Task, TaskId, Unique, UniqueKey, UniqueScope};

use super::exit::{BadData, Usage};
use super::parts::Registrar;
use super::preflight::Manifests;
use super::{CommandContext, payload, print, send, values};

/// Enqueue a task and print its id.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner enqueue task:daily-report --payload '{\"date\":\"today\"}'\n  \
    runner enqueue fn:nightly-backup\n  \
    runner enqueue email:welcome --queue low --in 10m --max-retry 3\n  \
    jq -c . order.json | runner enqueue order:ship --payload - --unique 1h\n  \
    runner enqueue fn:build --in 30s --unique 1h --unique-key site --on-conflict replace\n  \
    runner enqueue image:scale --payload-file task.msgpack --raw\n\n\
    The payload is visible to other users of this machine while the command runs: \
    read secrets in the function, or give the payload on standard input or in a file.")]
pub struct EnqueueCommand {
    /// Which handler runs it; fn:NAME is the function of a manifest, whose queue, retry, timeout and retention hold
    #[arg(value_name = "TYPE")]
    kind: String,
    #[command(flatten)]
    payload: payload::PayloadArgs,
    /// Queue to put it on [default: what a manifest or its code says of TYPE, or default]
    #[arg(long)]
    queue: Option<String>,
    /// Not before this long from now: 90s, 1h30m
    #[arg(long = "in", value_name = "DURATION", value_parser = values::length, conflicts_with = "at", allow_hyphen_values = true)]
    delay: Option<Duration>,
    /// Not before this instant, with an offset or in server.timezone
    #[arg(long, value_name = "INSTANT")]
    at: Option<String>,
    /// Refuse another task of the same queue, type and payload for this long
    #[arg(long, value_name = "DURATION", value_parser = values::seconds, allow_hyphen_values = true)]
    unique: Option<Duration>,
    /// With --unique, tasks with the same text are the same, whatever their payloads
    #[arg(long, value_name = "TEXT", requires = "unique")]
    unique_key: Option<String>,
    /// With --unique, whether its task counts until it has succeeded (all) or while it waits (pending)
    #[arg(long, value_name = "SCOPE", requires = "unique", default_value = "all", hide_default_value = true,
        value_parser = clap::builder::PossibleValuesParser::new(["all", "pending"]).map(scope))]
    unique_scope: UniqueScope,
    /// With --unique, what happens to a task that waits already: keep it and refuse this one, replace it, or reschedule it
    #[arg(long, value_name = "WHAT", requires = "unique", default_value = "keep", hide_default_value = true,
        value_parser = clap::builder::PossibleValuesParser::new(["keep", "replace", "reschedule"]).map(conflict))]
    on_conflict: OnConflict,
    /// Its id, unique within the queue [default: random]
    #[arg(long)]
    id: Option<String>,
    /// Number of retries [default: what a manifest or its code says of TYPE, or 25; of fn:NAME 2]
    #[arg(long, value_name = "N", value_parser = values::times, allow_hyphen_values = true)]
    max_retry: Option<u32>,
    /// Time limit of one attempt [default: what a manifest or its code says of TYPE, or 30m; of fn:NAME 1h]
    #[arg(long, value_name = "DURATION", value_parser = values::seconds, allow_hyphen_values = true)]
    timeout: Option<Duration>,
    /// No attempt after this instant
    #[arg(long, value_name = "INSTANT")]
    deadline: Option<String>,
    /// How long to keep it after success [default: not at all]
    #[arg(long, value_name = "DURATION", value_parser = values::kept, allow_hyphen_values = true)]
    retention: Option<Duration>,
    /// Group to add it to; an aggregator combines the tasks of a group into one
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// A header of the task; may be repeated
    #[arg(long = "header", value_name = "KEY=VALUE", value_parser = values::pair)]
    headers: Vec<(String, String)>,
}

fn scope(word: String) -> UniqueScope {
    let found = UniqueScope::WORDS.iter().find(|(known, _)| *known == word);
    found.map_or_else(UniqueScope::default, |(_, scope)| *scope)
}

fn conflict(word: String) -> OnConflict {
    let found = OnConflict::WORDS.iter().find(|(known, _)| *known == word);
    found.map_or_else(OnConflict::default, |(_, conflict)| *conflict)
}

impl EnqueueCommand {
    pub async fn run(self, context: &CommandContext, registrars: Vec<Registrar>) -> anyhow::Result<()> {
        let here = Manifests::read(context).await?;
        let here = here.with_types_in_code(&self.kind, registrars).await;
        let defaults = here.types.of(&self.kind);
        let task = send::in_trace(self.task(context, &defaults)?);
        let sent = send::send(context, &here, &task).await?;
        print::done(sent.enqueued.id.as_str())?;
        send::warn(context, &here, &task, &sent).await
    }

    fn task(self, context: &CommandContext, defaults: &FunctionOptions) -> anyhow::Result<Task> {
        let zone = &context.settings()?.source.zone;
        let mut task = Task::new(self.kind);
        task.payload = self.payload.read()?;
        task.id = match self.id {
            Some(id) => Some(TaskId::new(id).map_err(|e| Usage(e.to_string()))?),
            None => None,
        };
        task.run = match (self.delay, self.at) {
            (Some(delay), _) => Run::In(delay),
            (None, Some(at)) => Run::At(values::instant(&at, zone).map_err(Usage)?),
            (None, None) => Run::Now,
        };
        task.deadline = match self.deadline {
            Some(at) => Some(values::instant(&at, zone).map_err(Usage)?),
            None => None,
        };
        let unique = self.unique.map(|ttl| Unique {
            ttl,
            key: self.unique_key.map(UniqueKey::Text),
            scope: self.unique_scope,
            on_conflict: self.on_conflict,
        });
        let queue = self.queue.map(QueueName::new).transpose();
        let stated = FunctionOptions {
            queue: queue.map_err(|e| Usage(e.to_string()))?,
            max_retry: self.max_retry,
            timeout: self.timeout,
            retention: self.retention,
            unique,
        };
        stated.or(defaults).apply(&mut task);
        task.group = self.group;
        task.headers = self.headers.into_iter().collect();
        task.check().map_err(|e| BadData(e.to_string()))?;
        Ok(task)
    }
}
