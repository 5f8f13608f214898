//! Finds tasks of worker processes that are certainly dead, so that they are recovered before their leases end.
//!
//! Each process that claims holds a shared lock on a file beside the store while it lives; the kernel releases the lock
//! however the process ends. A process that first reads which tasks are active and then finds no other lock knows that
//! their workers are gone. Since the lock file may be deleted by hand under a live process, the process ids in the
//! tasks are checked as well. Tasks that fail either test wait for the end of their lease, as all do on systems other
//! than Linux.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::connection::Statements as _;
use super::error::SqlError;
use super::readers::Readers;

/// Active tasks that are examined, oldest claims first: more than all workers of a host run at once.
const MOST: i64 = 10_000;

/// An active task by row and run.
pub(super) type ClaimedRow = (i64, i64);

/// The tasks found when this process began to claim. The search runs once, before the first claim, so every task that
/// is active then was claimed by an earlier process.
#[derive(Default)]
pub(super) struct DeadWorkers {
    lock: OnceLock<Option<lock::Lock>>,
    looked: OnceCell<Instant>,
    tasks: Mutex<Vec<ClaimedRow>>,
}

impl DeadWorkers {
    /// Takes the lock; called before the first claim.
    pub(super) fn announce(&self, store: &Path) {
        // Before this process claims anything: from then on another one that starts sees the lock and leaves our tasks.
        self.lock.get_or_init(|| match lock::Lock::of(store) {
            Ok(lock) => Some(lock),
            Err(error) => {
                tracing::debug!(%error, "no lock beside the file: tasks of dead processes are recovered when their leases end");
                None
            }
        });
    }

    /// Searches once, before the first claim. `me`: the name under which this process claims.
    pub(super) async fn look(&self, readers: &Readers, me: Option<&String>) {
        self.looked
            .get_or_init(|| async {
                if let (Some(Some(lock)), Some(me)) = (self.lock.get(), me) {
                    match readers.query("look for tasks of dead workers", active).await {
                        // The lock is tested after the tasks were read: a process that started in between holds none of
                        // them.
                        Ok(active) if lock.is_the_only_one() => {
                            let dead = active.into_iter().filter(|(_, by)| is_dead(by, me));
                            *self.tasks() = dead.map(|(held, _)| held).collect();
                        }
                        Ok(_) => {}
                        Err(error) => {
                            tracing::debug!(%error, "tasks of dead processes are recovered when their leases end")
                        }
                    }
                }
                Instant::now()
            })
            .await;
    }

    /// At most this many of the tasks, once the programs they started have had `grace` to exit.
    pub(super) fn some(&self, grace: Duration, limit: usize) -> Vec<ClaimedRow> {
        match self.looked.get() {
            Some(at) if at.elapsed() >= grace => self.tasks().iter().take(limit).copied().collect(),
            _ => Vec::new(),
        }
    }

    /// Removes recovered tasks from the list.
    pub(super) fn done(&self, taken: &[ClaimedRow]) {
        self.tasks().retain(|held| !taken.contains(held));
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<ClaimedRow>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Active tasks, each with the name of its claimer.
fn active(conn: &Connection) -> Result<Vec<(ClaimedRow, String)>, SqlError> {
    conn.all(
        "SELECT t.seq, t.run, t.claimed_by FROM tasks t INDEXED BY tasks_active \
         WHERE t.state = 'active' AND t.claimed_by IS NOT NULL ORDER BY t.at LIMIT ?",
        [MOST],
        |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)),
    )
}

/// Whether the claimer ran on this host and its process is gone. `me` has not claimed anything yet, so tasks under its
/// name belong to an earlier process with the same id, as in a restarted container.
fn is_dead(claimed_by: &str, me: &str) -> bool {
    let (host, pid) = claimed_by.rsplit_once(':').unwrap_or_default();
    let here = me.rsplit_once(':').is_some_and(|(mine, _)| mine == host);
    here && (claimed_by == me || lock::is_gone(pid))
}

#[cfg(target_os = "linux")]
mod lock {
    use std::fs::{File, OpenOptions};
    use std::io;
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::path::{Path, PathBuf};

    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc::{F_RDLCK, F_UNLCK, F_WRLCK, SEEK_SET, flock};

    /// A lock that several processes may hold. It belongs to the open file, not to the process, and ends with it.
    pub(super) struct Lock(File);

    impl Lock {
        pub(super) fn of(store: &Path) -> io::Result<Self> {
            let mut path = store.to_path_buf().into_os_string();
            path.push("-workers");
            let mut how = OpenOptions::new();
            how.read(true).write(true).create(true).truncate(false).mode(0o600);
            let file = how.open(PathBuf::from(path))?;
            fcntl(&file, FcntlArg::F_OFD_SETLK(&whole(F_RDLCK)))?;
            Ok(Self(file))
        }

        /// Whether no other process holds it. If that cannot be determined, another one may.
        pub(super) fn is_the_only_one(&self) -> bool {
            let mut probe = whole(F_WRLCK);
            let answer = fcntl(&self.0, FcntlArg::F_OFD_GETLK(&mut probe));
            answer.is_ok() && i32::from(probe.l_type) == F_UNLCK
        }
    }

    /// The whole file, with this kind of lock.
    fn whole(kind: i32) -> flock {
        flock {
            // Constants that fit.
            l_type: i16::try_from(kind).unwrap_or_default(),
            l_whence: i16::try_from(SEEK_SET).unwrap_or_default(),
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        }
    }

    /// Whether no process with this id runs. A zombie counts as gone.
    pub(super) fn is_gone(pid: &str) -> bool {
        let known = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/stat"));
        if pid.parse::<u32>().is_err() || known("self").is_err() {
            return false;
        }
        match known(pid) {
            Ok(stat) => {
                let state = stat
                    .rsplit_once(')')
                    .and_then(|(_, rest)| rest.trim_start().chars().next());
                matches!(state, Some('Z' | 'X'))
            }
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod lock {
    use std::io;
    use std::path::Path;

    /// No such lock on this system.
    pub(super) struct Lock(());

    impl Lock {
        pub(super) fn of(_: &Path) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(super) fn is_the_only_one(&self) -> bool {
            false
        }
    }

    pub(super) fn is_gone(_: &str) -> bool {
        false
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_lock_is_visible_to_others_and_ends_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("q.db");
        let first = lock::Lock::of(&store).unwrap();
        assert!(first.is_the_only_one());
        let second = lock::Lock::of(&store).unwrap();
        assert!(!first.is_the_only_one() && !second.is_the_only_one());
        drop(first);
        assert!(second.is_the_only_one());
    }

    #[test]
    fn only_a_process_of_this_host_is_known_to_be_dead() {
        let pid = std::process::id();
        // Larger than any process id.
        let unused = 4_194_305_u32 + 1;
        let me = "here:7";
        assert!(is_dead(&format!("here:{unused}"), me));
        assert!(is_dead(me, me));
        assert!(!is_dead(&format!("here:{pid}"), me));
        assert!(!is_dead(&format!("there:{unused}"), me));
        assert!(!is_dead("", me) && !is_dead("here:x", me) && !is_dead("here:", me));
    }
}
