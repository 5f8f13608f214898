//! `runner migrate`: upgrades the files and tables of this program before anything starts.

use anyhow::Context as _;
use clap::Args;

use super::exit::{Unavailable, Usage};
use super::file_store::{self, make_file};
use super::{CommandContext, print};
use crate::config::BrokerSettings;
use crate::source::{self, TableSettings};

/// Create or upgrade the tables and files this program uses; safe to repeat.
///
/// The embedded broker and its table are upgraded whenever they are opened; with this command a
/// deployment can do it beforehand. In a database server the table sys_crontab is created if it is missing; an
/// existing one is left unchanged. Redis needs no tables, but it must answer.
#[derive(Debug, Args)]
pub struct Migrate {
    /// Rewrite the file of the embedded broker without gaps, so that it returns the space of deleted tasks from then
    /// on. Needs as much free space as the file has; writers wait meanwhile
    #[arg(long)]
    compact: bool,
}

impl Migrate {
    pub async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let broker = context.broker().await?;
        // An output that cannot be written must not stop the work.
        let mut said = print::done(&format!("{}: up to date", broker.describe()));
        if self.compact {
            said = said.and(print::done(&compact(context).await?));
        }
        let Some(table) = &context.settings()?.source.table else {
            return Ok(said?);
        };
        let place = table.place();
        if let TableSettings::OfBroker { path } | TableSettings::Sqlite { path } = table {
            let made = make_file(path).map_err(|error| anyhow::Error::new(Unavailable).context(error.to_string()));
            made.with_context(|| format!("cannot make {}", path.display()))?;
        }
        let made = source::migrate(table).await;
        let made = made.map_err(|error| anyhow::Error::new(Unavailable).context(runner_core::chain::chain(&error)));
        let made = made.with_context(|| format!("cannot make sys_crontab in {place}"))?;
        let word = if made {
            "sys_crontab was made"
        } else {
            "sys_crontab is there"
        };
        Ok(said.and(print::done(&format!("{place}: {word}")))?)
    }
}

/// Rewrites the file and describes the result.
async fn compact(context: &CommandContext) -> anyhow::Result<String> {
    let BrokerSettings::Embedded { path } = &context.settings()?.broker else {
        let why = "--compact is for the file of the embedded broker; here tasks wait in Redis";
        return Err(Usage(why.to_owned()).into());
    };
    let size = |path: &std::path::Path| std::fs::metadata(path).map_or(0, |file| file.len());
    let before = size(path);
    file_store::compact(path, context.clock.clone()).await?;
    let after = size(path);
    let file = path.display();
    Ok(format!("{file}: rewritten, {before} bytes before, {after} now"))
}
