//! `runner task`: shows one task, or acts on it for an operator. Whole lists are in `task_all`.

use std::time::Duration;

use anyhow::bail;
use clap::{ArgGroup, Args, Subcommand};
use runner_core::task::{QueueName, TaskId, TaskState};
use runner_queue::{
    Action, Attempt, Broker, BrokerError, InspectTasks, LiveRun, Presence, RunBy, RunRecord, ServerView, stopped_by,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::audited::{Audited, actor};
use super::exit::{Usage, refused};
use super::preflight::Manifests;
use super::print::{JsonField, Object};
use super::reasons::ReasonPrinter;
use super::task_all::{self, Target, Targets};
use super::task_args::TaskArgs;
use super::task_artifacts::Artifacts;
use super::{CommandContext, payload, print};
use crate::diagnose::{TaskFacts, why_gone, why_task};
use crate::facts;
use crate::objects::{AttemptObject, LiveObject, TaskDetailsObject, TaskObject, UnreadableTaskObject};
use crate::text::{hex, shell, unhex};

/// Show, run, archive, delete, cancel, stop or edit a task, or act on a whole list.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner task show 6a1f…\n  \
    runner task run 6a1f… --queue low\n  \
    runner task stop 6a1f… --reason 'wrong month'\n  \
    runner task artifacts 6a1f… --out reports\n  \
    runner task run --all --queue low --state archived\n  \
    runner task delete --all --queue low --state completed --yes\n  \
    jq -c . order.json | runner task update 6a1f… --payload -")]
pub struct TaskCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show a task with its attempts
    Show(Show),
    /// Run it now: make it pending; with --all, every task of a list
    #[command(after_help = task_all::RUN)]
    Run(Targets),
    /// Archive it; with --all, every task of a list
    #[command(after_help = task_all::ARCHIVE)]
    Archive(Targets),
    /// Delete it and release its uniqueness lock; with --all, every task of a list
    #[command(after_help = task_all::DELETE)]
    Delete(Targets),
    /// Replace the payload of a scheduled task
    Update(Update),
    /// Cancel the running attempt: it fails, and is retried if retries are left
    Cancel(TaskArgs),
    /// End a running task for good: archive it, whatever retries are left
    Stop(Stop),
    /// List or save the files that its run left
    Artifacts(Artifacts),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Only workers of this program support it. End a task that is not running with `runner task archive`."
)]
struct Stop {
    #[command(flatten)]
    which: TaskArgs,
    /// The reason, stored with the task
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("given").required(true),
    after_help = "Only a scheduled task can be edited: any other one may have run already, or may run any \
    moment.\nIts uniqueness lock stays the one that it took with its first payload."
)]
struct Update {
    #[command(flatten)]
    which: TaskArgs,
    #[command(flatten)]
    payload: payload::PayloadArgs,
}

#[derive(Debug, Args)]
struct Show {
    #[command(flatten)]
    which: TaskArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl TaskCommand {
    pub async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        match self.verb {
            Verb::Show(show) => show.run(context).await,
            Verb::Run(targets) => act(context, targets, Action::Run, "is on its queue").await,
            Verb::Archive(targets) => act(context, targets, Action::Archive, "is archived").await,
            Verb::Delete(targets) => act(context, targets, Action::Delete, "is deleted").await,
            Verb::Update(update) => update.run(context).await,
            Verb::Cancel(which) => cancel(context, which).await,
            Verb::Stop(stop) => stop.run(context).await,
            Verb::Artifacts(artifacts) => artifacts.run(context).await,
        }
    }
}

impl TaskArgs {
    /// The bytes of an identity that is given in hexadecimal digits, and its queue.
    fn raw(&self) -> anyhow::Result<Option<(QueueName, Vec<u8>)>> {
        let Some(queue) = self.queue.as_deref().filter(|_| self.hex) else {
            return Ok(None);
        };
        let queue = QueueName::new(queue).map_err(|e| Usage(e.to_string()))?;
        let bytes = unhex(&self.id)
            .ok_or_else(|| Usage(format!("{:?} is not an even number of hexadecimal digits", self.id)))?;
        Ok(Some((queue, bytes)))
    }

    /// The record of the last run of a task that is gone, in its queue or in the first that has one.
    pub(super) async fn record(&self, broker: &dyn Broker, id: &TaskId) -> anyhow::Result<Option<RunRecord>> {
        let queues = match &self.queue {
            Some(queue) => vec![QueueName::new(queue.as_str()).map_err(|e| Usage(e.to_string()))?],
            None => broker.queue_names().await?,
        };
        for queue in queues.iter().take(QUEUES_SEARCHED) {
            if let Some(record) = broker.run(queue, id).await? {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// The one task that is meant.
    pub(super) async fn find(&self, broker: &dyn InspectTasks) -> anyhow::Result<(QueueName, TaskId)> {
        if let Some((queue, bytes)) = self.raw()? {
            let id = String::from_utf8(bytes).ok().and_then(|id| TaskId::new(id).ok());
            let id = id.ok_or_else(|| {
                Usage("only `task show` and `task delete` take an identity that is not text".to_owned())
            })?;
            return Ok((queue, id));
        }
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

async fn act(context: &CommandContext, targets: Targets, action: Action, done: &str) -> anyhow::Result<()> {
    let which = match targets.target() {
        Target::One(which) => which,
        Target::All(all) => return all.act(context, action).await,
    };
    let broker = context.looked_at().await?;
    if let Some((queue, bytes)) = which.raw()?.filter(|_| action == Action::Delete) {
        broker.delete_raw(&queue, &bytes).await.map_err(refused)?;
        let target = format!("{queue}/{}", String::from_utf8_lossy(&bytes));
        Audited::done("task.delete", target).write(&*broker).await;
        return Ok(print::done(&format!("{} {done}", which.id))?);
    }
    let (queue, id) = which.find(&*broker).await?;
    broker.act(&queue, &id, action).await.map_err(refused)?;
    let audited = match action {
        Action::Run => "task.run",
        Action::Archive => "task.archive",
        Action::Delete => "task.delete",
    };
    Audited::done(audited, format!("{queue}/{id}")).write(&*broker).await;
    Ok(print::done(&format!("{id} {done}"))?)
}

impl Update {
    async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let payload = self.payload.read()?.unwrap_or_default();
        let broker = context.looked_at().await?;
        let (queue, id) = self.which.find(&*broker).await?;
        if let Some(task) = broker.task(&queue, &id).await? {
            Manifests::read(context).await?.accept(&task.record.kind, &payload)?;
        }
        let edited = broker.update_payload(&queue, &id, payload).await;
        edited.map_err(refused)?;
        Audited::done("task.edit", format!("{queue}/{id}"))
            .write(&*broker)
            .await;
        Ok(print::done(&format!("{id} has another payload"))?)
    }
}

async fn cancel(context: &CommandContext, which: TaskArgs) -> anyhow::Result<()> {
    let broker = context.looked_at().await?;
    let (queue, id) = which.find(&*broker).await?;
    Ok(print::done(&cancel_attempt(&*broker, &queue, &id).await?)?)
}

/// Asks the worker of a task to end this attempt; returns what to say.
pub(super) async fn cancel_attempt(broker: &dyn Broker, queue: &QueueName, id: &TaskId) -> anyhow::Result<String> {
    is_running(broker, queue, id).await?;
    for other in broker.find(id).await?.into_iter().filter(|other| other != queue) {
        let namesake = broker.task(&other, id).await?;
        if namesake.is_some_and(|task| task.state == TaskState::Active) {
            // The request has the id only, as that of a Go program has.
            bail!(
                "a task {id} is active in queue {other} too, and both would be stopped: wait until one of them has \
                 ended, or give the tasks of the two queues different ids"
            );
        }
    }
    broker.cancel(id).await?;
    Audited::done("task.cancel", format!("{queue}/{id}"))
        .write(broker)
        .await;
    Ok(format!("the worker of {id} was asked to end this attempt"))
}

async fn is_running(broker: &dyn InspectTasks, queue: &QueueName, id: &TaskId) -> anyhow::Result<()> {
    let Some(task) = broker.task(queue, id).await? else {
        bail!("no task {id} in queue {queue}");
    };
    if task.state != TaskState::Active {
        bail!(
            "task {id} is {}; only one that is active can be stopped (`runner task archive` archives others, `runner \
             task delete` deletes them)",
            task.state
        );
    }
    Ok(())
}

impl Stop {
    async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let broker = context.looked_at().await?;
        let (queue, id) = self.which.find(&*broker).await?;
        let said = stop_for_good(&*broker, &queue, &id, self.reason.as_deref()).await?;
        Ok(print::done(&said)?)
    }
}

/// Asks the worker of a task to end it, whatever retries are left; returns what to say.
pub(super) async fn stop_for_good(
    broker: &dyn Broker,
    queue: &QueueName,
    id: &TaskId,
    reason: Option<&str>,
) -> anyhow::Result<String> {
    is_running(broker, queue, id).await?;
    understood(broker, queue, id).await?;
    broker.stop(queue, id, &stopped_by(&actor(), reason)).await?;
    let stopped = Audited::done("task.stop", format!("{queue}/{id}"));
    stopped.because(reason).write(broker).await;
    Ok(format!("{id} was asked to stop for good"))
}

/// An error that says what to do, unless the worker of this task supports a stop.
#[allow(clippy::disallowed_methods)] // what servers list can only be polled
async fn understood(broker: &dyn Presence, queue: &QueueName, id: &TaskId) -> anyhow::Result<()> {
    let until = Instant::now() + LISTED;
    loop {
        let servers = broker.servers().await?;
        let name = shell::argument(id.as_str());
        let advice =
            format!("`runner task cancel {name}`, then `runner task archive {name}` while it waits for its retry");
        match RunBy::of(&servers, queue, id) {
            RunBy::Own => return Ok(()),
            RunBy::Go(ServerView { info, .. }) => bail!(
                "task {id} runs on {}:{}, a Go worker, which does not support a stop: {advice}",
                info.host,
                info.pid
            ),
            RunBy::Unknown(ServerView { info, .. }) if Instant::now() >= until => bail!(
                "no server says that it runs task {id}, and {}:{}, a worker in Go that serves its queue, would not \
                 support a stop: try again, or {advice}",
                info.host,
                info.pid
            ),
            RunBy::Unknown(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

impl Show {
    async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let broker = context.looked_at().await?;
        if let Some((queue, bytes)) = self.which.raw()? {
            return self.show_raw(&*broker, &queue, &bytes).await;
        }
        let (queue, id) = match self.which.find(&*broker).await {
            Err(error) if !error.is::<Usage>() => return self.show_run(context, broker.as_ref(), error).await,
            found => found?,
        };
        let task = match broker.task(&queue, &id).await {
            Err(BrokerError::Corrupt { .. }) => {
                return self.show_raw(&*broker, &queue, id.as_str().as_bytes()).await;
            }
            found => found?,
        };
        let Some(task) = task else {
            let error = anyhow::anyhow!("no task {id} in queue {queue}");
            return self.show_run(context, broker.as_ref(), error).await;
        };
        let attempts = broker.attempts(&queue, &id).await?;
        let facts = facts::of_queue_now(broker.as_ref(), &queue).await?;
        let reasons = why_task(&TaskFacts::stored(&task, &attempts), &facts);
        let zone = &context.settings()?.source.zone;
        let printer = ReasonPrinter { now: facts.now, zone };
        let live = LiveRun::of(broker.as_ref(), &task).await?;
        let object = TaskObject::of(&task, zone);
        if self.json {
            return Ok(print::json(&TaskDetailsObject {
                task: object,
                live: live.map(|live| LiveObject::of(live, zone)),
                attempts: attempts
                    .iter()
                    .map(|attempt| AttemptObject::of(attempt, zone))
                    .collect(),
                reasons: printer.writer().objects(&reasons),
            })?);
        }
        let object = Object::of_serialized(&object);
        let title = task.record.id.as_str();
        let shown = lines(title, &object, printer.rows(&reasons));
        Ok(print::text(
            &(shown + &history(&attempts, zone) + &so_far(live.as_ref())),
        )?)
    }
}

fn so_far(live: Option<&LiveRun>) -> String {
    let Some(live) = live else {
        return String::new();
    };
    let done = live
        .done
        .map(|done| format!(", {:.0} %", done * 100.0))
        .unwrap_or_default();
    let note = match live.note.as_str() {
        "" => String::new(),
        note => format!(", {note}"),
    };
    print::block(&format!("OUTPUT SO FAR{done}{note}"), &live.output)
}

impl Show {
    /// The record of the run of a task that is gone; `error` if there is none.
    async fn show_run(
        &self,
        context: &CommandContext,
        broker: &dyn Broker,
        error: anyhow::Error,
    ) -> anyhow::Result<()> {
        let Ok(id) = TaskId::new(self.which.id.as_str()) else {
            return Err(error);
        };
        let Some(record) = self.which.record(broker, &id).await? else {
            return Err(error);
        };
        let zone = &context.settings()?.source.zone;
        let printer = ReasonPrinter {
            now: context.clock.now(),
            zone,
        };
        let (object, reasons) = (run_json(&record, zone), [why_gone(&record)]);
        match self.json {
            true => print::json(&object.with("reasons", JsonField::Value(printer.json(&reasons))))?,
            false => print::text(&lines(id.as_str(), &object, printer.rows(&reasons)))?,
        }
        Ok(())
    }

    /// The raw task under an id that cannot be read.
    async fn show_raw(&self, broker: &dyn InspectTasks, queue: &QueueName, id: &[u8]) -> anyhow::Result<()> {
        let Some(raw) = broker.raw_task(queue, id).await? else {
            bail!("no task {} in queue {queue}", self.which.id);
        };
        let object =
            Object::of_serialized(&UnreadableTaskObject::of(queue, &raw)).with("head", print::payload(&raw.head));
        if self.json {
            return Ok(print::json(&object)?);
        }
        let dump = hex(&raw.head[..raw.head.len().min(DUMPED)]);
        let object = object.with("head", JsonField::Value(json!(dump)));
        Ok(print::text(&lines(&self.which.id, &object, Vec::new()))?)
    }
}

/// How long a command waits for a server to list a task that has just begun: workers in Go list theirs every 5 s.
const LISTED: Duration = Duration::from_secs(6);

/// How often it checks that; a person is watching.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Queues in which the record of a run is searched; name one with --queue where there are more.
const QUEUES_SEARCHED: usize = 200;

/// The key of a run's output, which is printed below the table.
const OUTPUT: &str = "output";

/// The record of a run.
pub(super) fn run_json(record: &RunRecord, zone: &jiff::tz::TimeZone) -> Object {
    Object::of(json!({
        "state": "gone",
        "queue": record.queue,
        "function": record.task_type().is_none().then_some(&record.function),
        "type": record.task_type(),
        "schedule": record.schedule,
        "trigger": record.trigger,
        "event": record.event,
        "planned": print::maybe(record.planned, zone),
        "attempt": record.attempt,
        "started_at": print::instant(record.started_at, zone),
        "ended_at": print::instant(record.ended_at, zone),
        "outcome": record.outcome,
        "worker": record.worker,
        "trace_id": record.trace,
        "error": record.error,
        (OUTPUT): record.output,
    }))
}

/// Bytes of an unreadable task that are printed.
const DUMPED: usize = 256;

/// One line for each detail, `more` at the end.
fn lines(title: &str, object: &Object, more: Vec<Vec<String>>) -> String {
    let (mut rows, mut output) = (Vec::new(), String::new());
    for (key, value) in object.pairs() {
        let shown = match value {
            JsonField::Value(Value::Null) => continue,
            JsonField::Value(Value::String(text)) if text.is_empty() => continue,
            JsonField::Value(Value::String(text)) if key == OUTPUT => {
                output = print::block("OUTPUT", text);
                continue;
            }
            JsonField::Value(Value::Object(map)) if map.is_empty() => continue,
            JsonField::Value(Value::String(text)) => text.clone(),
            JsonField::Value(other) => other.to_string(),
            JsonField::Raw(raw) => raw.get().to_owned(),
        };
        rows.push(vec![key.to_owned(), shown]);
    }
    rows.extend(more);
    print::facts(["TASK", title], &rows) + &output
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
                a.outcome.to_string(),
                a.server.clone(),
                a.error.clone().unwrap_or_default(),
            ]
        })
        .collect();
    let heading = ["ATTEMPT", "STARTED", "OUTCOME", "SERVER", "ERROR"];
    let mut out = format!("\n{}", print::table(&heading, &rows));
    for attempt in attempts {
        if let Some(log) = attempt.log.as_deref().filter(|log| !log.trim().is_empty()) {
            out += &print::block(&format!("OUTPUT OF ATTEMPT {}", attempt.number), log);
        }
    }
    out
}
