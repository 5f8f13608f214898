//! A trigger that watches a directory: it starts the function for each file that appears.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::template::JsonTemplate;

/// The values of a file that templates can name: `file.path`.
pub const FILE_VALUES: [&str; 4] = ["path", "name", "size", "modified"];

/// How long a file must be unchanged where a trigger says nothing: longer than the pauses of a usual upload.
pub const DEFAULT_STABLE: Duration = Duration::from_secs(2);

/// Files in work at once where a trigger says nothing.
pub const DEFAULT_IN_FLIGHT: usize = 100;

/// One task for each file of a directory.
#[derive(Debug, Clone, PartialEq)]
pub struct FileTrigger {
    /// The directory.
    pub dir: PathBuf,
    /// Which names are meant; `*` stands for any characters, `?` for one.
    pub pattern: String,
    /// How long size and time of a file must be unchanged.
    pub stable: Duration,
    /// Where a file goes whose task succeeded.
    pub done: FileEnd,
    /// Where one goes whose task failed for good.
    pub failed: FileEnd,
    /// Files in work at once, over all instances.
    pub in_flight: usize,
    /// The payload; `None`: path, name and size, laid over that of the function.
    pub payload: Option<JsonTemplate>,
}

impl FileTrigger {
    /// The directory in which files are while their tasks are there.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.dir.join(".runner")
    }
}

/// The header of a task that says which file it was started for: size, time and name as they were.
pub const FILE_HEADER: &str = "runner-file";

/// What happens to a file when its task has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileEnd {
    /// It is moved to this directory.
    Move(PathBuf),
    /// It is deleted.
    Delete,
}

impl FileEnd {
    /// The directory, if it is moved.
    #[must_use]
    pub fn dir(&self) -> Option<&Path> {
        match self {
            Self::Move(dir) => Some(dir),
            Self::Delete => None,
        }
    }
}
