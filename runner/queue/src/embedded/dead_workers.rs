//! Tasks of worker processes that are known to be dead, so that their leases need not be waited for.
//!
//! Each process that claims keeps a file beside the store locked while it lives; the kernel drops the lock with the process,
//! whatever ended it. One that finds no other lock after it has read which tasks are active knows that those who claimed
//! them are gone. The file may be deleted by hand under a live process, so the process ids that the tasks name are looked
//! at too. What cannot be shown in both ways waits for the end of its lease, as does everything on other systems than Linux.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::connection::Statements as _;
use super::error::SqlError;
use super::readers::Readers;

/// Active tasks that are looked at, the oldest claims first: more than all workers of a host run at once.
const MOST: i64 = 10_000;

/// An active task by its row and its run.
pub(super) type ClaimedRow = (i64, i64);

/// What was found when this process began to claim. The look at the file and at the lock happens once, before the first
/// claim: what is active then and not of this process was claimed before.
#[derive(Default)]
pub(super) struct DeadWorkers {
    lock: OnceLock<Option<lock::Lock>>,
    looked: OnceCell<Instant>,
    tasks: Mutex<Vec<ClaimedRow>>,
}

impl DeadWorkers {
    /// This process is going to claim.
    pub(super) fn announce(&self, store: &Path) {
        self.lock.get_or_init(|| match lock::Lock::of(store) {
            Ok(lock) => Some(lock),
            Err(error) => {
                tracing::debug!(%error, "the leases of dead processes are waited for: no lock beside the file");
                None
            }
        });
    }

    /// Looks once, before the first claim. `me`: as whom this process claims.
    pub(super) async fn look(&self, readers: &Readers, me: Option<&String>) {
        self.looked
            .get_or_init(|| async {
                if let (Some(Some(lock)), Some(me)) = (self.lock.get(), me) {
                    match readers.ask("look for tasks of dead workers", active).await {
                        Ok(active) if lock.is_the_only_one() => {
                            let dead = active.into_iter().filter(|(_, by)| is_dead(by, me));
                            *self.tasks() = dead.map(|(held, _)| held).collect();
                        }
                        Ok(_) => {}
                        Err(error) => tracing::debug!(%error, "the leases of dead processes are waited for"),
                    }
                }
                Instant::now()
            })
            .await;
    }

    /// Up to this many of them, once what they ran has had `grace` to end.
    pub(super) fn some(&self, grace: Duration, limit: usize) -> Vec<ClaimedRow> {
        match self.looked.get() {
            Some(at) if at.elapsed() >= grace => self.tasks().iter().take(limit).copied().collect(),
            _ => Vec::new(),
        }
    }

    /// These were taken back.
    pub(super) fn done(&self, taken: &[ClaimedRow]) {
        self.tasks().retain(|held| !taken.contains(held));
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<ClaimedRow>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Active tasks, and as whom each was claimed.
fn active(conn: &Connection) -> Result<Vec<(ClaimedRow, String)>, SqlError> {
    conn.all(
        "SELECT t.seq, t.run, t.claimed_by FROM tasks t INDEXED BY tasks_active \
         WHERE t.state = 'active' AND t.claimed_by IS NOT NULL ORDER BY t.at LIMIT ?",
        [MOST],
        |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)),
    )
}

/// Whether no process of this id runs on this host any more. `me` has not claimed anything yet, so what it seems to hold is
/// of an earlier process of the same id, as in a container that was started again.
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

    /// A lock that others may have as well. It belongs to the open file, not to the process, and ends with it.
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

        /// Whether no other process has it. If that cannot be found out, another one may.
        pub(super) fn is_the_only_one(&self) -> bool {
            let mut asked = whole(F_WRLCK);
            let answer = fcntl(&self.0, FcntlArg::F_OFD_GETLK(&mut asked));
            answer.is_ok() && i32::from(asked.l_type) == F_UNLCK
        }
    }

    /// The whole file, under a lock of this kind.
    fn whole(kind: i32) -> flock {
        flock {
            // Three small numbers.
            l_type: i16::try_from(kind).unwrap_or_default(),
            l_whence: i16::try_from(SEEK_SET).unwrap_or_default(),
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        }
    }

    /// Whether no process of this id runs; one whose end was not asked for yet is as good as gone.
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

    /// There is none here.
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
    fn a_lock_is_seen_by_others_and_ends_with_its_holder() {
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
        // Larger than any that is given.
        let nobody = 4_194_305_u32 + 1;
        let me = "here:7";
        assert!(is_dead(&format!("here:{nobody}"), me));
        assert!(is_dead(me, me));
        assert!(!is_dead(&format!("here:{pid}"), me));
        assert!(!is_dead(&format!("there:{nobody}"), me));
        assert!(!is_dead("", me) && !is_dead("here:x", me) && !is_dead("here:", me));
    }
}
