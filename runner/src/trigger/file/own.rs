//! The directories that the runner makes in a directory which others may write to. They are opened without following links, and
//! used as they were opened: what was checked cannot be exchanged for something else afterwards. Blocks.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::Uid;

/// The rights of what lies above a file in work: a command of another user can reach the file that its payload names, and list nothing.
const PASSABLE: Mode = Mode::from_bits_truncate(0o711);

/// The rights of a `done` or `failed` that is made.
const READABLE: Mode = Mode::from_bits_truncate(0o755);

/// Write for group and others.
const SHARED_WRITE: Mode = Mode::from_bits_truncate(0o022);

/// Opens a directory that operators named; links are followed.
pub(super) fn named(path: &Path) -> io::Result<OwnedFd> {
    let directory = fs::File::open(path)?;
    match directory.metadata()?.is_dir() {
        true => Ok(directory.into()),
        false => Err(io::Error::new(io::ErrorKind::NotADirectory, "it is not a directory")),
    }
}

/// Makes a directory above files in work, unless it is there, and opens it.
pub(super) fn make_private(parent: &OwnedFd, name: &OsStr, owner: Uid) -> io::Result<OwnedFd> {
    make(parent, name, PASSABLE)?;
    private(parent, name, owner)
}

/// Opens a directory above files in work: `owner`'s own, and no other user may write to it.
pub(super) fn private(parent: &OwnedFd, name: &OsStr, owner: Uid) -> io::Result<OwnedFd> {
    let directory = own(parent, name, owner)?;
    let mode = Mode::from_bits_truncate(fstat(&directory)?.st_mode);
    if mode.intersects(SHARED_WRITE) {
        let text = "other users may write to it: look at what is in it, then take that right away (chmod go-w)";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    let special = Mode::S_ISUID | Mode::S_ISGID | Mode::S_ISVTX;
    if mode.difference(special) != PASSABLE {
        // The umask took a part, or an older version made it.
        fchmod(&directory, mode.intersection(special) | PASSABLE)?;
    }
    Ok(directory)
}

/// Makes a directory for files that leave, unless it is there, and opens it.
pub(super) fn make_target(parent: &OwnedFd, name: &OsStr, owner: Uid) -> io::Result<OwnedFd> {
    make(parent, name, READABLE)?;
    own(parent, name, owner)
}

/// Opens a directory that must be `owner`'s own: the owner of another one would decide where files go.
pub(super) fn own(parent: &OwnedFd, name: &OsStr, owner: Uid) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty()).map_err(|error| match error {
        Errno::ENOTDIR | Errno::ELOOP => {
            io::Error::new(io::ErrorKind::NotADirectory, "it is a link, or not a directory")
        }
        other => other.into(),
    })?;
    let uid = Uid::from_raw(fstat(&directory)?.st_uid);
    if uid != owner {
        let text = format!("it belongs to user {uid}, and must belong to the user of the runner, {owner}");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(directory)
}

fn make(parent: &OwnedFd, name: &OsStr, mode: Mode) -> io::Result<()> {
    match mkdirat(parent, name, mode) {
        Err(error) if error != Errno::EEXIST => Err(error.into()),
        _ => Ok(()),
    }
}
