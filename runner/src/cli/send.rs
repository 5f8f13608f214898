//! Enqueues one task for a command: checked against the manifests here, followed by warnings about what keeps it waiting.

use anyhow::bail;
use runner_core::task::Task;
use runner_queue::Refusal;

use super::exit::BadData;
use super::preflight::{Manifests, SentTask};
use super::reasons::ReasonPrinter;
use super::{CommandContext, preflight, print};
use crate::config::Environment;
use crate::diagnose::TaskFacts;

/// The task as a part of the trace that called this command, if there is one: in a function that runs a command, the variable
/// names the span of its attempt.
pub(super) fn in_trace(task: Task) -> Task {
    let environment = Environment::of_process();
    match environment.get("TRACEPARENT") {
        Some(parent) => task.traced(parent, environment.get("TRACESTATE")),
        None => task,
    }
}

/// Enqueues the task. What will keep it waiting is for [`warn`].
///
/// # Errors
///
/// [`BadData`] if it can never run or its payload is not accepted; the refusal of the broker, with the task that blocks it.
pub(super) async fn send(context: &CommandContext, here: &Manifests, task: &Task) -> anyhow::Result<SentTask> {
    let (now, zone) = (context.clock.now(), &context.settings()?.source.zone);
    let printer = ReasonPrinter { now, zone };
    if let Some(reason) = TaskFacts::to_enqueue(task, now).never_runs(now) {
        return Err(BadData(printer.line(&reason)).into());
    }
    here.accept(&task.kind, task.payload.as_deref().unwrap_or_default())?;
    let broker = context.broker().await?;
    let queues_before = broker.queue_names().await.unwrap_or_default();
    let answers = broker.enqueue(std::slice::from_ref(task)).await?;
    match answers.into_iter().next() {
        Some(Ok(enqueued)) => Ok(SentTask {
            broker,
            enqueued,
            queues_before,
        }),
        Some(Err(Refusal::Invalid(error))) => Err(BadData(error.to_string()).into()),
        Some(Err(refusal)) => {
            let why = preflight::refusal(&*broker, task, &refusal).await;
            bail!("not enqueued: {why}")
        }
        None => bail!("the broker gave no answer"),
    }
}

/// Prints to standard error what is wrong with an enqueued task, and what keeps it waiting. Takes up to three seconds if no
/// worker has its function, so print its id first: a user who interrupts this must know that it is enqueued.
///
/// # Errors
///
/// The settings cannot be read.
pub(super) async fn warn(
    context: &CommandContext,
    here: &Manifests,
    task: &Task,
    sent: &SentTask,
) -> anyhow::Result<()> {
    let (now, zone) = (context.clock.now(), &context.settings()?.source.zone);
    let printer = ReasonPrinter { now, zone };
    for reason in preflight::warnings(context, here, task, sent).await {
        print::note(&format!("warning: {}", printer.line(&reason)));
    }
    Ok(())
}
