//! The state of the files that a scan read, to detect later changes. Reads no file.
//!
//! The system reports changes in a directory, but not its replacement: a link above it was swapped, it was removed and
//! created again, something was mounted over it. Comparing finds that.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Maximum number of directories. Each is watched, and compared once a second.
pub const MAX_DIRS: usize = 1_000;

/// Maximum number of links compared: with the directories, at about a microsecond each, a few milliseconds a second.
const MAX_LINKS: usize = 1_000;

/// Identity and state of a file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    /// Seconds and nanoseconds. A recreated directory may have the number of the old one, but never its time.
    changed: (i64, i64),
    size: u64,
}

impl Identity {
    /// The present identity, behind links; `None` if unknown.
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

/// The identities recorded during a scan.
#[derive(Debug, Default, Clone)]
pub struct Fingerprint {
    /// The directory by its configured path, and links.
    compared: Vec<(PathBuf, Option<Identity>)>,
    links: usize,
    /// Directories without links.
    directories: Vec<(PathBuf, Option<Identity>)>,
}

impl Fingerprint {
    /// The manifest directory as it is now, by its configured path.
    #[must_use]
    pub fn of_root(path: &Path) -> Self {
        Self {
            compared: vec![(path.to_owned(), Identity::of(path))],
            ..Self::default()
        }
    }

    /// Adds a directory, with its identity from before it was read.
    pub fn add_directory(&mut self, path: &Path, before: Option<Identity>) {
        if self.directories.len() < MAX_DIRS {
            self.directories.push((path.to_owned(), before));
        }
    }

    /// Adds a link, with the present identity of its target.
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

    /// Whether any of them has been replaced.
    #[must_use]
    pub fn is_past(&self) -> bool {
        let mut all = self.compared.iter().chain(&self.directories);
        all.any(|(path, before)| Identity::of(path) != *before)
    }
}
