//! What one look at the manifest directory changed, for the log, and when the next look is due.

use std::time::Duration;

use runner_core::schedule::Problem;
use tokio::time::Instant;

/// Something that happened to a file.
#[derive(Debug, Clone, PartialEq)]
pub enum FileChange {
    /// A new version is in force.
    Applied {
        /// The file.
        place: String,
        /// Its functions.
        functions: Vec<String>,
        /// How many schedules it has.
        schedules: usize,
    },
    /// A new version is not in force.
    Rejected {
        /// The file.
        place: String,
        /// The error that explains most.
        telling: Problem,
        /// How many errors there are.
        errors: usize,
        /// Of when the older version is that stays in force, if one does.
        kept: Option<String>,
    },
    /// The file is gone, and so are its functions.
    Removed {
        /// The file.
        place: String,
        /// Its functions.
        functions: Vec<String>,
    },
    /// An entry that is no file cannot be looked at.
    Unreadable {
        /// The entry.
        place: String,
        /// The code of the problem.
        code: &'static str,
        /// Why.
        reason: String,
    },
    /// It can be looked at again, or is gone.
    Readable {
        /// The entry.
        place: String,
    },
    /// All files are gone; what they define stays in force for a while.
    Emptied {
        /// The directory.
        place: String,
        /// How many.
        files: usize,
        /// How long they stay.
        guard: Duration,
    },
    /// None came back; no manifest is in force.
    AllGone {
        /// The directory.
        place: String,
        /// How many.
        files: usize,
    },
}

/// What one look led to.
#[derive(Debug, Default)]
pub struct FileStep {
    /// In the order of the paths.
    pub changes: Vec<FileChange>,
    /// When to look again at the latest.
    pub again: Option<Duration>,
    /// Files that are in force as they were before the start, because that is not what stands there now.
    pub restored: usize,
}

impl FileStep {
    /// Asks for a look after this time at the latest.
    pub fn look_again(&mut self, after: Duration) {
        // Just after the moment, so that the next look finds it has come.
        let after = after + Duration::from_millis(5);
        self.again = Some(self.again.map_or(after, |a| a.min(after)));
    }
}

/// The moment of a look: one for waiting, one for people.
#[derive(Debug, Clone, Copy)]
pub struct ScanTime<'a> {
    /// For measuring.
    pub instant: Instant,
    /// For people.
    pub shown: &'a str,
}
