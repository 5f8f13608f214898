//! `runner ls audit`: what people and programs did, as far as the broker has it.

use clap::Args;
use runner_queue::MAX_AUDIT_ENTRIES;

use super::{CommandContext, print, values};
use crate::audit::{AuditFilter, search};
use crate::objects::AuditObject;

/// List what people and programs did on the dashboard, over the API and with commands
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner ls audit\n  \
    runner ls audit --by ann --action queue. --since 24h\n\n\
    The newest come first. The broker keeps the newest ten thousand; the log has all of them (target=audit).")]
pub struct ListAudit {
    /// Only what someone did whose name contains this
    #[arg(long, value_name = "TEXT")]
    by: Option<String>,
    /// Only actions that begin with this, such as `queue.`
    #[arg(long, value_name = "TEXT")]
    action: Option<String>,
    /// Only what was done to a target that contains this
    #[arg(long, value_name = "TEXT")]
    target: Option<String>,
    /// Only within this time before now
    #[arg(long, value_name = "DURATION", value_parser = values::seconds)]
    since: Option<std::time::Duration>,
    /// Number of entries
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=MAX_AUDIT_ENTRIES as i64))]
    limit: u16,
    /// Print a JSON array of objects
    #[arg(long)]
    json: bool,
}

impl ListAudit {
    pub async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let broker = context.looked_at().await?;
        let zone = &context.settings()?.source.zone;
        let now = context.clock.now();
        let filter = AuditFilter {
            by: self.by.unwrap_or_default(),
            action: self.action.unwrap_or_default(),
            target: self.target.unwrap_or_default(),
            from: self.since.and_then(|since| now.checked_sub(since).ok()),
            to: None,
        };
        let found = search(&*broker, &filter, None, usize::from(self.limit)).await?;
        if found.next.is_some() {
            print::note(&format!("there are more than {}; --limit lists more", self.limit));
        }
        let entries = found.entries.into_iter().map(|(_, entry)| AuditObject::of(entry, zone));
        if self.json {
            return Ok(print::json(&entries.collect::<Vec<_>>())?);
        }
        let rows: Vec<Vec<String>> = entries
            .map(|entry| {
                let at = serde_json::to_value(&entry.at).ok();
                let change = match (entry.before, entry.after) {
                    (Some(before), Some(after)) => format!("{before} → {after}"),
                    (None, Some(after)) => after,
                    (Some(before), None) => before,
                    (None, None) => String::new(),
                };
                vec![
                    at.and_then(|at| at.as_str().map(str::to_owned)).unwrap_or_default(),
                    entry.by,
                    entry.from.unwrap_or_default(),
                    entry.action,
                    entry.target,
                    entry.outcome,
                    change,
                    entry.note.unwrap_or_default(),
                ]
            })
            .collect();
        let heading = ["WHEN", "WHO", "FROM", "ACTION", "TARGET", "OUTCOME", "CHANGE", "NOTE"];
        Ok(print::text(&print::table(&heading, &rows))?)
    }
}
