//! A copy of a SQLite file as it is at one instant, while others go on writing.
//!
//! SQLite's own backup does the copying; a copy of the file by other means lacks what is still in the log beside it.

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

/// A copy that was made and looked through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackedUp {
    /// Its size in bytes.
    pub bytes: u64,
    /// Tasks in it; `None` if the file holds no queue.
    pub tasks: Option<u64>,
    /// Rows of `sys_crontab` in it; `None` if there is no such table.
    pub rows: Option<u64>,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The copy cannot be made under the name that was given: nothing is wrong with the file.
    #[error("{}: {why}", path.display())]
    Target {
        /// The name.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The file cannot be copied now.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// Copies the file at `from` to `to`, which must not exist, and looks the copy through. Waits for the disk.
///
/// # Errors
///
/// `Target` if `to` exists or its directory cannot be written; of the broker `Refused` if there is nothing to copy, `Full`
/// if the disk is, `Corrupt` if the copy is not sound: then the file itself is damaged. Nothing is left behind.
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

/// What kept a file at `to` from being made: the call, or the disk.
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

/// Under another name first: what has the name is complete.
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
            // What is not there need not be removed.
            drop(fs::remove_file(path));
        }
    }
    made
}

/// For the owner's eyes only, as the original.
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
    // One view of the file for all steps: without it a write of another process would make the copy begin anew.
    source.execute_batch("BEGIN")?;
    source.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let mut target = Connection::open_with_flags(to, flags)?;
    {
        let backup = Backup::new(&source, &mut target)?;
        while backup.step(PAGES)? != StepResult::Done {}
    }
    source.execute_batch("COMMIT")?;
    // One file, with nothing beside it.
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

/// Gives the finished copy its name, unless something has it by now, and makes sure that it stays.
fn name(partial: &Path, to: &Path) -> io::Result<()> {
    fs::File::open(partial)?.sync_all()?;
    match fs::hard_link(partial, to) {
        Ok(()) => fs::remove_file(partial)?,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(e),
        // A file system without such links.
        Err(_) => fs::rename(partial, to)?,
    }
    let directory = to
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::File::open(directory)?.sync_all()
}
