//! The changes that one scan of the manifest directory found, for the log, and when the next scan is due.

use std::time::Duration;

use runner_core::schedule::Problem;
use tokio::time::Instant;

/// A change of one file.
#[derive(Debug, Clone, PartialEq)]
pub enum FileChange {
    /// A new version is in force.
    Applied {
        /// The file.
        place: String,
        /// Its functions.
        functions: Vec<String>,
        /// Number of its schedules.
        schedules: usize,
    },
    /// A new version was rejected.
    Rejected {
        /// The file.
        place: String,
        /// The error that explains most.
        telling: Problem,
        /// Number of errors.
        errors: usize,
        /// The time of the older version that stays in force, if there is one.
        last_good: Option<String>,
    },
    /// The file is gone, and so are its functions.
    Removed {
        /// The file.
        place: String,
        /// Its functions.
        functions: Vec<String>,
    },
    /// An entry that is not a file is unreadable.
    Unreadable {
        /// The entry.
        place: String,
        /// The code of the problem.
        code: &'static str,
        /// The reason.
        reason: String,
    },
    /// It is readable again, or gone.
    Readable {
        /// The entry.
        place: String,
    },
    /// All files are gone; their definitions stay in force for a while.
    Emptied {
        /// The directory.
        place: String,
        /// Number of files.
        files: usize,
        /// How long their definitions stay in force.
        guard: Duration,
    },
    /// None came back; no manifest is in force.
    AllGone {
        /// The directory.
        place: String,
        /// Number of files.
        files: usize,
    },
}

/// The result of one scan.
#[derive(Debug, Default)]
pub struct FileStep {
    /// In the order of their paths.
    pub changes: Vec<FileChange>,
    /// When to scan again at the latest.
    pub again: Option<Duration>,
    /// Files that are in force as they were before the start, because their present text is not valid.
    pub restored: usize,
}

impl FileStep {
    /// Requests a scan after this time at the latest.
    pub fn look_again(&mut self, after: Duration) {
        // Just after the moment, so that the next scan finds it past.
        let after = after + Duration::from_millis(5);
        self.again = Some(self.again.map_or(after, |a| a.min(after)));
    }
}

/// The time of a scan: one clock for measuring, one for people.
#[derive(Debug, Clone, Copy)]
pub struct ScanTime<'a> {
    /// For measuring.
    pub instant: Instant,
    /// For people.
    pub shown: &'a str,
}
