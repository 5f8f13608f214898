//! One look at the manifest directory: which files count, what is in them, and which entries cannot be looked at. An
//! entry that cannot be looked at costs itself only. Knows nothing of YAML.
//!
//! Links are followed as long as they stay below the directory: that is how a ConfigMap is laid out. What can be reached
//! in two ways is read once, under its own name rather than under that of a link.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs::{self, FileType};
use std::io;
use std::path::{Path, PathBuf};

use super::entry::{self, FileContent};
use super::fingerprint::{Fingerprint, Identity};

/// The deepest directory below the manifest directory.
const MAX_DEPTH: usize = 8;

/// The most files that are read; far more than are written by hand.
const MAX_FILES: usize = 10_000;

/// The most directories that are read. Each is watched, and compared once a second.
pub const MAX_DIRS: usize = 1_000;

/// The most entries that are looked at: a wrong directory, `/` for instance, must not cost minutes.
const MAX_ENTRIES: usize = 100_000;

/// The most remarks about names.
const MAX_REMARKS: usize = 50;

/// What one look found. Paths are below the directory, and as people are shown them.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Manifests, those included that cannot be read.
    pub files: BTreeMap<String, FileContent>,
    /// Other entries that cannot be read; the directory itself is `""`.
    pub troubles: BTreeMap<String, ScanError>,
    /// Entries that are perhaps not what they should be.
    pub remarks: BTreeMap<String, NameWarning>,
    /// What was looked at.
    pub seen: Fingerprint,
}

/// Why a directory, or a link that may lead to one, cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanError {
    /// The code of the problem.
    pub code: &'static str,
    /// In one sentence.
    pub reason: String,
    /// Whether it may be over in a moment: something is being replaced.
    pub passing: bool,
}

/// What a name gives cause to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameWarning {
    /// It looks like a manifest and is not read as one.
    NotRead,
    /// It is not UTF-8.
    NotUtf8,
}

impl Snapshot {
    /// Of a directory that cannot be read.
    #[must_use]
    pub fn unreadable(reason: &str) -> Self {
        let trouble = ScanError {
            code: "E106",
            reason: reason.to_owned(),
            passing: false,
        };
        Self {
            troubles: BTreeMap::from([(String::new(), trouble)]),
            ..Self::default()
        }
    }

    /// Whether nothing can be said of this file, as something above it cannot be read.
    #[must_use]
    pub fn hides(&self, path: &str) -> bool {
        let above =
            |dir: &String| dir.is_empty() || path.strip_prefix(dir.as_str()).is_some_and(|r| r.starts_with('/'));
        self.troubles.keys().any(above)
    }
}

/// Reads every manifest below `dir`.
///
/// # Errors
///
/// Why the directory itself cannot be read, and what was looked at.
pub fn scan(dir: &Path) -> Result<Snapshot, (String, Fingerprint)> {
    // Before anything is read: what changes meanwhile must be noticed afterwards.
    let seen = Fingerprint::of_root(dir);
    let root = match fs::canonicalize(dir) {
        Ok(root) => root,
        Err(error) => return Err((explain(dir, &error), seen)),
    };
    let mut walk = DirectoryWalk::new(root, seen);
    if let Err(error) = walk.directory(&walk.root.clone(), "", 0) {
        return Err((explain(dir, &error), walk.snapshot.seen));
    }
    walk.links();
    Ok(walk.snapshot)
}

/// Reads one file by its path, whatever it is called.
#[must_use]
pub fn read_one(path: &Path) -> Option<FileContent> {
    match fs::canonicalize(path) {
        Ok(target) => entry::read(&target),
        Err(error) => unresolved(path, &error),
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
    /// A bound was met: nothing more is read.
    full: bool,
}

/// A link that is followed when everything else has been read.
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

    /// Reads one directory that is no link, and everything in it but links.
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
        // In the same order at each look, so that a bound leaves out the same ones.
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
            self.trouble(
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
            Err(error) => self.trouble(below, "E106", entry::describe(&error), false),
        }
    }

    /// A file or whatever it is, at a path without links.
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

    /// Follows the links that were found, and those that are found behind them.
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
                    // Without a suffix it may be one to a directory.
                    Some(found) if !name.contains('.') => {
                        let reason = found.content.err().map(|(_, reason)| reason).unwrap_or_default();
                        self.trouble(below, "E106", reason, true);
                    }
                    _ => (),
                }
                return;
            }
        };
        let is_dir = target.is_dir();
        if !target.starts_with(&self.root) {
            if is_dir {
                self.trouble(below, "E106", OUTSIDE.to_owned(), false);
            } else if entry::is_manifest(&name) {
                self.found(below, FileContent::unusable("E106", OUTSIDE));
            }
        } else if is_dir {
            self.sub_directory(&target, below, depth + 1);
        } else {
            self.file(&target, &name, below);
        }
    }

    fn trouble(&mut self, below: String, code: &'static str, reason: String, passing: bool) {
        if self.snapshot.troubles.len() == MAX_DIRS {
            self.stop(format!(
                "more than {MAX_DIRS} entries cannot be read; the rest is not read"
            ));
            return;
        }
        let trouble = ScanError { code, reason, passing };
        self.snapshot.troubles.insert(below, trouble);
    }

    fn remark(&mut self, below: &str, remark: NameWarning) {
        if self.snapshot.remarks.len() < MAX_REMARKS {
            self.snapshot.remarks.insert(below.to_owned(), remark);
        }
    }

    /// Reads nothing more; what was not read is not gone.
    fn stop(&mut self, reason: String) {
        self.full = true;
        let trouble = ScanError {
            code: "E104",
            reason,
            passing: false,
        };
        self.snapshot.troubles.insert(String::new(), trouble);
    }
}

/// The entries of a directory, up to a limit. A listing that breaks off must not look like entries that are gone.
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
