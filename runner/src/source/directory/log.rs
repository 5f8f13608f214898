//! Logs changes of the manifest directory: each once, and only real ones.

use std::collections::{BTreeMap, BTreeSet};

use runner_core::duration;
use runner_core::schedule::Severity;

use super::change::FileChange;
use super::files::Contents;

/// Problems that were logged and still exist.
#[derive(Default)]
pub struct DirectoryLog {
    logged: BTreeSet<String>,
}

impl DirectoryLog {
    /// Logs the changes of one scan.
    pub fn log_changes(&mut self, changes: &[FileChange], contents: &Contents) {
        changes.iter().for_each(log_change);
        // Conflicts between two files, or problems of a name, are not changes of one file.
        let lasting = contents.problems.iter().filter(|p| LASTING.contains(&p.code.as_str()));
        let lasting: BTreeMap<String, Severity> = lasting.map(|p| (p.one_line(), p.severity)).collect();
        for (problem, severity) in lasting.iter().filter(|(problem, _)| !self.logged.contains(*problem)) {
            match severity {
                Severity::Error => tracing::error!(problem, "manifest rejected"),
                Severity::Warning => tracing::warn!(problem, "manifest directory"),
            }
        }
        self.logged = lasting.into_keys().collect();
    }
}

/// Problems that are logged when they appear.
const LASTING: [&str; 3] = ["E401", "W105", "W106"];

fn log_change(change: &FileChange) {
    match change {
        FileChange::Applied {
            place,
            functions,
            schedules,
        } => {
            tracing::info!(file = %place, functions = %functions.join(","), schedules, "manifest applied");
        }
        FileChange::Rejected {
            place,
            telling,
            errors,
            last_good,
        } => {
            let in_force = match last_good {
                Some(since) => format!("the last good version, of {since}"),
                None => "nothing of this file".to_owned(),
            };
            let problem = match errors.saturating_sub(1) {
                0 => telling.one_line(),
                1 => format!("{}; and 1 more error", telling.one_line()),
                more => format!("{}; and {more} more errors", telling.one_line()),
            };
            tracing::error!(file = %place, errors, in_force, %problem, "manifest rejected");
        }
        FileChange::Unreadable { place, code, reason } => tracing::error!(
            code, entry = %place, reason,
            "an entry of the manifest directory cannot be read; what was in force of it stays in force"
        ),
        FileChange::Readable { place } => {
            tracing::info!(entry = %place, "the entry of the manifest directory can be read again, or is gone");
        }
        FileChange::Emptied { place, files, guard } => tracing::error!(
            code = "E410", dir = %place, files, guard = %duration::format(*guard),
            "all manifests are gone; what they define stays in force for a while (source.mass_delete)"
        ),
        FileChange::AllGone { place, files } => tracing::error!(
            code = "W410", dir = %place, files, "all manifests were removed; none is in force"
        ),
        FileChange::Removed { place, functions } => {
            tracing::info!(file = %place, functions = %functions.join(","), "manifest removed");
        }
    }
}
