//! An action of the audit list, as an object.

use jiff::tz::TimeZone;
use runner_queue::AuditEntry;
use serde::Serialize;

use super::WrittenInstant;

/// What someone did.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = AuditEntry))]
pub struct AuditObject {
    /// When.
    pub at: WrittenInstant,
    /// Who: a user, `token NAME`, `local` where no login is needed, or `NAME (command line)`.
    pub by: String,
    /// From which address; `null` for commands.
    pub from: Option<String>,
    /// What, such as `queue.pause`.
    pub action: String,
    /// On what, such as a queue or `queue/task`.
    pub target: String,
    /// Why, if the person said so.
    pub note: Option<String>,
    /// What was so before, where it is known.
    pub before: Option<String>,
    /// What is so since.
    pub after: Option<String>,
    /// `done`, `refused`, `unknown`, `interrupted`, or in more words.
    pub outcome: String,
}

impl AuditObject {
    /// From what the broker has.
    #[must_use]
    pub fn of(entry: AuditEntry, zone: &TimeZone) -> Self {
        Self {
            at: WrittenInstant::of(entry.at, zone),
            by: entry.by,
            from: entry.from,
            action: entry.action,
            target: entry.target,
            note: entry.note,
            before: entry.before,
            after: entry.after,
            outcome: entry.outcome,
        }
    }
}
