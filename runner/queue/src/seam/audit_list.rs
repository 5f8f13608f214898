//! The list of what people and programs did: a bounded list of entries in the store, the oldest of which are dropped.
//!
//! The store does not judge entries. Not here: who writes them, and the lines of the log that say the same.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::BrokerResult;

/// Entries that are kept: some 4 MB at most in practice, months of work of a team.
pub const MAX_AUDIT_ENTRIES: usize = 10_000;

/// Entries in one answer.
pub const MAX_AUDIT_PAGE: usize = 500;

/// Entries in one call that adds some.
pub const MAX_AUDIT_ADDED: usize = 100;

/// Bytes of each text of an entry.
pub const MAX_AUDIT_TEXT: usize = 300;

/// One action.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditEntry {
    /// When, by the clock of the process that carried it out.
    pub at: Timestamp,
    /// Who: a user, `token NAME`, or the user of the operating system that ran a command.
    pub by: String,
    /// From which address; none for commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What, such as `queue.pause`.
    pub action: String,
    /// On what, such as a queue or `queue/task`.
    pub target: String,
    /// Why, as the person wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What was so before, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What is so since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// `done`, `refused`, `unknown`, `interrupted`, or in more words.
    pub outcome: String,
}

impl AuditEntry {
    /// The same with texts of [`MAX_AUDIT_TEXT`] bytes at most, the end of which says that they are cut.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let texts = [&mut self.by, &mut self.action, &mut self.target, &mut self.outcome];
        let notes = [&mut self.from, &mut self.note, &mut self.before, &mut self.after];
        for text in texts.into_iter().chain(notes.into_iter().flatten()) {
            if text.len() > MAX_AUDIT_TEXT {
                text.truncate(text.floor_char_boundary(MAX_AUDIT_TEXT - '…'.len_utf8()));
                text.push('…');
            }
        }
        self
    }
}

/// A part of the list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditPage {
    /// Each with its place in the list, the newest first. One that cannot be read is left out.
    pub entries: Vec<(String, AuditEntry)>,
    /// The place after which the next part begins; `None` at the end.
    pub next: Option<String>,
}

/// The list of actions.
#[async_trait]
pub trait AuditList: Send + Sync {
    /// Adds entries, at most [`MAX_AUDIT_ADDED`], and drops the oldest beyond [`MAX_AUDIT_ENTRIES`].
    async fn add_audit_entries(&self, entries: &[AuditEntry]) -> BrokerResult<()>;

    /// The newest entries, or those that are older than the one at a place, at most [`MAX_AUDIT_PAGE`]. A place that the
    /// store did not give is the end of the list.
    async fn audit_entries(&self, before: Option<&str>, limit: usize) -> BrokerResult<AuditPage>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_an_entry_are_bounded_and_say_that_they_are_cut() {
        let entry = AuditEntry {
            target: "空".repeat(1000),
            note: Some("x".repeat(MAX_AUDIT_TEXT)),
            ..AuditEntry::default()
        };
        let bounded = entry.clone().bounded();
        assert!(bounded.target.len() <= MAX_AUDIT_TEXT && bounded.target.ends_with('…'));
        assert_eq!(bounded.note, entry.note);
    }
}
