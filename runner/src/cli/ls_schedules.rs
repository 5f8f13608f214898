//! `runner ls schedules`: every schedule of every source, whether it is in force, and when it occurs next.

use clap::Args;
use runner_core::schedule::{Definition, Plan, Problem};
use runner_queue::Standing;
use serde_json::{Value, json};

use super::{Context, parts, print};
use crate::source::Catalog;

/// Schedules of manifests, table and code
#[derive(Debug, Args)]
pub struct Schedules {
    /// As an array of objects
    #[arg(long)]
    json: bool,
    /// How many coming occurrences are computed for each
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=1000))]
    next: u16,
}

impl Schedules {
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let settings = context.settings()?;
        let code = parts::code_schedules(settings, context.schedules.clone())?;
        let sources = parts::sources(settings, code);
        let broker = context.broker().await?;
        let loaded = Catalog::load_once(sources, context.clock.clone()).await;
        for status in &loaded.statuses {
            if let Some(reason) = status.state.reason() {
                eprintln!("warning: {} cannot be read: {reason}", status.place);
            }
        }
        // An instance that runs may still hold the last good version of what this one cannot read.
        let unlisted = |p: &&Problem| {
            p.schedule
                .as_ref()
                .is_none_or(|id| !loaded.plan.schedules.contains_key(id))
        };
        for problem in loaded.plan.problems.iter().filter(unlisted) {
            eprintln!("{problem}");
        }
        let definitions: Vec<&Definition> = loaded.plan.schedules.values().collect();
        let ids: Vec<_> = definitions.iter().map(|d| d.id.clone()).collect();
        let standings = broker.standings(&ids).await?;
        let listed = definitions.into_iter().zip(standings);
        if self.json {
            let objects = listed.map(|(d, s)| self.object(context, &loaded.plan, d, s.as_ref()));
            return Ok(print::json(&objects.collect())?);
        }
        let rows: Vec<Vec<String>> = listed.map(|(d, s)| row(context, &loaded.plan, d, s.as_ref())).collect();
        let heading = ["ID", "NAME", "SPEC", "ZONE", "TYPE", "STATE", "NEXT", "LAST"];
        Ok(print::text(&print::table(&heading, &rows))?)
    }

    fn object(&self, context: &Context, plan: &Plan, d: &Definition, standing: Option<&Standing>) -> Value {
        let zone = &d.timing.zone;
        let next = d.timing.upcoming(context.clock.now(), usize::from(self.next));
        let next: Vec<String> = next.into_iter().map(|at| print::instant(at, zone)).collect();
        let last = standing.and_then(|s| s.last.as_ref());
        json!({
            "id": d.id,
            "name": d.name,
            "description": d.description,
            "source": d.origin.source,
            "origin": d.origin.place,
            "spec": d.timing.text,
            "timezone": d.timing.zone_name,
            "type": d.task.kind,
            "payload": d.task.payload.as_ref().map(print::payload),
            "queue": d.task.queue,
            "enabled": d.enabled,
            "paused": standing.is_some_and(|s| s.paused.is_some()),
            "paused_by": standing.and_then(|s| s.paused.clone()),
            "overlap": d.overlap,
            "next": next,
            "last": last.map(|(at, task)| json!({"nominal": print::instant(*at, zone), "task": task})),
            "problems": plan.problems_of(&d.id).collect::<Vec<_>>(),
        })
    }
}

fn row(context: &Context, plan: &Plan, d: &Definition, standing: Option<&Standing>) -> Vec<String> {
    let zone = &d.timing.zone;
    let state = match (d.enabled, standing.is_some_and(|s| s.paused.is_some())) {
        (false, _) => "disabled",
        (true, true) => "paused",
        (true, false) if plan.problems_of(&d.id).next().is_some() => "warned",
        (true, false) => "on",
    };
    let next = (state != "disabled")
        .then(|| d.timing.next(context.clock.now()))
        .flatten();
    let last = standing.and_then(|s| s.last.as_ref());
    let shown = |at: Option<jiff::Timestamp>| at.map_or_else(String::new, |at| print::instant(at, zone));
    vec![
        d.id.to_string(),
        d.name.clone(),
        d.timing.text.clone(),
        d.timing.zone_name.clone(),
        d.task.kind.clone(),
        state.to_owned(),
        shown(next),
        shown(last.map(|(at, _)| *at)),
    ]
}
