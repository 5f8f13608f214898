//! The files of one trigger on disk: what is there, what is in work, how one is taken and how it leaves. Blocks.
//!
//! A file is taken by a rename into `DIR/.runner/TRIGGER/TOKEN/`, which only one of several instances can win. The token is
//! the identity of the file's task, so everything that must be known after a kill is the place of the file.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use runner_core::trigger::{FileEnd, FileTrigger, TriggerId};
use uuid::Uuid;

use super::names;
use crate::messaging::ConnectionFault;

/// Names of a directory that are read in one look: a few milliseconds. The rest is seen when these are gone.
const MAX_SEEN: usize = 10_000;

/// What tells a file from another one of its name, and from itself when it was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileState {
    device: u64,
    inode: u64,
    pub(super) size: u64,
    modified: (i64, i64),
}

impl FileState {
    fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        }
    }
}

/// A file that is in work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TakenFile {
    /// Names its task.
    pub(super) token: String,
    /// Where it is; text.
    pub(super) path: PathBuf,
    /// Its own name.
    pub(super) name: OsString,
    pub(super) size: u64,
    /// When it was last changed, in seconds since 1970.
    pub(super) modified: i64,
}

/// What a look at the directory found.
#[derive(Debug, Default)]
pub(super) struct DirectoryContent {
    /// Regular files that are meant.
    pub(super) files: Vec<(OsString, FileState)>,
    /// What is meant by its name and cannot be taken, and why.
    pub(super) refused: Vec<(OsString, &'static str)>,
}

/// What is in work.
#[derive(Debug, Default)]
pub(super) struct InWork {
    pub(super) files: Vec<TakenFile>,
    /// Tokens without a file: another instance is taking one, is done with it, or has died between.
    pub(super) empty: Vec<String>,
}

/// How a file leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    Done,
    Failed,
}

/// The directories of one trigger, found to be usable.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    dir: PathBuf,
    work: PathBuf,
    pattern: String,
    done: FileEnd,
    failed: FileEnd,
}

fn fault(code: &'static str, path: &Path, why: impl std::fmt::Display, hint: &'static str) -> ConnectionFault {
    ConnectionFault {
        code,
        why: format!("{}: {why}", path.display()),
        hint,
    }
}

impl Folder {
    /// Looks at the directories, and makes those that are ours.
    pub(super) fn open(spec: &FileTrigger, id: &TriggerId) -> Result<Self, ConnectionFault> {
        const DIR: &str = "the user of the runner must be able to read and write the directory";
        let unusable = |path: &Path, why: &dyn std::fmt::Display| fault("file_dir", path, why, DIR);
        let dir = fs::canonicalize(&spec.dir).map_err(|why| unusable(&spec.dir, &why))?;
        let device = fs::metadata(&dir).map_err(|why| unusable(&dir, &why))?;
        if !device.is_dir() {
            return Err(unusable(&dir, &"it is not a directory"));
        }
        if dir.to_str().is_none() {
            return Err(unusable(
                &dir,
                &"its path is not UTF-8, and a payload could not name it",
            ));
        }
        let work = dir.join(".runner").join(id.as_str());
        for own in [dir.join(".runner"), work.clone()] {
            make_private(&own).map_err(|why| unusable(&own, &why))?;
        }
        for (end, key) in [(&spec.done, "done"), (&spec.failed, "failed")] {
            let Some(target) = end.dir() else { continue };
            if target.parent() == Some(&spec.dir) {
                // Only below the watched directory: a misspelt path elsewhere must not become a directory.
                make(target, 0o755).map_err(|why| unusable(target, &why))?;
            }
            let meta = fs::metadata(target).map_err(|why| {
                let hint = "make the directory, or name another one";
                fault("file_target", target, format!("{key}: {why}"), hint)
            })?;
            if !meta.is_dir() || meta.dev() != device.dev() {
                let hint = "name a directory on the file system of the watched one: files are moved by a rename";
                return Err(fault(
                    "file_target",
                    target,
                    format!("{key} cannot take the files"),
                    hint,
                ));
            }
        }
        Ok(Self {
            dir,
            work,
            pattern: spec.pattern.clone(),
            done: spec.done.clone(),
            failed: spec.failed.clone(),
        })
    }

    /// The watched directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The files that wait.
    pub(super) fn look(&self) -> io::Result<DirectoryContent> {
        let mut seen = DirectoryContent::default();
        for entry in fs::read_dir(&self.dir)?.take(MAX_SEEN) {
            let entry = entry?;
            let name = entry.file_name();
            if !names::is_meant(&self.pattern, &name) {
                continue;
            }
            // Of the entry itself, not of what a link names. One that is gone by now was taken by someone else.
            let Ok(meta) = entry.metadata() else { continue };
            let kind = meta.file_type();
            if kind.is_dir() {
                continue;
            }
            let why = match kind.is_file() {
                _ if kind.is_symlink() => Some("it is a symbolic link"),
                false => Some("it is neither a file nor a directory"),
                true if names::written(&name).is_none() => Some("its name has too many odd bytes"),
                true => None,
            };
            match why {
                Some(why) => seen.refused.push((name, why)),
                None => seen.files.push((name, FileState::of(&meta))),
            }
        }
        Ok(seen)
    }

    /// The files in work.
    pub(super) fn taken(&self) -> io::Result<InWork> {
        let mut all = InWork::default();
        for place in fs::read_dir(&self.work)?.take(MAX_SEEN) {
            let place = place?;
            let Ok(token) = place.file_name().into_string() else {
                continue;
            };
            let inside = fs::read_dir(place.path()).and_then(|mut inside| inside.next().transpose());
            match inside {
                Ok(Some(entry)) => all.files.extend(taken_file(token, &entry.path())),
                Ok(None) => all.empty.push(token),
                // Another instance is done with it.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Removes the place of a token, unless it has been filled by now.
    pub(super) fn forget(&self, token: &str) {
        drop(fs::remove_dir(self.work.join(token)));
    }

    /// Takes a file that was seen in this state. `None`: another instance has it, or it is not the same any more.
    pub(super) fn take(&self, name: &OsStr, state: FileState) -> io::Result<Option<TakenFile>> {
        let Some((written, odd)) = names::written(name) else {
            return Ok(None);
        };
        let kind = if odd { 'o' } else { 'p' };
        let token = format!("{kind}{}", Uuid::new_v4().simple());
        let place = self.work.join(&token);
        DirBuilder::new().mode(0o700).create(&place)?;
        let (from, path) = (self.dir.join(name), place.join(written));
        if let Err(error) = fs::rename(&from, &path) {
            drop(fs::remove_dir(&place));
            return match error.kind() {
                ErrorKind::NotFound => Ok(None),
                _ => Err(error),
            };
        }
        let meta = fs::symlink_metadata(&path)?;
        if !meta.file_type().is_file() || FileState::of(&meta) != state {
            // It was replaced or written to since. It goes back, unless a newer one of its name is there: then it is taken.
            if move_without_loss(&path, &from).is_ok() {
                drop(fs::remove_dir(&place));
                return Ok(None);
            }
        }
        // Before its task: after a power cut the file must not wait again while a task has it.
        for dir in [&place, &self.work, &self.dir] {
            File::open(dir)?.sync_all()?;
        }
        Ok(taken_file(token, &path))
    }

    /// Lets a file leave. Repeated calls, also of other instances, do no harm; a file that its task has removed is gone.
    pub(super) fn leave(&self, file: &TakenFile, how: Leave) -> io::Result<()> {
        let end = match how {
            Leave::Done => &self.done,
            Leave::Failed => &self.failed,
        };
        let left = match end {
            FileEnd::Delete => fs::remove_file(&file.path),
            FileEnd::Move(target) => match move_without_loss(&file.path, &target.join(&file.name)) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    let mut other = file.name.clone();
                    other.push(format!(".{}", &file.token[1..9.min(file.token.len())]));
                    move_without_loss(&file.path, &target.join(other))
                }
                moved => moved,
            },
        };
        match left {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        match fs::remove_dir(self.work.join(&file.token)) {
            Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => Err(error),
            _ => Ok(()),
        }
    }
}

/// `None`: it is gone, or not one of this trigger.
fn taken_file(token: String, path: &Path) -> Option<TakenFile> {
    let meta = fs::symlink_metadata(path).ok()?;
    let written = path.file_name()?;
    path.to_str()?;
    Some(TakenFile {
        name: match token.starts_with('o') {
            true => names::original(written),
            false => written.to_owned(),
        },
        size: meta.len(),
        modified: meta.mtime(),
        path: path.to_owned(),
        token,
    })
}

/// A directory of this trigger: never a link to somewhere else.
fn make_private(path: &Path) -> io::Result<()> {
    make(path, 0o700)?;
    match fs::symlink_metadata(path)?.is_dir() {
        true => Ok(()),
        false => Err(io::Error::new(ErrorKind::NotADirectory, "it is not a directory")),
    }
}

fn make(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Moves a file, not over another one. By a second name for it, because a rename would replace what is there; where the file
/// system has no second names, two steps must do. What a kill leaves under both names is the same file.
fn move_without_loss(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(error),
        Err(_) => match fs::symlink_metadata(to) {
            Ok(there) if is_same(from, &there) => {}
            Ok(_) => return Err(ErrorKind::AlreadyExists.into()),
            Err(_) => return fs::rename(from, to),
        },
    }
    match fs::remove_file(from) {
        // Another instance did it.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn is_same(path: &Path, other: &Metadata) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| (meta.dev(), meta.ino()) == (other.dev(), other.ino()))
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
