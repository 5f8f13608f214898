//! One scan of the manifest directory: which files count, their content, and unreadable entries, each of which affects only
//! itself. Knows no YAML.
//!
//! Links are followed if they stay below the directory, as in a ConfigMap. A file that can be reached in two ways is read
//! once, under its own name rather than a link's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs::{self, FileType};
use std::io;
use std::path::{Path, PathBuf};

use super::entry::{self, FileContent};
use super::fingerprint::{Fingerprint, Identity, MAX_DIRS};
use crate::source::status::SourceError;

/// Maximum depth below the manifest directory.
const MAX_DEPTH: usize = 8;

/// Maximum number of files; far more than are written by hand.
const MAX_FILES: usize = 10_000;

/// Maximum number of entries examined: a wrong directory, `/` for instance, must not cost minutes.
const MAX_ENTRIES: usize = 100_000;

/// Maximum number of remarks about names.
const MAX_REMARKS: usize = 50;

/// The result of one scan. Paths are relative to the directory, as shown to people.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Manifests, including unreadable ones.
    pub files: BTreeMap<String, FileContent>,
    /// Other unreadable entries; the directory itself is `""`.
    pub unreadable: BTreeMap<String, ScanError>,
    /// Entries that may be mistakes.
    pub remarks: BTreeMap<String, NameWarning>,
    /// What was read, for comparing.
    pub seen: Fingerprint,
}

/// Why a directory, or a link that may lead to one, is unreadable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanError {
    /// The code of the problem.
    pub code: &'static str,
    /// In one sentence.
    pub reason: String,
    /// Whether it may pass in a moment: something is being replaced.
    pub passing: bool,
}

/// A remark about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameWarning {
    /// It looks like a manifest and is not read as one.
    NotRead,
    /// It is not UTF-8.
    NotUtf8,
}

impl Snapshot {
    /// For an unreadable directory.
    #[must_use]
    pub fn unreadable(reason: &str) -> Self {
        let error = ScanError {
            code: "E106",
            reason: reason.to_owned(),
            passing: false,
        };
        Self {
            unreadable: BTreeMap::from([(String::new(), error)]),
            ..Self::default()
        }
    }

    /// Whether the state of this file is unknown, because something above it is unreadable.
    #[must_use]
    pub fn hides(&self, path: &str) -> bool {
        let above =
            |dir: &String| dir.is_empty() || path.strip_prefix(dir.as_str()).is_some_and(|r| r.starts_with('/'));
        self.unreadable.keys().any(above)
    }
}

/// Reads every manifest below `dir`.
///
/// # Errors
///
/// Why the directory itself is unreadable, and what was read.
pub fn scan(dir: &Path) -> Result<Snapshot, (SourceError, Fingerprint)> {
    // Before anything is read: changes during the scan must be noticed afterwards.
    let seen = Fingerprint::of_root(dir);
    let root = match fs::canonicalize(dir) {
        Ok(root) => root,
        Err(error) => return Err((source_error(dir, &error), seen)),
    };
    let mut walk = DirectoryWalk::new(root, seen);
    if let Err(error) = walk.directory(&walk.root.clone(), "", 0) {
        return Err((source_error(dir, &error), walk.snapshot.seen));
    }
    walk.links();
    Ok(walk.snapshot)
}

/// Reads one file by its path, whatever its name.
#[must_use]
pub fn read_one(path: &Path) -> Option<FileContent> {
    match fs::canonicalize(path) {
        Ok(target) => entry::read(&target),
        Err(error) => unresolved(path, &error),
    }
}

fn source_error(dir: &Path, error: &io::Error) -> SourceError {
    match error.kind() {
        io::ErrorKind::NotFound => SourceError::Absent(dir.display().to_string()),
        _ => SourceError::Failed(explain(dir, error)),
    }
}

fn explain(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("{} does not exist", path.display()),
        io::ErrorKind::NotADirectory => format!("{} is not a directory", path.display()),
        _ => format!("{}: {}", path.display(), entry::describe(error)),
    }
}

/// A link that leads nowhere; `None` if it is gone itself.
fn unresolved(path: &Path, error: &io::Error) -> Option<FileContent> {
    if error.kind() != io::ErrorKind::NotFound {
        return Some(FileContent::unusable("E106", entry::describe(error)));
    }
    let is_link = fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink());
    is_link.then(|| FileContent::unusable("E106", MISSING))
}

const MISSING: &str = "the link's target is missing";
const OUTSIDE: &str = "the link leads outside the manifest directory";

struct DirectoryWalk {
    /// Without links.
    root: PathBuf,
    snapshot: Snapshot,
    links: VecDeque<Link>,
    /// What was read, without links.
    read: BTreeSet<PathBuf>,
    dirs: usize,
    entries: usize,
    /// A limit was reached: nothing more is read.
    full: bool,
}

/// A link that is followed after everything else has been read.
struct Link {
    path: PathBuf,
    name: String,
    below: String,
    depth: usize,
}

impl DirectoryWalk {
    fn new(root: PathBuf, seen: Fingerprint) -> Self {
        Self {
            root,
            snapshot: Snapshot {
                seen,
                ..Snapshot::default()
            },
            links: VecDeque::new(),
            read: BTreeSet::new(),
            dirs: 0,
            entries: 0,
            full: false,
        }
    }

    /// Reads one directory that is not a link, and everything in it except links.
    fn directory(&mut self, path: &Path, below: &str, depth: usize) -> io::Result<()> {
        if !self.read.insert(path.to_owned()) {
            return Ok(());
        }
        self.dirs += 1;
        if self.dirs > MAX_DIRS {
            self.stop(format!("more than {MAX_DIRS} directories; those beyond are not read"));
            return Ok(());
        }
        let before = Identity::of(path);
        let mut entries = list(path, MAX_ENTRIES - self.entries)?;
        self.snapshot.seen.add_directory(path, before);
        self.entries += entries.len();
        if self.entries >= MAX_ENTRIES {
            self.stop(format!("more than {MAX_ENTRIES} entries; those beyond are not read"));
            return Ok(());
        }
        // Always in the same order, so that a limit leaves out the same entries.
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, kind) in entries {
            if self.full {
                break;
            }
            self.entry(path, &name, kind, below, depth);
        }
        Ok(())
    }

    fn entry(&mut self, dir: &Path, name: &OsString, kind: FileType, parent: &str, depth: usize) {
        let text = entry::shown(name);
        if entry::is_passed_over(&text) {
            return;
        }
        let path = dir.join(name);
        let below = match parent {
            "" => text.clone(),
            parent => format!("{parent}/{text}"),
        };
        if kind.is_symlink() {
            let name = text;
            self.links.push_back(Link {
                path,
                name,
                below,
                depth,
            });
        } else if kind.is_dir() {
            self.sub_directory(&path, below, depth + 1);
        } else {
            if name.to_str().is_none() && entry::is_manifest(&text) {
                self.remark(&below, NameWarning::NotUtf8);
            }
            self.file(&path, &text, below);
        }
    }

    fn sub_directory(&mut self, path: &Path, below: String, depth: usize) {
        if depth > MAX_DEPTH {
            self.record_unreadable(
                below,
                "E104",
                format!("more than {MAX_DEPTH} directories deep; it is not read"),
                false,
            );
            return;
        }
        match self.directory(path, &below, depth) {
            Ok(()) => (),
            // Gone since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => self.record_unreadable(below, "E106", entry::describe(&error), false),
        }
    }

    /// A file or other entry, at a path without links.
    fn file(&mut self, path: &Path, name: &str, below: String) {
        if entry::is_manifest(name) {
            if self.read.insert(path.to_owned())
                && let Some(found) = entry::read(path)
            {
                self.found(below, found);
            }
        } else if entry::looks_like_manifest(name) {
            self.remark(&below, NameWarning::NotRead);
        }
    }

    fn found(&mut self, below: String, found: FileContent) {
        if self.snapshot.files.len() == MAX_FILES {
            self.stop(format!("more than {MAX_FILES} manifests; those beyond are not read"));
            return;
        }
        self.snapshot.files.insert(below, found);
    }

    /// Follows the links that were found, and those behind them.
    fn links(&mut self) {
        while let Some(link) = self.links.pop_front() {
            if self.full {
                return;
            }
            self.snapshot.seen.add_link(&link.path);
            self.link(link);
        }
    }

    fn link(&mut self, link: Link) {
        let Link {
            path,
            name,
            below,
            depth,
        } = link;
        let target = match fs::canonicalize(&path) {
            Ok(target) => target,
            Err(error) => {
                match unresolved(&path, &error) {
                    Some(found) if entry::is_manifest(&name) => self.found(below, found),
                    // Without a suffix it may be a link to a directory.
                    Some(found) if !name.contains('.') => {
                        let reason = found.content.err().map(|(_, reason)| reason).unwrap_or_default();
                        self.record_unreadable(below, "E106", reason, true);
                    }
                    _ => (),
                }
                return;
            }
        };
        let is_dir = target.is_dir();
        if !target.starts_with(&self.root) {
            if is_dir {
                self.record_unreadable(below, "E106", OUTSIDE.to_owned(), false);
            } else if entry::is_manifest(&name) {
                self.found(below, FileContent::unusable("E106", OUTSIDE));
            }
        } else if is_dir {
            self.sub_directory(&target, below, depth + 1);
        } else {
            self.file(&target, &name, below);
        }
    }

    fn record_unreadable(&mut self, below: String, code: &'static str, reason: String, passing: bool) {
        if self.snapshot.unreadable.len() == MAX_DIRS {
            self.stop(format!(
                "more than {MAX_DIRS} entries cannot be read; the rest is not read"
            ));
            return;
        }
        let error = ScanError { code, reason, passing };
        self.snapshot.unreadable.insert(below, error);
    }

    fn remark(&mut self, below: &str, remark: NameWarning) {
        if self.snapshot.remarks.len() < MAX_REMARKS {
            self.snapshot.remarks.insert(below.to_owned(), remark);
        }
    }

    /// Stops reading; unread files do not count as removed.
    fn stop(&mut self, reason: String) {
        self.full = true;
        let error = ScanError {
            code: "E104",
            reason,
            passing: false,
        };
        self.snapshot.unreadable.insert(String::new(), error);
    }
}

/// The entries of a directory, up to a limit. An interrupted listing must not look like removed entries.
fn list(path: &Path, most: usize) -> io::Result<Vec<(OsString, FileType)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)?.take(most) {
        let entry = entry?;
        match entry.file_type() {
            Ok(kind) => entries.push((entry.file_name(), kind)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => return Err(error),
        }
    }
    Ok(entries)
}
