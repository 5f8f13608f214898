//! Moves of one file from directory to directory that never write over another file. Blocks.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

/// What is known of a name itself, not of what a link leads to.
pub(super) fn stat(directory: &OwnedFd, name: &OsStr) -> nix::Result<FileStat> {
    fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// What kind of thing it is.
pub(super) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// Moves a file. The system refuses if something of the new name is there (`AlreadyExists`): a look before a rename would leave
/// a moment in which a file can come there and be lost. A kill leaves the file under one of its names or, in the second way,
/// under both, which the next call ends.
pub(super) fn without_loss(from: (&OwnedFd, &OsStr), to: (&OwnedFd, &OsStr)) -> io::Result<()> {
    let moved = match rename_free(from, to) {
        // The file system does not know this call.
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {
            return by_second_name(from, to);
        }
        moved => moved,
    };
    match moved {
        Err(Errno::EEXIST) => end_second_name(from, to),
        moved => Ok(moved?),
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn rename_free(from: (&OwnedFd, &OsStr), to: (&OwnedFd, &OsStr)) -> nix::Result<()> {
    nix::fcntl::renameat2(from.0, from.1, to.0, to.1, nix::fcntl::RenameFlags::RENAME_NOREPLACE)
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn rename_free(_from: (&OwnedFd, &OsStr), _to: (&OwnedFd, &OsStr)) -> nix::Result<()> {
    Err(Errno::ENOSYS)
}

fn by_second_name(from: (&OwnedFd, &OsStr), to: (&OwnedFd, &OsStr)) -> io::Result<()> {
    match linkat(from.0, from.1, to.0, to.1, AtFlags::empty()) {
        Err(Errno::EEXIST) => end_second_name(from, to),
        Err(error) => Err(error.into()),
        Ok(()) => unlink(from),
    }
}

/// Both names are there: of one file, after a kill, or of two.
fn end_second_name(from: (&OwnedFd, &OsStr), to: (&OwnedFd, &OsStr)) -> io::Result<()> {
    let (ours, there) = (stat(from.0, from.1)?, stat(to.0, to.1)?);
    match (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino) {
        true => unlink(from),
        false => Err(ErrorKind::AlreadyExists.into()),
    }
}

fn unlink((directory, name): (&OwnedFd, &OsStr)) -> io::Result<()> {
    match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        // Another instance did it.
        Err(Errno::ENOENT) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    #[test]
    fn both_ways_keep_what_is_there() {
        for way in [without_loss, by_second_name] {
            let home = tempfile::tempdir().unwrap();
            let at = |name: &str| home.path().join(name);
            let directory: OwnedFd = fs::File::open(home.path()).unwrap().into();
            let go = |from: &str, to: &str| {
                way((&directory, OsStr::new(from)), (&directory, OsStr::new(to))).map_err(|error| error.kind())
            };
            fs::write(at("a"), "1").unwrap();
            fs::write(at("b"), "2").unwrap();
            assert_eq!(go("a", "b"), Err(ErrorKind::AlreadyExists));
            assert_eq!(fs::read_to_string(at("b")).unwrap(), "2");
            std::os::unix::fs::symlink("nowhere", at("link")).unwrap();
            assert_eq!(go("a", "link"), Err(ErrorKind::AlreadyExists));
            assert_eq!(go("none", "c"), Err(ErrorKind::NotFound));
            assert_eq!(go("a", "c"), Ok(()));
            assert_eq!(fs::read_to_string(at("c")).unwrap(), "1");
            fs::hard_link(at("c"), at("d")).unwrap();
            assert_eq!(go("c", "d"), Ok(()));
            assert!(!at("c").exists() && at("d").exists());
        }
    }
}
