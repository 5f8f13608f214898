//! The files of one trigger on disk: what is there, what is in work, how one is taken and how it leaves. Blocks.
//!
//! A file is taken by a rename into `DIR/.runner/TRIGGER/TOKEN/`, which only one of several instances can win. The token is
//! the identity of the file's task, so everything that must be known after a kill is the place of the file.
//!
//! Users who may write to DIR are not trusted: directories are used as `own` opened them, and only regular files are touched. What is
//! wrong with one file is reported of that file, and does not stop the others.

mod restore;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::renameat;
use nix::sys::stat::{FileStat, SFlag, fstat};
use nix::unistd::{Uid, UnlinkatFlags, fsync, unlinkat};
use runner_core::trigger::{FileEnd, FileTrigger, TriggerId};
use uuid::Uuid;

pub(super) use restore::KnownFile;

use super::{moves, names, own};
use crate::messaging::ConnectionFault;

/// Files of one look, and of work: each is asked for by the system and kept in memory. The rest is seen when these are gone.
const MAX_SEEN: usize = 10_000;

/// What one look says of things that are no files: enough to find them.
const MAX_REFUSED: usize = 1000;

/// Names of one token's directory that are read: one is its file; commands may have left others.
const MAX_BESIDE: usize = 1000;

/// What tells a file from another one of its name, and from itself when it was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileState {
    device: nix::libc::dev_t,
    inode: nix::libc::ino_t,
    pub(super) size: u64,
    /// Seconds and nanoseconds since 1970.
    pub(super) modified: (i64, i64),
}

impl FileState {
    fn of(stat: &FileStat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: size(stat),
            modified: (stat.st_mtime, stat.st_mtime_nsec),
        }
    }
}

fn size(stat: &FileStat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or_default()
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
    /// Regular files that are meant, the oldest first.
    pub(super) files: Vec<(OsString, FileState)>,
    /// What is meant by its name and cannot be taken, and why.
    pub(super) refused: Vec<(OsString, String)>,
    /// Whether there are more than one look reads.
    pub(super) more: bool,
}

/// What is in work.
#[derive(Debug, Default)]
pub(super) struct InWork {
    pub(super) files: Vec<TakenFile>,
    /// Tokens without a file: another instance is taking one, is done with it, or has died between.
    pub(super) empty: Vec<String>,
    /// Tokens that have no usable file, and why. They are left as they are.
    pub(super) refused: Vec<(OsString, String)>,
    /// Whether there are more than are read.
    pub(super) more: bool,
}

impl InWork {
    fn len(&self) -> usize {
        self.files.len() + self.empty.len() + self.refused.len()
    }
}

/// What the place of a token holds.
enum Place {
    File(TakenFile),
    Empty,
    Gone,
}

/// Why a file was not taken.
#[derive(Debug)]
pub(super) enum TakeError {
    /// No file can be taken.
    All(io::Error),
    /// This one cannot.
    This(String),
}

/// How a file leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    Done,
    Failed,
}

/// The directories of one trigger, found to be usable, and open.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
    dir: Arc<OwnedFd>,
    work_path: PathBuf,
    work: Arc<OwnedFd>,
    pattern: String,
    done: Target,
    failed: Target,
    /// The user of the runner.
    owner: Uid,
}

/// Where files go.
#[derive(Debug, Clone)]
enum Target {
    Move(PathBuf, Arc<OwnedFd>),
    Delete,
}

fn fault(code: &'static str, path: &Path, why: impl std::fmt::Display, hint: &'static str) -> ConnectionFault {
    ConnectionFault {
        code,
        why: format!("{}: {why}", path.display()),
        hint,
    }
}

fn unusable(path: &Path, why: impl std::fmt::Display) -> ConnectionFault {
    let hint = "the user of the runner must be able to read and write the directory, and own what it made in it";
    fault("file_dir", path, why, hint)
}

impl Folder {
    /// Looks at the directories, and makes those that are ours.
    pub(super) fn open(spec: &FileTrigger, id: &TriggerId) -> Result<Self, ConnectionFault> {
        Self::open_as(spec, id, Uid::effective())
    }

    fn open_as(spec: &FileTrigger, id: &TriggerId, owner: Uid) -> Result<Self, ConnectionFault> {
        let path = fs::canonicalize(&spec.dir).map_err(|why| unusable(&spec.dir, why))?;
        if path.to_str().is_none() {
            return Err(unusable(
                &path,
                "its path is not UTF-8, and a payload could not name it",
            ));
        }
        let dir = own::named(&path).map_err(|why| unusable(&path, why))?;
        let (above, work_path) = (path.join(".runner"), path.join(".runner").join(id.as_str()));
        let outer = own::make_private(&dir, OsStr::new(".runner"), owner).map_err(|why| unusable(&above, why))?;
        let work =
            own::make_private(&outer, OsStr::new(id.as_str()), owner).map_err(|why| unusable(&work_path, why))?;
        let targets = Targets {
            spec,
            path: &path,
            dir: &dir,
            owner,
        };
        let (done, failed) = (targets.open(&spec.done, "done")?, targets.open(&spec.failed, "failed")?);
        Ok(Self {
            path,
            dir: Arc::new(dir),
            work_path,
            work: Arc::new(work),
            pattern: spec.pattern.clone(),
            done,
            failed,
            owner,
        })
    }

    /// The watched directory.
    pub(super) fn dir(&self) -> &Path {
        &self.path
    }

    /// The files that wait.
    pub(super) fn look(&self) -> io::Result<DirectoryContent> {
        self.look_at_most(MAX_SEEN)
    }

    fn look_at_most(&self, most: usize) -> io::Result<DirectoryContent> {
        let mut seen = DirectoryContent::default();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            if !names::is_meant(&self.pattern, &name) {
                continue;
            }
            // One that is gone by now was taken by someone else.
            let Ok(stat) = moves::stat(&self.dir, &name) else {
                continue;
            };
            let why = match moves::kind(&stat) {
                SFlag::S_IFDIR => continue,
                SFlag::S_IFREG if names::written(&name).is_some() => {
                    if seen.files.len() == most {
                        seen.more = true;
                        break;
                    }
                    seen.files.push((name, FileState::of(&stat)));
                    continue;
                }
                SFlag::S_IFREG => "its name has too many odd bytes",
                SFlag::S_IFLNK => "it is a symbolic link",
                _ => "it is neither a file nor a directory",
            };
            if seen.refused.len() < MAX_REFUSED {
                seen.refused.push((name, why.to_owned()));
            }
        }
        seen.files
            .sort_by(|(one, a), (other, b)| (a.modified, one).cmp(&(b.modified, other)));
        Ok(seen)
    }

    /// The files in work.
    pub(super) fn taken(&self) -> io::Result<InWork> {
        let mut all = InWork::default();
        for entry in fs::read_dir(&self.work_path)? {
            let name = entry?.file_name();
            let Some(token) = name.to_str().filter(|token| names::is_token(token)) else {
                continue;
            };
            if all.len() == MAX_SEEN {
                all.more = true;
                break;
            }
            match self.place(token) {
                Ok(Place::File(file)) => all.files.push(file),
                Ok(Place::Empty) => all.empty.push(token.to_owned()),
                Ok(Place::Gone) => {}
                Err(why) => {
                    let why = format!("{why}; it stays in {}", self.work_path.join(token).display());
                    all.refused.push((name, why));
                }
            }
        }
        Ok(all)
    }

    /// What the directory of a token holds; why it has no usable file.
    fn place(&self, token: &str) -> io::Result<Place> {
        let directory = match own::private(&self.work, OsStr::new(token), self.owner) {
            // Another instance is done with it.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Place::Gone),
            opened => opened?,
        };
        let mut other = None;
        let path = self.work_path.join(token);
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Place::Gone),
            entries => entries?,
        };
        for entry in entries.take(MAX_BESIDE) {
            match taken_file(token, &directory, path.join(entry?.file_name())) {
                Ok(Some(file)) => return Ok(Place::File(file)),
                Ok(None) => {}
                Err(why) => other = Some(why),
            }
        }
        other.map_or(Ok(Place::Empty), Err)
    }

    /// Removes the place of a token, unless it has been filled by now.
    pub(super) fn forget(&self, token: &str) {
        // One that is not empty stays; any other is tried again.
        let _ = unlinkat(&self.work, token, UnlinkatFlags::RemoveDir);
    }

    /// Takes a file that was seen in this state. `None`: another instance has it, or it is not the same any more.
    pub(super) fn take(&self, name: &OsStr, state: FileState) -> Result<Option<TakenFile>, TakeError> {
        let Some((written, odd)) = names::written(name) else {
            return Ok(None);
        };
        let kind = if odd { 'o' } else { 'p' };
        let token = format!("{kind}{}", Uuid::new_v4().simple());
        let place = own::make_private(&self.work, OsStr::new(&token), self.owner).map_err(TakeError::All)?;
        let taken = self.take_to(name, state, (&token, &place, &written));
        if !matches!(taken, Ok(Some(_))) {
            // Stays if there is something in it.
            self.forget(&token);
        }
        taken.map_err(|why| TakeError::This(format!("cannot be taken: {why}")))
    }

    fn take_to(
        &self,
        name: &OsStr,
        state: FileState,
        (token, place, written): (&str, &OwnedFd, &str),
    ) -> io::Result<Option<TakenFile>> {
        // The place is new and no other user's, so this rename finds nothing there.
        match renameat(&self.dir, name, place, written) {
            Err(Errno::ENOENT) => return Ok(None),
            moved => moved?,
        }
        let own_name = OsStr::new(written);
        let stat = moves::stat(place, own_name)?;
        let regular = moves::kind(&stat) == SFlag::S_IFREG;
        if !regular || FileState::of(&stat) != state {
            // It was replaced or written to since, and goes back. If a newer one of its name is there by now, a file is taken all
            // the same; what is no file has no task, and stays in its place.
            match moves::without_loss((place, own_name), (&self.dir, name)) {
                Ok(()) => return Ok(None),
                Err(why) if !regular => return Err(why),
                Err(_) => {}
            }
        }
        // Before its task: after a power cut the file must not wait again while a task has it.
        for dir in [place, &self.work, &self.dir] {
            fsync(dir)?;
        }
        taken_file(token, place, self.work_path.join(token).join(written))
    }

    /// Lets a file leave. Repeated calls, also of other instances, do no harm; a file that its task has removed is gone.
    pub(super) fn leave(&self, file: &TakenFile, how: Leave) -> Result<(), String> {
        let target = match how {
            Leave::Done => &self.done,
            Leave::Failed => &self.failed,
        };
        let left = match own::private(&self.work, OsStr::new(&file.token), self.owner) {
            Ok(place) => target.receive(file, &place),
            Err(error) => Err(error),
        };
        match left {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let what = match target {
                    Target::Move(path, _) => format!("moved to {}", path.display()),
                    Target::Delete => "deleted".to_owned(),
                };
                return Err(format!(
                    "cannot be {what}: {error}; it stays in {}",
                    self.work_path.join(&file.token).display()
                ));
            }
            _ => {}
        }
        self.forget(&file.token);
        Ok(())
    }
}

impl Target {
    /// Takes a file in, under its name or, if that is taken, with a part of the token after it.
    fn receive(&self, file: &TakenFile, place: &OwnedFd) -> io::Result<()> {
        let Some(written) = file.path.file_name() else {
            return Ok(());
        };
        let Self::Move(_, target) = self else {
            return Ok(unlinkat(place, written, UnlinkatFlags::NoRemoveDir)?);
        };
        let endings = [file.token.get(1..9), Some(file.token.as_str())];
        let others = endings
            .into_iter()
            .flatten()
            .map(|ending| names::with_ending(&file.name, ending));
        let mut moved = moves::without_loss((place, written), (target, &file.name));
        for name in others {
            match moved {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    moved = moves::without_loss((place, written), (target, &name));
                }
                _ => break,
            }
        }
        moved
    }
}

/// How the directories for files that leave are found.
struct Targets<'a> {
    spec: &'a FileTrigger,
    path: &'a Path,
    dir: &'a OwnedFd,
    owner: Uid,
}

impl Targets<'_> {
    fn open(&self, end: &FileEnd, key: &str) -> Result<Target, ConnectionFault> {
        let Some(target) = end.dir() else {
            return Ok(Target::Delete);
        };
        let refused = |why: &dyn std::fmt::Display, hint| fault("file_target", target, format!("{key}: {why}"), hint);
        let opened = match self.inside(target) {
            Some(inside) => self.open_inside(&inside),
            None => own::named(target),
        };
        let opened = opened.map_err(|why| {
            let hint = "make the directory, or name another one; inside of the watched one it must belong to the user of the runner";
            refused(&why, hint)
        })?;
        let stats = fstat(&opened).and_then(|stat| Ok((stat, fstat(self.dir)?)));
        let (there, watched) = stats.map_err(|why| refused(&why, "look at the file system"))?;
        if there.st_dev != watched.st_dev {
            let hint = "name a directory on the file system of the watched one: files are moved by a rename";
            return Err(refused(&"it is on another file system", hint));
        }
        if there.st_ino == watched.st_ino {
            let hint = "name another directory: each file would start a task again";
            return Err(refused(&"it is the watched directory itself", hint));
        }
        Ok(Target::Move(target.to_owned(), Arc::new(opened)))
    }

    /// The way from the watched directory to one inside of it. Other users who may write there could put a link on that way.
    fn inside(&self, target: &Path) -> Option<PathBuf> {
        if let Ok(way) = target.strip_prefix(&self.spec.dir) {
            let leads_out = way.components().next() == Some(Component::ParentDir);
            return (!leads_out && way.components().next().is_some()).then(|| way.to_owned());
        }
        let above = fs::canonicalize(target.parent()?).ok()?;
        let way = above.strip_prefix(self.path).ok()?.join(target.file_name()?);
        Some(way)
    }

    fn open_inside(&self, way: &Path) -> io::Result<OwnedFd> {
        let mut at = self.dir.try_clone()?;
        let only = way.components().count() == 1;
        for part in way.components() {
            let Component::Normal(name) = part else {
                return Err(io::Error::new(ErrorKind::InvalidInput, "write it without \"..\""));
            };
            // Made only directly below the watched directory: a misspelt path must not become a directory.
            at = match only {
                true => own::make_target(&at, name, self.owner)?,
                false => own::own(&at, name, self.owner)?,
            };
        }
        Ok(at)
    }
}

/// `None`: it is gone. An error: it is there, and cannot be the file of a task.
fn taken_file(token: &str, place: &OwnedFd, path: PathBuf) -> io::Result<Option<TakenFile>> {
    let refused = |why: &'static str| Err(io::Error::new(ErrorKind::InvalidData, why));
    let Some(written) = path.file_name() else {
        return Ok(None);
    };
    let stat = match moves::stat(place, written) {
        Err(Errno::ENOENT) => return Ok(None),
        stat => stat?,
    };
    if moves::kind(&stat) != SFlag::S_IFREG {
        return refused("what is in work is not a regular file");
    }
    let name = match token.starts_with('o') {
        true => names::original(written),
        false => Some(written.to_owned()),
    };
    let (Some(name), Some(_)) = (name, path.to_str()) else {
        return refused("the name of a file in work is not one that a file is given there");
    };
    Ok(Some(TakenFile {
        name,
        size: size(&stat),
        modified: stat.st_mtime,
        token: token.to_owned(),
        path,
    }))
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
