//! `runner backup`: a copy of the SQLite file, while it is in use.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use runner_queue::embedded::{BackedUp, BackupError, backup};

use super::exit::{Unavailable, Usage};
use super::{CommandContext, open, print};
use crate::config::{BrokerSettings, Settings};
use crate::source::TableSettings;

/// Copy the SQLite file with tasks, schedules and sys_crontab, consistent as of one instant, while runners keep
/// running.
///
/// The copy is one self-contained file; it is verified before it gets its name. An existing file is
/// never overwritten. With Redis only a table in SQLite is copied: tasks are in Redis, whose own snapshots (BGSAVE) or
/// append-only file must be copied instead.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  runner backup /backup/runner-$(date +%F).db\n\n\
    To restore: stop every runner of this file, put the copy in its place, remove runner.db-wal and runner.db-shm,\n\
    start again. What ran after the backup runs again, and what was enqueued after it is gone.")]
pub struct BackupCommand {
    /// Path of the copy; must not exist
    file: PathBuf,
}

impl BackupCommand {
    pub async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let settings = context.settings()?;
        match (&settings.broker, &settings.source.table) {
            (BrokerSettings::Embedded { path }, _) => self.copy(settings, path).await,
            (BrokerSettings::Redis(_), Some(TableSettings::OfBroker { path } | TableSettings::Sqlite { path }))
                if path.exists() =>
            {
                print::note(&format!("note: {IN_REDIS}"));
                self.copy(settings, path).await
            }
            (BrokerSettings::Redis(_), _) => bail!("nothing to copy here: {IN_REDIS}"),
        }
    }

    async fn copy(&self, settings: &Settings, path: &Path) -> anyhow::Result<()> {
        if !path.exists() {
            let why = format!("no backup: {}", open::no_store(settings, path));
            return Err(anyhow::Error::new(Unavailable).context(why));
        }
        let made = match backup(path, &self.file).await {
            Err(target @ BackupError::Target { .. }) => return Err(Usage(format!("no backup: {target}")).into()),
            Err(BackupError::Broker(error)) => Err(error),
            Ok(made) => Ok(made),
        };
        let made = made.with_context(|| format!("no backup of {}", path.display()))?;
        Ok(print::done(&format!("{}: {}", self.file.display(), summary(&made)))?)
    }
}

const IN_REDIS: &str = "tasks are in Redis; copy its snapshot after `BGSAVE`, or its append-only directory, as Redis' \
                        documentation says";

fn summary(made: &BackedUp) -> String {
    let some = |n: Option<u64>, what: &str| n.map(|n| format!("{n} {what}, "));
    let tasks = some(made.tasks, "tasks").unwrap_or_default();
    let rows = some(made.rows, "rows of sys_crontab").unwrap_or_default();
    format!("{tasks}{rows}{} bytes, sound", made.bytes)
}
