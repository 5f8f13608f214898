//! What handlers may ask of this worker: to enqueue further tasks, into the broker that theirs came from.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use runner_core::chain::chain;
use runner_core::function::Functions;
use runner_core::task::{InvalidTask, QueueName, Task, TaskId};
use runner_queue::{
    AwaitedTask, Broker, BrokerError, Refusal, ReportedOutcome, WorkReport, await_report, close_report, reported,
};
use runner_sdk::{BoxFuture, EnqueueAnswers, NotEnqueued, Outcome, Services};
use uuid::Uuid;

use crate::telemetry::{OpenSpan, Telemetry};

/// The broker, for handlers.
pub(super) struct BrokerServices {
    pub broker: Arc<dyn Broker>,
    /// Says which payloads are accepted.
    pub functions: Functions,
    /// Takes the spans of what is enqueued.
    pub telemetry: Telemetry,
}

impl fmt::Debug for BrokerServices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BrokerServices").field(&self.broker.describe()).finish()
    }
}

impl BrokerServices {
    fn payload_fault(&self, task: &Task) -> Option<String> {
        let payload = task.payload.as_deref().unwrap_or_default();
        let fault = self.functions.payload_fault(&task.kind, payload)?;
        Some(format!("{}: {fault}", task.kind))
    }
}

impl Services for BrokerServices {
    fn enqueue(&self, tasks: Vec<Task>) -> BoxFuture<'_, EnqueueAnswers> {
        Box::pin(async move {
            let faults: Vec<Option<String>> = tasks.iter().map(|task| self.payload_fault(task)).collect();
            let mut faulty = faults.iter().map(Option::is_some);
            let mut good = tasks;
            good.retain(|_| faulty.next() == Some(false));
            let spans: Vec<Option<OpenSpan>> = match self.telemetry.is_on() {
                true => good.iter_mut().map(|task| self.telemetry.enqueue(task)).collect(),
                false => Vec::new(),
            };
            let answers = match good.is_empty() {
                true => Vec::new(),
                false => self.broker.enqueue(&good).await.map_err(unavailable)?,
            };
            for (span, answer) in spans.into_iter().zip(&answers) {
                match answer {
                    Ok(enqueued) => self.telemetry.enqueued(span, Ok(&enqueued.id)),
                    Err(refusal) => self.telemetry.enqueued(span, Err(&refusal.to_string())),
                }
            }
            let mut answers = answers
                .into_iter()
                .map(|answer| answer.map(|enqueued| enqueued.id).map_err(refused));
            let missing = || Err(NotEnqueued::Unavailable("no answer".to_owned()));
            let answer = |fault: Option<String>| match fault {
                Some(why) => Err(NotEnqueued::Invalid(InvalidTask::PayloadRefused(why))),
                None => answers.next().unwrap_or_else(missing),
            };
            Ok(faults.into_iter().map(answer).collect())
        })
    }

    fn await_report(
        &self,
        queue: &QueueName,
        task: &TaskId,
        valid: Duration,
    ) -> BoxFuture<'_, Result<String, NotEnqueued>> {
        let (queue, task) = (queue.clone(), task.clone());
        Box::pin(async move {
            // Two random ids: more bits than can be guessed.
            let token = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
            let awaited = AwaitedTask { queue, task };
            let kept = await_report(&*self.broker, &token, &awaited, valid).await;
            kept.map(|()| token).map_err(unavailable)
        })
    }

    fn reported(&self, token: &str) -> BoxFuture<'_, Result<Option<Outcome>, NotEnqueued>> {
        let token = token.to_owned();
        Box::pin(async move {
            let report = reported(&*self.broker, &token).await.map_err(unavailable)?;
            Ok(report.map(outcome_of))
        })
    }

    fn close_report(&self, token: &str) -> BoxFuture<'_, Result<Option<Outcome>, NotEnqueued>> {
        let token = token.to_owned();
        Box::pin(async move {
            let report = close_report(&*self.broker, &token).await.map_err(unavailable)?;
            Ok(report.map(outcome_of))
        })
    }
}

fn outcome_of(report: WorkReport) -> Outcome {
    match report.outcome {
        ReportedOutcome::Success => Outcome::Success(report.result.map(Into::into)),
        ReportedOutcome::Retry => Outcome::Retry(report.error),
        ReportedOutcome::Fatal => Outcome::Skip(report.error),
    }
}

fn unavailable(error: BrokerError) -> NotEnqueued {
    NotEnqueued::Unavailable(chain(&error))
}

fn refused(refusal: Refusal) -> NotEnqueued {
    match refusal {
        Refusal::Duplicate | Refusal::IdTaken | Refusal::Received => NotEnqueued::Duplicate,
        Refusal::Invalid(why) => NotEnqueued::Invalid(why),
    }
}
