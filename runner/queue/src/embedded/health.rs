//! The health of the file: whether the path still leads to the open file, whether SQLite found damage, whether a write
//! was refused.
//!
//! Only records; callers decide what to do about it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::ErrorCode;

use super::error::SqlError;

/// Identifies a file independently of its name: device and inode number.
type Identity = (u64, u64);

/// The health of one file, shared by all connections of a broker. Each field is independent: no two of them are read or
/// written together.
pub(super) struct FileHealth {
    path: PathBuf,
    file: Option<Identity>,
    log: PathBuf,
    /// Of the write-ahead log, once it exists: SQLite keeps it while a connection is open.
    log_seen: Mutex<Option<Identity>>,
    /// In SQLite's words.
    damage: Mutex<Option<String>>,
    refused: AtomicBool,
    writes: AtomicU64,
}

impl FileHealth {
    /// For the file at `path`, which has just been opened.
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

    /// Fails if the path no longer leads to the open file: writes to a file without a name are lost with the process.
    pub(super) fn check_in_place(&self) -> Result<(), SqlError> {
        // The path again each time, not the open file: only the path shows that another file took its place.
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
                // The log is created by the first write, so its first appearance is not a replacement.
                *seen = now;
                Ok(())
            }
        }
    }

    /// Records an error of a statement.
    pub(super) fn note_error(&self, error: &SqlError) {
        let SqlError::Sqlite(rusqlite::Error::SqliteFailure(code, _)) = error else {
            return;
        };
        match code.code {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => self.note_damage(&error.to_string()),
            ErrorCode::DiskFull | ErrorCode::ReadOnly | ErrorCode::SystemIoFailure | ErrorCode::CannotOpen => {
                self.refused.store(true, Ordering::Relaxed);
            }
            _ => (),
        }
    }

    /// Records damage.
    pub(super) fn note_damage(&self, how: &str) {
        self.damage_noted().get_or_insert_with(|| how.to_owned());
    }

    /// A check of the whole file found no damage.
    pub(super) fn note_sound(&self) {
        *self.damage_noted() = None;
    }

    /// The damage found, if any.
    pub(super) fn damage(&self) -> Option<String> {
        self.damage_noted().clone()
    }

    /// Records a committed transaction.
    pub(super) fn note_write(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of transactions committed since the start.
    pub(super) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Whether a write was refused since [`FileHealth::note_room`].
    pub(super) fn refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Records that a write of some size succeeded.
    pub(super) fn note_room(&self) {
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

/// Other systems do not let an open file be removed.
#[cfg(not(unix))]
fn identity(_: &Path) -> Option<Identity> {
    None
}
