//! `runner run`: joins the rooms, starts them in order, and stops them in the opposite one.

use std::process::ExitCode;

use anyhow::bail;

use super::app::AppParts;
use crate::config::{Access, Settings};

/// Runs until a signal says stop; the exit code of the process.
///
/// # Errors
///
/// When the program cannot start.
pub async fn run(settings: Settings, _app: AppParts, _access: Access) -> anyhow::Result<ExitCode> {
    bail!("{} cannot run yet: its rooms are not joined", settings.name)
}
