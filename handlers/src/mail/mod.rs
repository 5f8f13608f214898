//! Sends a message by mail for a task, over SMTP to the one server of the settings.
//!
//! A message that was sent twice, because the answer to the first time was lost, has the same `Message-ID` both times.

mod settings;

#[cfg(feature = "mail")]
mod connection;
#[cfg(feature = "mail")]
mod delivery;
#[cfg(feature = "mail")]
mod letter;

pub use settings::{MailLogin, MailSettings, MailTls};

#[cfg(feature = "mail")]
pub(crate) use letter::find_fault;

use runner_core::function::MailSpec;
use runner_sdk::{Ctx, Outcome, TaskError};

/// Sends the message.
#[cfg(feature = "mail")]
pub(crate) async fn run(
    spec: &MailSpec,
    function: &str,
    settings: Option<&MailSettings>,
    cx: &Ctx,
) -> Result<Outcome, TaskError> {
    use std::time::Duration;

    use crate::stopped::stopped;

    /// Time limit of a message whose task has none.
    const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

    let Some(settings) = settings else {
        return Err(TaskError::retry(
            "no mail server is configured on this worker (mail.host)",
        ));
    };
    let letter = letter::write(spec, function, settings, cx)?;
    let limit = cx.time_limit().unwrap_or(DEFAULT_TIMEOUT);
    tokio::select! {
        reason = cx.cancelled() => Err(stopped(reason, cx)),
        sent = tokio::time::timeout(limit, delivery::send(&letter, settings, cx)) => {
            sent.unwrap_or_else(|_| Err(TaskError::retry(format!("timeout after {limit:?}"))))
        }
    }
}

/// Programs without the feature do not know what an address is.
#[cfg(not(feature = "mail"))]
pub(crate) fn find_fault(_: &MailSpec) -> Option<runner_core::function::CheckFinding> {
    None
}

/// Programs without the feature `mail` leave such tasks to others.
#[cfg(not(feature = "mail"))]
pub(crate) async fn run(_: &MailSpec, function: &str, _: Option<&MailSettings>, _: &Ctx) -> Result<Outcome, TaskError> {
    Err(TaskError::retry(format!(
        "function `{function}` sends mail, which this program is built without"
    )))
}
