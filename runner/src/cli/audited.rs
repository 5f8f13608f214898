//! What a command did, in the log and in the audit list.

use std::time::Duration;

use runner_core::chain::chain;
use runner_core::clock::Clock as _;
use runner_queue::{AuditEntry, Broker};
use tokio::time::timeout;

use crate::config::Environment;

/// How long a command waits for the entry to be written: what it was asked to do is done already.
const PATIENCE: Duration = Duration::from_secs(2);

/// The user who runs this command, according to the environment.
pub(super) fn actor() -> String {
    let environment = Environment::of_process();
    let user = ["USER", "LOGNAME"].into_iter().find_map(|name| environment.get(name));
    let user = user.filter(|user| !user.is_empty() && user.len() <= 64 && !user.contains(char::is_control));
    user.map_or_else(
        || "the command line".to_owned(),
        |user| format!("{user} (command line)"),
    )
}

/// Something that a command did.
pub(super) struct Audited(AuditEntry);

impl Audited {
    /// It was done.
    pub(super) fn done(action: &str, target: impl std::fmt::Display) -> Self {
        Self(AuditEntry {
            by: actor(),
            action: action.to_owned(),
            target: target.to_string().escape_debug().to_string(),
            outcome: "done".to_owned(),
            ..AuditEntry::default()
        })
    }

    /// The same with the reason that the person gave.
    pub(super) fn because(mut self, note: Option<&str>) -> Self {
        self.0.note = note.map(str::to_owned);
        self
    }

    /// The same with what is so since.
    pub(super) fn becomes(mut self, after: impl std::fmt::Display) -> Self {
        self.0.after = Some(after.to_string());
        self
    }

    /// The same with another outcome.
    pub(super) fn ended(mut self, outcome: impl Into<String>) -> Self {
        self.0.outcome = outcome.into();
        self
    }

    /// Writes it down. A failure is a warning: the action itself was done.
    pub(super) async fn write(mut self, broker: &dyn Broker) {
        self.0.at = runner_core::clock::SystemClock.now();
        let entry = self.0.bounded();
        let (action, on, actor, outcome) = (&entry.action, &entry.target, &entry.by, &entry.outcome);
        tracing::info!(target: "audit", action, %on, %actor, outcome);
        let why = match timeout(PATIENCE, broker.add_audit_entries(std::slice::from_ref(&entry))).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => chain(&error),
            Err(_) => "the broker did not answer in time".to_owned(),
        };
        tracing::warn!(code = "audit_dropped", why, "this is missing in the audit list");
    }
}
