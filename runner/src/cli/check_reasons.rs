//! What `runner check` says about deployed schedules: why one does not fire or why its tasks wait, as its page says,
//! if an operator has to act.

use std::collections::BTreeSet;
use std::time::Duration;

use runner_core::schedule::{Definition, ScheduleId};
use runner_core::task::QueueName;
use runner_queue::{Broker, BrokerResult};
use serde_json::Value;

use super::CommandContext;
use super::check_findings::finding;
use super::reasons::ReasonPrinter;
use crate::config::Settings;
use crate::diagnose::{ReasonCode, ScheduleFacts, why_schedule};
use crate::facts;

/// How long the broker may take to answer: a check must be quick.
const LIMIT: Duration = Duration::from_secs(3);

/// Queues that are asked about: about a millisecond of the store's time each.
const QUEUES: usize = 500;

/// The finding about a schedule that calls a function which no manifest defines.
const NO_FUNCTION: &str = ReasonCode::NoFunction.as_str();

/// Reasons that do not depend on whether a scheduler runs while the check does.
const SHOWN: [ReasonCode; 5] = [
    ReasonCode::Paused,
    ReasonCode::QueuePaused,
    ReasonCode::QueueNotServed,
    ReasonCode::ServersStopped,
    ReasonCode::TypeNotHandled,
];

/// A warning for each such reason that was not `found` in the sources. A broker that cannot be asked is reported
/// elsewhere.
pub(super) async fn look(
    context: &CommandContext,
    settings: &Settings,
    broker: &dyn Broker,
    definitions: &[&Definition],
    found: &[Value],
) -> Vec<Value> {
    let printer = ReasonPrinter {
        now: context.clock.now(),
        zone: &settings.source.zone,
    };
    match tokio::time::timeout(LIMIT, ask(&printer, broker, definitions, found)).await {
        Ok(Ok(findings)) => findings,
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

async fn ask(
    printer: &ReasonPrinter<'_>,
    broker: &dyn Broker,
    definitions: &[&Definition],
    found: &[Value],
) -> BrokerResult<Vec<Value>> {
    let queues: BTreeSet<&QueueName> = definitions.iter().map(|d| &d.task.queue).collect();
    let queues: Vec<QueueName> = queues.into_iter().take(QUEUES).cloned().collect();
    let ids: Vec<ScheduleId> = definitions.iter().map(|d| d.id.clone()).collect();
    let (facts, standings) = tokio::try_join!(facts::of_queues(broker, &queues), broker.standings(&ids))?;
    let mut findings = Vec::new();
    for (definition, standing) in definitions.iter().zip(&standings) {
        // One that was never registered is not deployed yet.
        let Some(standing) = standing else { continue };
        let schedule = ScheduleFacts {
            definition,
            standing: Some(standing),
            decisions: &[],
            superseded: false,
            no_function: found
                .iter()
                .any(|f| f["code"] == NO_FUNCTION && f["place"] == definition.origin.place),
            last_task: None,
        };
        let reasons = why_schedule(&schedule, &facts);
        for reason in reasons.iter().filter(|reason| SHOWN.contains(&reason.code)) {
            let (text, hint) = (printer.sentence(reason), printer.hint(reason));
            let (code, place) = (reason.code.as_str(), &definition.origin.place);
            findings.push(finding("warning", code, place, &text, None, hint.as_deref()));
        }
    }
    Ok(findings)
}
