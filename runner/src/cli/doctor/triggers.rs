//! Whether triggers listen, as each running instance reports.

use runner_queue::Broker;

use super::diagnosis::{Diagnosis, Level};
use crate::cli::print;
use crate::trigger::{self, TriggerReport};

/// The area.
const AREA: &str = "triggers";

pub(super) async fn look(broker: &dyn Broker) -> Vec<Diagnosis> {
    let reports = match trigger::reports(broker).await {
        Ok(reports) => reports,
        Err(error) => {
            let text = format!(
                "it cannot be asked about triggers: {}",
                runner_core::chain::chain(&error)
            );
            return vec![Diagnosis::new(Level::Error, AREA, text).code(error.code())];
        }
    };
    let all = reports.iter().flat_map(|instance| {
        instance
            .triggers
            .iter()
            .map(|report| (instance.instance.as_str(), report))
    });
    let mut found: Vec<Diagnosis> = all
        .clone()
        .filter_map(|(instance, report)| of(instance, report))
        .collect();
    if found.is_empty() {
        let text = format!("{}, none fails", print::counted(all.count(), "trigger"));
        found.push(Diagnosis::new(Level::Ok, AREA, text));
    }
    found
}

/// What is wrong with a trigger of an instance: a fault, or else events of which no task could be made.
fn of(instance: &str, report: &TriggerReport) -> Option<Diagnosis> {
    if let Some(fault) = report.failure() {
        let text = format!("{} on {instance} is {}: {}", report.id, report.state, fault.why);
        let found = Diagnosis::new(Level::Error, AREA, text).code(fault.code.as_str());
        return Some(match fault.hint.as_str() {
            "" => found,
            hint => found.hint(hint),
        });
    }
    let (_, last) = report.last_bad.as_ref()?;
    let text = format!("{} on {instance} had {} bad, the last: {last}", report.id, report.bad);
    Some(Diagnosis::new(Level::Warning, AREA, text))
}
