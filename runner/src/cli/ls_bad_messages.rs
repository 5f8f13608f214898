//! `runner ls bad-messages`: messages of queues and streams of which no task could be made, as far as they are kept in the broker.
//!
//! What went to a dead letter is in its queue or stream, and what was dropped is nowhere.

use clap::Args;
use runner_queue::MAX_DOCUMENTS;
use serde_json::Value;

use super::{CommandContext, print};
use crate::trigger::{self, SavedMessage, SavedNames};

/// List messages that could not become tasks, and why
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner ls bad-messages\n  \
    runner ls bad-messages orders:new --json | jq -r '.[0].body' | runner run orders --payload -\n\n\
    Only those of triggers with `bad: keep` are kept, the newest first. --json has their content, which may be\n\
    secret; the text has none of it.")]
pub struct ListBadMessages {
    /// Only those of this trigger
    trigger: Option<String>,
    /// Number of messages
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=MAX_LISTED))]
    limit: u16,
    /// Print a JSON array of objects
    #[arg(long)]
    json: bool,
}

/// Messages in one answer, each with up to 64 KiB of content.
const MAX_LISTED: i64 = 10_000;

impl ListBadMessages {
    pub async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let broker = context.looked_at().await?;
        let zone = &context.settings()?.source.zone;
        let names = SavedNames::all(&*broker).await?.of(self.trigger.as_deref());
        let limit = usize::from(self.limit);
        if names.len() > limit {
            print::note(&format!(
                "the newest {limit} of {} are listed; --limit lists more",
                names.len()
            ));
        }
        let mut kept = Vec::new();
        for some in names[..names.len().min(limit)].chunks(MAX_DOCUMENTS) {
            kept.extend(trigger::messages_named(&*broker, some).await?);
        }
        if self.json {
            let objects = kept.into_iter().map(|mut message| {
                message.document.insert("name".to_owned(), message.name.into());
                Value::Object(message.document)
            });
            return Ok(print::json(&objects.collect::<Vec<_>>())?);
        }
        let row = |message: &SavedMessage| {
            vec![
                message.at().map_or_else(String::new, |at| print::instant(at, zone)),
                message.trigger().to_owned(),
                message.bytes().to_string(),
                message.name.clone(),
                message.why().to_owned(),
            ]
        };
        let rows: Vec<Vec<String>> = kept.iter().map(row).collect();
        Ok(print::text(&print::table(
            &["WHEN", "TRIGGER", "BYTES", "KEPT AS", "WHY"],
            &rows,
        ))?)
    }
}
