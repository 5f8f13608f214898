//! What the broker has seen of its file's condition: whether the path still leads to the file that is open, whether
//! SQLite found it damaged, whether a write was refused.
//!
//! Only notes and tells; what is done about it is decided by those who ask.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::ErrorCode;

use super::error::SqlError;

/// What tells one file from another of the same name: device and number.
type Identity = (u64, u64);

/// The condition of one file, shared by all connections of a broker.
pub(super) struct Condition {
    path: PathBuf,
    file: Option<Identity>,
    log: PathBuf,
    /// Of the log, from when it was first seen: SQLite keeps it while a connection is open.
    log_seen: Mutex<Option<Identity>>,
    /// In SQLite's words.
    damage: Mutex<Option<String>>,
    refused: AtomicBool,
    writes: AtomicU64,
}

impl Condition {
    /// Of the file at `path`, which has just been opened.
    pub(super) fn of(path: &Path) -> Self {
        let mut log = path.to_path_buf().into_os_string();
        log.push("-wal");
        let log = PathBuf::from(log);
        Self {
            file: identity(path),
            log_seen: Mutex::new(identity(&log)),
            path: path.to_path_buf(),
            log,
            damage: Mutex::default(),
            refused: AtomicBool::new(false),
            writes: AtomicU64::new(0),
        }
    }

    /// Whether the path still leads to what is open: what is written into a file without a name is gone with the
    /// process.
    pub(super) fn in_place(&self) -> Result<(), SqlError> {
        let now = identity(&self.path);
        if self.file.is_some() && now != self.file {
            return Err(moved(&self.path, now));
        }
        let now = identity(&self.log);
        let mut seen = self.log_seen.lock().unwrap_or_else(PoisonError::into_inner);
        match *seen {
            Some(_) if now != *seen => Err(moved(&self.log, now)),
            Some(_) => Ok(()),
            None => {
                *seen = now;
                Ok(())
            }
        }
    }

    /// Takes note of what a statement met.
    pub(super) fn met(&self, error: &SqlError) {
        let SqlError::Sqlite(rusqlite::Error::SqliteFailure(code, _)) = error else {
            return;
        };
        match code.code {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => self.damaged(&error.to_string()),
            ErrorCode::DiskFull | ErrorCode::ReadOnly | ErrorCode::SystemIoFailure | ErrorCode::CannotOpen => {
                self.refused.store(true, Ordering::Relaxed);
            }
            _ => (),
        }
    }

    /// Takes note of damage.
    pub(super) fn damaged(&self, how: &str) {
        self.damage_noted().get_or_insert_with(|| how.to_owned());
    }

    /// A look at the whole file found none.
    pub(super) fn sound(&self) {
        *self.damage_noted() = None;
    }

    /// The damage that was met, if any.
    pub(super) fn damage(&self) -> Option<String> {
        self.damage_noted().clone()
    }

    /// A transaction was committed.
    pub(super) fn wrote(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were, ever.
    pub(super) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Whether a write was refused since [`Condition::has_room`].
    pub(super) fn refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// A write of some size was taken.
    pub(super) fn has_room(&self) {
        self.refused.store(false, Ordering::Relaxed);
    }

    fn damage_noted(&self) -> MutexGuard<'_, Option<String>> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn moved(path: &Path, now: Option<Identity>) -> SqlError {
    let what = if now.is_some() { "replaced" } else { "removed" };
    SqlError::Replaced(format!(
        "{} was {what} while it was open; nothing more is accepted until it is back, or until a restart, which takes \
         what is there then",
        path.display()
    ))
}

#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// Elsewhere an open file cannot be removed.
#[cfg(not(unix))]
fn identity(_: &Path) -> Option<Identity> {
    None
}
