//! What every command may ask for: settings, clock, broker. Opened when first asked for, so that a command
//! that needs no settings runs with broken ones.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::sync::Arc;

use runner_core::clock::Clock;
use runner_queue::Broker;

use super::app::CodeSchedule;
use super::open;
use crate::config::{Environment, Settings};

/// Handed to each command.
pub struct Context {
    named: Option<PathBuf>,
    settings: OnceCell<Settings>,
    /// The present.
    pub clock: Arc<dyn Clock>,
    /// Schedules that the program registers in code.
    pub schedules: Vec<CodeSchedule>,
}

impl Context {
    /// For the configuration file named on the command line, if any.
    pub fn new(named: Option<PathBuf>, clock: Arc<dyn Clock>, schedules: Vec<CodeSchedule>) -> Self {
        Self {
            named,
            settings: OnceCell::new(),
            clock,
            schedules,
        }
    }

    /// The settings, read once.
    pub fn settings(&self) -> anyhow::Result<&Settings> {
        if let Some(settings) = self.settings.get() {
            return Ok(settings);
        }
        let settings = Settings::load(self.named.as_deref(), &Environment::of_process())?;
        Ok(self.settings.get_or_init(|| settings))
    }

    /// The configured broker, which has answered.
    pub async fn broker(&self) -> anyhow::Result<Arc<dyn Broker>> {
        open::reach(self.settings()?, self.clock.clone()).await
    }
}
