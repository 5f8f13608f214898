//! What a program adds to `runner`, as [`App`](super::App) has collected it and the start takes it.

use std::path::PathBuf;

use clap::ArgMatches;
use runner_client::Client;
use runner_core::task::Task;
use runner_sdk::{BoxFuture, Registry};

use crate::config::OwnSection;
use crate::source::Schedule;

/// Adds handlers to a registry, perhaps after it has opened what they need.
pub type Registrar = Box<dyn FnOnce(Registry) -> BoxFuture<'static, anyhow::Result<Registry>> + Send>;

/// Something of the program that runs before the first task, or after the last one.
pub type Hook = Box<dyn FnOnce(Client) -> BoxFuture<'static, anyhow::Result<()>> + Send>;

/// A command of the program's own, and what it does.
pub struct OwnCommand {
    /// How it is written on the command line, and its help.
    pub command: clap::Command,
    /// What it does; it may ask for the client.
    pub run: Box<dyn FnOnce(ArgMatches, Client) -> BoxFuture<'static, anyhow::Result<()>> + Send>,
}

/// A schedule registered in code.
#[derive(Debug, Clone)]
pub struct CodeSchedule {
    /// Its stable name; the identity is `code:<name>`.
    pub name: String,
    /// When it occurs, and its policies.
    pub schedule: Schedule,
    /// The task that each occurrence enqueues.
    pub task: Task,
}

/// What a program adds to the built-in one.
#[derive(Default)]
pub struct AppParts {
    /// Functions that add handlers, in order.
    pub registrars: Vec<Registrar>,
    /// Schedules in code.
    pub schedules: Vec<CodeSchedule>,
    /// Run before the first task, in order.
    pub on_start: Vec<Hook>,
    /// Run after the last task, in order.
    pub on_stop: Vec<Hook>,
    /// Ends the run, beside signals.
    pub stop_when: Option<BoxFuture<'static, ()>>,
    /// The name of the program, if it is not `runner`.
    pub name: Option<&'static str>,
    /// Its version, if it is not that of `runner`.
    pub version: Option<&'static str>,
    /// The settings to read where no command line names them.
    pub config: Option<PathBuf>,
    /// Sections of the settings of its own.
    pub(crate) sections: Vec<OwnSection>,
    /// Commands of its own.
    pub commands: Vec<OwnCommand>,
}

impl AppParts {
    /// What adds handlers, for a command that reads no sections of the program's own. Those that keep these come first.
    #[must_use]
    pub fn without_sections(self) -> Vec<Registrar> {
        self.registrars.into_iter().skip(self.sections.len()).collect()
    }
}
