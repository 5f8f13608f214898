//! A consistent copy of a SQLite file while others write to it.
//!
//! Uses SQLite's own backup: a plain copy of the file would lack what is still in the write-ahead log.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::error::{SqlError, broker_error};
use crate::BrokerError;

const DOING: &str = "back its file up";

/// Pages copied in one step: 16 MiB.
const PAGES: i32 = 4_096;

/// A finished and verified copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackedUp {
    /// Its size in bytes.
    pub bytes: u64,
    /// Number of tasks in it; `None` if the file holds no queue.
    pub tasks: Option<u64>,
    /// Number of rows of `sys_crontab` in it; `None` if it has no such table.
    pub rows: Option<u64>,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The target cannot be created; the source is fine.
    #[error("{}: {why}", path.display())]
    Target {
        /// The target.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// The source cannot be copied now.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// Copies the file at `from` to `to`, which must not exist, and verifies the copy. Blocks on the disk.
///
/// # Errors
///
/// `Target` if `to` exists or its directory cannot be written; `Refused` if there is nothing to copy, `Full` if the disk
/// is, `Corrupt` if the copy is not sound, because then the source is damaged. A failure leaves nothing behind.
pub async fn backup(from: &Path, to: &Path) -> Result<BackedUp, BackupError> {
    let (from, to) = (from.to_path_buf(), to.to_path_buf());
    let copying = tokio::task::spawn_blocking(move || copy_as_a_whole(&from, &to));
    copying.await.map_err(|e| BrokerError::Unreachable {
        doing: DOING,
        source: e.into(),
    })?
}

fn exists(to: &Path) -> BackupError {
    BackupError::Target {
        path: to.to_path_buf(),
        why: "it exists, and a backup never overwrites".to_owned(),
    }
}

/// Why `to` could not be created: the call failed, or the disk is full.
fn unmade(to: &Path, error: &io::Error) -> BackupError {
    let why = match error.kind() {
        io::ErrorKind::AlreadyExists => return exists(to),
        io::ErrorKind::NotFound => "its directory does not exist".to_owned(),
        io::ErrorKind::NotADirectory
        | io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::InvalidFilename
        | io::ErrorKind::InvalidInput => format!("it cannot be made: {error}"),
        _ => return refused(to, error).into(),
    };
    let path = to.to_path_buf();
    BackupError::Target { path, why }
}

fn refused(path: &Path, why: impl std::fmt::Display) -> BrokerError {
    BrokerError::Refused {
        doing: DOING,
        source: format!("{}: {why}", path.display()).into(),
    }
}

/// Writes under a temporary name first, so that a file with the final name is always complete.
fn copy_as_a_whole(from: &Path, to: &Path) -> Result<BackedUp, BackupError> {
    if !from.exists() {
        return Err(refused(from, "there is no such file").into());
    }
    if fs::symlink_metadata(to).is_ok() {
        return Err(exists(to));
    }
    let mut partial = to.to_path_buf().into_os_string();
    partial.push(format!(".partial-{}", std::process::id()));
    let partial = PathBuf::from(partial);
    create(&partial).map_err(|e| unmade(to, &e))?;
    let made = copy(from, &partial)
        .map_err(|e| broker_error(DOING, e).into())
        .and_then(|made| name(&partial, to).map_err(|e| unmade(to, &e)).map(|()| made));
    if made.is_err() {
        for rest in ["", "-journal", "-wal", "-shm"] {
            let mut path = partial.clone().into_os_string();
            path.push(rest);
            // A missing file need not be removed.
            drop(fs::remove_file(path));
        }
    }
    made
}

/// Readable by its owner only, like the original.
fn create(path: &Path) -> io::Result<()> {
    let mut file = fs::OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut file, 0o600);
    file.write(true).create_new(true).open(path).map(drop)
}

fn copy(from: &Path, to: &Path) -> Result<BackedUp, SqlError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(from, flags)?;
    source.busy_timeout(super::connection::BUSY_TIMEOUT)?;
    // One read transaction for all steps: otherwise a write of another process would restart the copy.
    source.execute_batch("BEGIN")?;
    source.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let mut target = Connection::open_with_flags(to, flags)?;
    {
        let backup = Backup::new(&source, &mut target)?;
        while backup.step(PAGES)? != StepResult::Done {}
    }
    source.execute_batch("COMMIT")?;
    // A single file, without a write-ahead log beside it.
    target.pragma_update(None, "journal_mode", "delete")?;
    let sound: String = target.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if sound != "ok" {
        let damaged = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        return Err(rusqlite::Error::SqliteFailure(damaged, Some(sound)).into());
    }
    let made = BackedUp {
        bytes: fs::metadata(to).map_or(0, |file| file.len()),
        tasks: count(&target, "tasks")?,
        rows: count(&target, "sys_crontab")?,
    };
    target.close().map_err(|(_, e)| e)?;
    Ok(made)
}

fn count(of: &Connection, table: &str) -> Result<Option<u64>, SqlError> {
    if !of.table_exists(None, table)? {
        return Ok(None);
    }
    let n: i64 = of.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
    Ok(Some(super::rows::count(n)))
}

/// Renames the finished copy unless the name is taken by now, and syncs the directory.
fn name(partial: &Path, to: &Path) -> io::Result<()> {
    fs::File::open(partial)?.sync_all()?;
    match fs::hard_link(partial, to) {
        Ok(()) => fs::remove_file(partial)?,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(e),
        // A file system without hard links.
        Err(_) => fs::rename(partial, to)?,
    }
    let directory = to
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::File::open(directory)?.sync_all()
}
