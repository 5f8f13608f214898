//! What every command may need: settings, clock, broker. Opened on first use, so that a command
//! that needs no settings runs with broken ones.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::sync::Arc;

use runner_core::clock::Clock;
use runner_queue::Broker;
use tempfile::TempDir;

use super::open;
use super::parts::{AppParts, CodeSchedule};
use crate::config::{Environment, OwnSection, Purpose, Settings};

/// Handed to each command.
pub struct CommandContext {
    named: Option<PathBuf>,
    purpose: Purpose,
    sections: Vec<OwnSection>,
    settings: OnceCell<Settings>,
    empty: OnceCell<TempDir>,
    /// The present instant.
    pub clock: Arc<dyn Clock>,
    /// Schedules that the program registers in code.
    pub schedules: Vec<CodeSchedule>,
}

impl CommandContext {
    /// For the configuration file named on the command line, if any, and what the program adds.
    pub fn new(named: Option<PathBuf>, purpose: Purpose, clock: Arc<dyn Clock>, parts: &AppParts) -> Self {
        Self {
            named,
            purpose,
            sections: parts.sections.clone(),
            settings: OnceCell::new(),
            empty: OnceCell::new(),
            clock,
            schedules: parts.schedules.clone(),
        }
    }

    /// The settings, read once.
    pub fn settings(&self) -> anyhow::Result<&Settings> {
        if let Some(settings) = self.settings.get() {
            return Ok(settings);
        }
        let settings = Settings::load(
            self.named.as_deref(),
            &Environment::of_process(),
            self.purpose,
            &self.sections,
        )?;
        Ok(self.settings.get_or_init(|| settings))
    }

    /// The configured broker for a command that only reads: where there is no store, none is created.
    pub async fn looked_at(&self) -> anyhow::Result<Arc<dyn Broker>> {
        let (broker, empty) = open::look(self.settings()?, self.clock.clone()).await?;
        if let Some(empty) = empty {
            // It exists until this command ends.
            let _kept = self.empty.set(empty);
        }
        Ok(broker)
    }

    /// The configured broker for a command that has read first and found that it has something to write.
    pub async fn store(&self, looked_at: Arc<dyn Broker>) -> anyhow::Result<Arc<dyn Broker>> {
        match self.empty.get() {
            Some(_) => self.broker().await,
            None => Ok(looked_at),
        }
    }

    /// The configured broker, which has answered. Creates the file of an embedded one.
    pub async fn broker(&self) -> anyhow::Result<Arc<dyn Broker>> {
        open::reach(self.settings()?, self.clock.clone()).await
    }
}
