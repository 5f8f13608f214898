//! `runner migrate`: brings the files and tables of this program up to date before anything starts.

use anyhow::Context as _;
use clap::Args;

use super::exit::Unavailable;
use super::{Context, parts, print};
use crate::source;

/// Creates or updates what this program keeps in its stores; safe to repeat.
///
/// The embedded broker and its table are brought up to date whenever they are opened; with this command a
/// deployment can do it beforehand. In a database server the table sys_crontab is made if it is missing; one
/// that exists is left as it is. In Redis nothing has to be made, but it must answer.
#[derive(Debug, Args)]
pub struct Migrate {}

impl Migrate {
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let broker = context.broker().await?;
        print::text(&format!("{}: up to date\n", broker.describe()))?;
        let Some(table) = parts::table(&context.settings()?.table) else {
            return Ok(());
        };
        let place = table.place();
        let made = source::migrate(&table).await;
        let made = made.map_err(|error| anyhow::Error::new(Unavailable).context(crate::log::chain(&error)));
        let made = made.with_context(|| format!("cannot make sys_crontab in {place}"))?;
        let word = if made {
            "sys_crontab was made"
        } else {
            "sys_crontab is there"
        };
        Ok(print::text(&format!("{place}: {word}\n"))?)
    }
}
