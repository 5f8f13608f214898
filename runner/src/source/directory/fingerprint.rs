//! What a look at the manifest directory has seen, so that it can be told whether that is still what stands there. Reads
//! no file.
//!
//! The system reports changes in a directory, but not that another one stands in its place: a link above it was swapped,
//! it was removed and made anew, something was mounted over it. That is found by comparing.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::scan::MAX_DIRS;

/// The most links that are compared: with the directories, at about a microsecond each, a few milliseconds a second.
const MAX_LINKS: usize = 1_000;

/// Which file or directory it is, and in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    /// Seconds and nanoseconds. A directory that was made anew may have the number of the old one, but never its time.
    changed: (i64, i64),
    size: u64,
}

impl Identity {
    /// What stands there now, behind links; `None` if that is not known.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        Some(Self {
            device: meta.dev(),
            inode: meta.ino(),
            changed: (meta.ctime(), meta.ctime_nsec()),
            size: meta.len(),
        })
    }
}

/// See the head of this file.
#[derive(Debug, Default, Clone)]
pub struct Fingerprint {
    /// The directory by the path in the settings, and links.
    compared: Vec<(PathBuf, Option<Identity>)>,
    links: usize,
    /// Directories without links.
    directories: Vec<(PathBuf, Option<Identity>)>,
}

impl Fingerprint {
    /// The manifest directory as it is now, by the path in the settings.
    #[must_use]
    pub fn of_root(path: &Path) -> Self {
        Self {
            compared: vec![(path.to_owned(), Identity::of(path))],
            ..Self::default()
        }
    }

    /// A directory, as it was before it was read.
    pub fn add_directory(&mut self, path: &Path, before: Option<Identity>) {
        if self.directories.len() < MAX_DIRS {
            self.directories.push((path.to_owned(), before));
        }
    }

    /// A link, as what it leads to is now.
    pub fn add_link(&mut self, path: &Path) {
        if self.links < MAX_LINKS {
            self.links += 1;
            self.compared.push((path.to_owned(), Identity::of(path)));
        }
    }

    /// The directories that were read, without links.
    #[must_use]
    pub fn directories(&self) -> &[(PathBuf, Option<Identity>)] {
        &self.directories
    }

    /// Whether something else stands there now.
    #[must_use]
    pub fn is_past(&self) -> bool {
        let mut all = self.compared.iter().chain(&self.directories);
        all.any(|(path, before)| Identity::of(path) != *before)
    }
}
