//! A valid version of a manifest file. Which one is in force, and since when another one waits, is decided in `file`.

use runner_core::schedule::{Origin, Problem, Source};
use tokio::time::Instant;

use super::change::FileChange;
use super::entry::Hash;
use crate::source::manifest::{FunctionEntry, ScheduleContext};
use crate::source::status::LAST_GOOD;

/// A valid version.
pub struct VersionInForce {
    /// Of its text.
    pub hash: Hash,
    /// When it was found.
    pub found: Instant,
    /// The same as RFC 3339.
    pub since: String,
    /// The text as read.
    pub text: String,
    /// Whether it was in force before the start and has not been found since.
    pub restored: bool,
    /// Its definitions.
    pub entries: Vec<FunctionEntry>,
    /// Its warnings.
    pub warnings: Vec<Problem>,
}

impl VersionInForce {
    /// The functions.
    pub fn names(&self) -> Vec<String> {
        self.entries.iter().map(|e| e.function.name.clone()).collect()
    }

    /// That it is in force now.
    pub fn applied(&self, place: &str) -> FileChange {
        FileChange::Applied {
            place: place.to_owned(),
            functions: self.names(),
            schedules: self.entries.iter().map(|e| e.schedules.len()).sum(),
        }
    }

    /// Records that this is the file's present text; a change only if it was known from before the start.
    pub fn confirm(&mut self, place: &str) -> Option<FileChange> {
        let news = std::mem::replace(&mut self.restored, false);
        news.then(|| self.applied(place))
    }

    /// A fingerprint of the text.
    pub fn hash(&self) -> &Hash {
        &self.hash
    }

    /// The names of the functions.
    pub fn name_texts(&self) -> Vec<&str> {
        self.entries.iter().map(|e| e.function.name.as_str()).collect()
    }

    /// Warns about each schedule that it runs by an older version of its file.
    pub fn outdated(&self, place: &str, why: &str, context: &ScheduleContext) -> Vec<Problem> {
        let since = self.since.parse().map(|at| context.shown(at));
        let since = since.unwrap_or_else(|_| self.since.clone());
        let text = format!("{why}; its last good version, of {since}, stays in force");
        let warning = || Problem::warning(LAST_GOOD, text.clone(), origin(place));
        let ids = self
            .entries
            .iter()
            .flat_map(|e| e.schedules.iter().map(|s| s.id.clone()));
        let mut all: Vec<Problem> = ids.map(|id| warning().about(id)).collect();
        if all.is_empty() {
            all.push(warning());
        }
        all
    }
}

/// A place in the manifest directory.
pub fn origin(place: &str) -> Origin {
    Origin {
        source: Source::Manifest,
        place: place.to_owned(),
    }
}
