//! Enqueues one task for a command: checked against the manifests here, with warnings about what will keep it waiting.

use std::sync::Arc;

use anyhow::bail;
use runner_core::task::Task;
use runner_queue::{Broker, Enqueued, Refusal};

use super::exit::BadData;
use super::preflight::Manifests;
use super::reasons::ReasonPrinter;
use super::{CommandContext, preflight, print};
use crate::diagnose::TaskFacts;

/// The broker and the task in it. Warnings go to standard error; none of them keeps it from being enqueued.
///
/// # Errors
///
/// [`BadData`] if it can never run or its payload is not accepted; the refusal of the broker, with the task that blocks it.
pub(super) async fn send(
    context: &CommandContext,
    here: &Manifests,
    task: &Task,
) -> anyhow::Result<(Arc<dyn Broker>, Enqueued)> {
    let (now, zone) = (context.clock.now(), &context.settings()?.source.zone);
    let printer = ReasonPrinter { now, zone };
    if let Some(reason) = TaskFacts::to_enqueue(task, now).never_runs(now) {
        return Err(BadData(printer.line(&reason)).into());
    }
    here.accept(&task.kind, task.payload.as_deref().unwrap_or_default())?;
    let broker = context.broker().await?;
    for reason in preflight::warnings(context, broker.as_ref(), here, task).await {
        print::note(&format!("warning: {}", printer.line(&reason)));
    }
    let answers = broker.enqueue(std::slice::from_ref(task)).await?;
    match answers.into_iter().next() {
        Some(Ok(enqueued)) => Ok((broker, enqueued)),
        Some(Err(Refusal::Invalid(error))) => Err(BadData(error.to_string()).into()),
        Some(Err(refusal)) => {
            let why = preflight::refusal(&*broker, task, &refusal).await;
            bail!("not enqueued: {why}")
        }
        None => bail!("the broker gave no answer"),
    }
}
