//! Which processes of this machine have which file open as their store, so that a command notices if it would
//! put a task into another file with the same name, which none of them uses.
//!
//! Each process has a socket whose name says so. Such names are in no directory: they disappear with the process
//! however it ends, and removing or renaming the file does not affect them. On systems without them, and for processes
//! in other containers, none are found.

#[cfg(not(target_os = "linux"))]
use std::path::Path;

/// Announces while it exists that this process has a file open.
pub(super) struct StoreUse {
    #[cfg(target_os = "linux")]
    _socket: Option<std::os::unix::net::UnixDatagram>,
}

#[cfg(target_os = "linux")]
mod linux {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::path::{Path, PathBuf};

    use runner_core::schedule::stable_hash;

    use super::StoreUse;

    /// How the names of these sockets begin; then which path, which file, which process.
    const PREFIX: &str = "runner-store:";

    /// Where the kernel lists the names of sockets.
    const NAMES: &str = "/proc/net/unix";

    impl StoreUse {
        /// Of the file at `path`, which is open.
        pub(in crate::cli) fn of(path: &Path) -> Self {
            let Some(file) = identity(path) else {
                return Self { _socket: None };
            };
            let name = format!("{}{file}:{}", prefix(path), std::process::id());
            let socket = SocketAddr::from_abstract_name(name).and_then(|name| UnixDatagram::bind_addr(&name));
            if let Err(error) = &socket {
                tracing::debug!(%error, "commands will not notice if the file is replaced");
            }
            Self { _socket: socket.ok() }
        }
    }

    /// A living process that has another file open than the one that is at `path` now, or than none.
    pub(in crate::cli) fn other_file(path: &Path) -> Option<u32> {
        let prefix = format!("@{}", prefix(path));
        let now = identity(path);
        let names = std::fs::read_to_string(NAMES).ok()?;
        let names = names
            .lines()
            .filter_map(|line| line.rsplit(' ').next()?.strip_prefix(&prefix));
        let held = names.filter_map(|name| {
            let (file, pid) = name.rsplit_once(':')?;
            Some((file.to_owned(), pid.parse::<u32>().ok()?))
        });
        let mut others = held.filter(|(file, pid)| now.as_ref() != Some(file) && is_trusted(*pid, path));
        others.next().map(|(_, pid)| pid)
    }

    fn prefix(path: &Path) -> String {
        let path = real(path);
        format!("{PREFIX}{:016x}:", stable_hash(&[&path.to_string_lossy()]))
    }

    fn identity(path: &Path) -> Option<String> {
        let file = std::fs::metadata(path).ok()?;
        Some(format!("{}.{}", file.dev(), file.ino()))
    }

    /// Any user may choose such a name. Names of users without access to the directory are ignored.
    fn is_trusted(pid: u32, path: &Path) -> bool {
        let owner = |path: &Path| std::fs::metadata(path).ok().map(|found| found.uid());
        let Some(user) = owner(Path::new(&format!("/proc/{pid}"))) else {
            return false;
        };
        let of_directory = path
            .ancestors()
            .skip(1)
            .find_map(|above| match above.as_os_str().is_empty() {
                true => owner(Path::new(".")),
                false => owner(above),
            });
        user == nix::unistd::geteuid().as_raw() || user == 0 || Some(user) == of_directory
    }

    /// The path without links, also if its directory was removed with it.
    fn real(path: &Path) -> PathBuf {
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let found = whole
            .ancestors()
            .find_map(|part| Some((part, part.canonicalize().ok()?)));
        match found {
            // The file itself may be a link today and none tomorrow.
            Some((part, real)) if part != whole => {
                let rest = whole.strip_prefix(part).unwrap_or(part);
                real.join(rest)
            }
            Some((_, real)) => real,
            None => whole,
        }
    }

    #[cfg(test)]
    mod tests {
        #![allow(clippy::unwrap_used)]
        use super::*;

        #[test]
        fn a_path_is_resolved_as_far_as_it_exists() {
            let dir = tempfile::tempdir().unwrap();
            let top = dir.path().canonicalize().unwrap();
            std::fs::create_dir(top.join("real")).unwrap();
            std::os::unix::fs::symlink(top.join("real"), top.join("link")).unwrap();
            assert_eq!(real(&top.join("link/gone/x.db")), top.join("real/gone/x.db"));
        }

        #[test]
        fn another_file_of_the_same_name_is_noticed_while_the_process_lives() {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.db");
            std::fs::write(&path, "first").unwrap();
            assert_eq!(other_file(&path), None);
            let held = StoreUse::of(&path);
            assert_eq!(other_file(&path), None);
            let me = Some(std::process::id());
            std::fs::rename(&path, dir.path().join("away")).unwrap();
            assert_eq!(other_file(&path), me, "moved away");
            std::fs::write(&path, "second").unwrap();
            assert_eq!(other_file(&path), me, "replaced");
            std::fs::rename(dir.path().join("away"), &path).unwrap();
            assert_eq!(other_file(&path), None, "back");
            std::fs::remove_dir_all(dir.path()).unwrap();
            assert_eq!(other_file(&path), me, "removed with its directory");
            drop(held);
            assert_eq!(other_file(&path), None);
        }
    }
}

#[cfg(target_os = "linux")]
pub(super) use linux::other_file;

#[cfg(not(target_os = "linux"))]
impl StoreUse {
    /// Announces nothing on this system.
    pub(super) fn of(_: &Path) -> Self {
        Self {}
    }
}

/// None can be found on this system.
#[cfg(not(target_os = "linux"))]
pub(super) fn other_file(_: &Path) -> Option<u32> {
    None
}
