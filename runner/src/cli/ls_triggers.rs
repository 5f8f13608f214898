//! `runner ls triggers`: the triggers of all manifests, and how each instance is doing with them.

use std::time::Duration;

use clap::Args;
use runner_core::trigger::TriggerDefinition;

use super::state_store::BrokerStateStore;
use super::{CommandContext, assemble, print};
use crate::objects::TriggerObject;
use crate::source::{self, Catalog};
use crate::trigger::{self, InstanceReport, TriggerReport};

/// List triggers of manifests, and how each running instance is doing with them
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner ls triggers\n  \
    runner ls triggers --json | jq -r '.[] | select(.instances | length == 0) | .id'\n\n\
    What instances say is at most five seconds old. One that says nothing for longer may be gone, and is left out after 20 s.")]
pub struct ListTriggers {
    /// Print a JSON array of objects
    #[arg(long)]
    json: bool,
}

impl ListTriggers {
    pub async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let settings = context.settings()?;
        let broker = context.looked_at().await?;
        let sources = source::SourceSettings {
            keep: BrokerStateStore::of_look(broker.clone(), settings),
            table: None,
            ..assemble::looked_at(settings, source::Code::default())
        };
        let loaded = Catalog::load_once(sources, context.clock.clone()).await;
        let reports = trigger::reports(&*broker).await?;
        let now = broker.now().await?;
        let zone = &settings.source.zone;
        if self.json {
            let objects = loaded
                .triggers
                .iter()
                .map(|definition| TriggerObject::of(definition, &reports, now, zone));
            let objects: Vec<_> = objects.collect();
            return Ok(print::json(&objects)?);
        }
        let mut rows: Vec<Vec<String>> = Vec::new();
        for definition in loaded.triggers.iter() {
            let before = rows.len();
            let start = |state: String| vec![definition.id.to_string(), definition.describe(), state];
            for (instance, report) in of_trigger(&reports, definition) {
                let mut row = start(state(report, instance.silent_for(now)));
                let counts = [
                    report.enqueued,
                    report.repeated,
                    report.bad,
                    report.refused,
                    report.unacked,
                ];
                row.push(instance.instance.clone());
                row.extend(counts.map(|count| count.to_string()));
                row.push(print::instant(report.since, zone));
                rows.push(row);
            }
            if rows.len() == before {
                let state = if definition.enabled { "no instance" } else { "disabled" };
                rows.push(start(state.to_owned()));
            }
        }
        let heading = [
            "ID",
            "LISTENS TO",
            "STATE",
            "INSTANCE",
            "ENQUEUED",
            "REPEATED",
            "BAD",
            "REFUSED",
            "UNACKED",
            "SINCE",
        ];
        Ok(print::text(&print::table(&heading, &rows))?)
    }
}

fn of_trigger<'a>(
    reports: &'a [InstanceReport],
    definition: &'a TriggerDefinition,
) -> impl Iterator<Item = (&'a InstanceReport, &'a TriggerReport)> {
    reports.iter().flat_map(move |instance| {
        let own = instance
            .triggers
            .iter()
            .filter(move |report| report.id == definition.id.as_str());
        own.map(move |report| (instance, report))
    })
}

fn state(report: &TriggerReport, silent: Option<Duration>) -> String {
    if let Some(silent) = silent {
        return format!("{}, not heard for {} s", report.state, silent.as_secs());
    }
    match &report.fault {
        Some(fault) => format!("{} ({})", report.state, fault.code),
        None => report.state.clone(),
    }
}
