//! Whether schedules fire: those of all sources, by the reasons that their pages show.

use jiff::Timestamp;
use runner_core::schedule::{Definition, ScheduleId};
use runner_queue::{Broker, BrokerResult};

use super::diagnosis::{Diagnosis, Level, level_of};
use crate::cli::reasons::ReasonPrinter;
use crate::cli::{CommandContext, assemble};
use crate::config::Settings;
use crate::diagnose::Reason;
use crate::facts;
use crate::source::{self, Catalog};

/// Schedules that are asked about: a few calls each.
const ASKED: usize = 300;

/// The area.
const AREA: &str = "schedules";

pub(super) async fn look(context: &CommandContext, settings: &Settings, broker: &dyn Broker) -> Vec<Diagnosis> {
    let sources = source::SourceSettings {
        keep: None,
        ..assemble::looked_at(settings, assemble::read_code(settings, context.schedules.clone()))
    };
    let loaded = Catalog::load_once(sources, context.clock.clone()).await;
    let all: Vec<&Definition> = loaded.plan.schedules.values().filter(|d| d.enabled).collect();
    let (mut found, mut fires) = (Vec::new(), 0);
    for definition in all.iter().take(ASKED) {
        match reasons(broker, &loaded.plan, definition).await {
            Ok(reasons) => match reasons.iter().find(|reason| Reason::is_warning(reason)) {
                Some(reason) => found.push(finding(context.clock.now(), definition, reason)),
                None => fires += 1,
            },
            Err(error) => {
                let text = format!("{}: {}", definition.id, runner_core::chain::chain(&error));
                found.push(Diagnosis::new(Level::Error, AREA, text).code(error.code()));
                return found;
            }
        }
    }
    if fires > 0 || found.is_empty() {
        let text = format!("{fires} of {} enabled ones have nothing against them", all.len());
        found.push(Diagnosis::new(Level::Ok, AREA, text));
    }
    found
}

async fn reasons(
    broker: &dyn Broker,
    plan: &runner_core::schedule::Plan,
    definition: &Definition,
) -> BrokerResult<Vec<Reason>> {
    let ids: [ScheduleId; 1] = [definition.id.clone()];
    let standings = broker.standings(&ids).await?;
    let decisions = broker.decisions(Some(&definition.id), facts::DECISIONS).await?;
    facts::of_schedule(broker, plan, definition, standings[0].as_ref(), &decisions, None).await
}

fn finding(now: Timestamp, definition: &Definition, reason: &Reason) -> Diagnosis {
    let zone = &definition.timing.zone;
    let printer = ReasonPrinter { now, zone };
    let text = format!("{}: {}", definition.id, printer.sentence(reason));
    let finding = Diagnosis::new(level_of(reason), AREA, text).code(reason.code.as_str());
    match printer.hint(reason) {
        Some(hint) => finding.hint(hint),
        None => finding,
    }
}
