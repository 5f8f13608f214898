//! Keeps the file small: pages of deleted rows return to the file system in bounded steps, and so does the write-ahead
//! log.
//!
//! Not here: which rows are deleted, and when (`sweep`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use super::connection::{BUSY_TIMEOUT, LOG_LIMIT, Statements as _};
use super::error::SqlError;
use crate::Caveat;

/// Pages (of 4 KiB) that may stay free: 1 MiB, which a busy store frees and reuses within a second.
const SLACK: i64 = 256;

/// Pages returned in one transaction: 4 MiB, about 10 ms if each has to be moved.
const STEP: i64 = 1_024;

/// Size of the log in bytes below which truncating it gains next to nothing on a full disk.
const WORTH_CUTTING: i64 = 1024 * 1024;

/// Groups of writes between two checks of the log's length; a check is one system call.
const GROUPS: u32 = 32;

/// How long truncating waits for readers, because writers wait meanwhile. The next check tries again.
const READERS: Duration = Duration::from_millis(20);

/// Maximum size in bytes of an older file that is rewritten when it is opened: well under a second.
const REWRITTEN: i64 = 64 * 1024 * 1024;

/// SQLite's number for `auto_vacuum = INCREMENTAL`.
const INCREMENTAL: i64 = 2;

/// Returns free pages to the file system, inside the open transaction. Returns whether more could follow.
pub(super) fn release_pages(conn: &Connection) -> Result<bool, SqlError> {
    let free = conn.value::<i64>("PRAGMA freelist_count", [])?;
    if free <= SLACK || !releases_pages(conn)? {
        return Ok(false);
    }
    // One row per page.
    let pages = (free - SLACK).min(STEP);
    conn.all(&format!("PRAGMA incremental_vacuum({pages})"), [], |_| Ok(()))?;
    Ok(free - SLACK > STEP)
}

/// Whether the file was created so that free pages can be returned.
pub(super) fn releases_pages(conn: &Connection) -> Result<bool, SqlError> {
    Ok(conn.value::<i64>("PRAGMA auto_vacuum", [])? == INCREMENTAL)
}

/// The caveat for a file that cannot, where this is its `auto_vacuum`: it was too large to be rewritten when opened.
pub(super) fn caveat(how: i64) -> Option<Caveat> {
    (how != INCREMENTAL).then(|| Caveat {
        code: "broker_never_shrinks",
        message: "the file of an older version keeps the space of deleted tasks".to_owned(),
        hint: "runner migrate --compact, which rewrites it, while no runner runs",
        grave: false,
    })
}

/// Rewrites the whole file, so that free pages can be returned from then on. Other processes wait, and the disk needs room
/// for a second copy meanwhile.
pub(super) fn rewrite(conn: &Connection) -> Result<(), SqlError> {
    Ok(conn.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);")?)
}

/// Rewrites a small file that needs it. If it is in use or the disk is full, the next start tries again.
pub(super) fn rewrite_if_small(conn: &Connection) -> Result<(), SqlError> {
    let pages: i64 = conn.value("PRAGMA page_count", [])?;
    let size: i64 = conn.value("PRAGMA page_size", [])?;
    if releases_pages(conn)? || pages * size > REWRITTEN {
        return Ok(());
    }
    if let Err(error) = rewrite(conn) {
        tracing::debug!(%error, "the file is not rewritten this time and still keeps the space of deleted tasks");
    }
    Ok(())
}

/// Copies the log into the file and truncates it. Returns SQLite's answer, after restoring the usual timeout.
fn checkpoint(conn: &Connection) -> Result<i64, SqlError> {
    // Short, because this thread is the only one that writes: while it waits for readers, all writes wait.
    conn.busy_timeout(READERS)?;
    let busy = conn.value("PRAGMA wal_checkpoint(TRUNCATE)", []);
    conn.busy_timeout(BUSY_TIMEOUT)?;
    busy
}

/// Keeps the write-ahead log short.
pub(super) struct WalGuard {
    path: PathBuf,
    groups: u32,
}

impl WalGuard {
    /// For the file at `path`.
    pub(super) fn of(path: &Path) -> Self {
        let mut log = path.to_path_buf().into_os_string();
        log.push("-wal");
        let path = log.into();
        Self { path, groups: 0 }
    }

    /// Called after each group of writes: truncates a long log, as left by a reader that took minutes.
    pub(super) fn check(&mut self, conn: &Connection) {
        self.groups = (self.groups + 1) % GROUPS;
        if self.groups == 0 && self.length() > LOG_LIMIT {
            self.truncate(conn);
        }
    }

    /// Truncates the log, which makes room on a full disk. Returns whether it did.
    pub(super) fn truncate(&self, conn: &Connection) -> bool {
        if self.length() < WORTH_CUTTING {
            return false;
        }
        match checkpoint(conn) {
            // The first column is 1 if another connection blocked the checkpoint.
            Ok(busy) => busy == 0,
            Err(error) => {
                tracing::debug!(%error, "the log of the file could not be cut yet");
                false
            }
        }
    }

    fn length(&self) -> i64 {
        let length = std::fs::metadata(&self.path).map_or(0, |log| log.len());
        i64::try_from(length).unwrap_or(i64::MAX)
    }
}
