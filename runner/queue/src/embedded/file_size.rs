//! Keeps the file as small as what it holds: pages of deleted rows go back to the file system in bounded steps, and so
//! does the write-ahead log.
//!
//! Which rows are deleted, and when, is not decided here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use super::connection::{BUSY_TIMEOUT, LOG_LIMIT, Statements as _};
use super::error::SqlError;
use crate::Caveat;

/// Pages (of 4 KiB) that may stay free: 1 MiB, what a busy store frees and takes again within a second.
const SLACK: i64 = 256;

/// Pages given back in one transaction: 4 MiB, some 10 ms if each has to be moved.
const STEP: i64 = 1_024;

/// Bytes of the log below which a full disk gains next to nothing by a cut.
const WORTH_CUTTING: i64 = 1024 * 1024;

/// Groups of writes between two looks at the length of the log; a look is one call of the system.
const GROUPS: u32 = 32;

/// How long a cut waits for readers: writers wait meanwhile. The next look tries again.
const READERS: Duration = Duration::from_millis(20);

/// Bytes up to which a file of an older version is rewritten when it is opened: well under a second.
const REWRITTEN: i64 = 64 * 1024 * 1024;

/// SQLite's number for "free pages are given back step by step".
const INCREMENTAL: i64 = 2;

/// Gives free pages back to the file system, inside the transaction that is open; whether more could follow.
pub(super) fn release_pages(conn: &Connection) -> Result<bool, SqlError> {
    let free = conn.value::<i64>("PRAGMA freelist_count", [])?;
    if free <= SLACK || !releases_pages(conn)? {
        return Ok(false);
    }
    // One row a page.
    let pages = (free - SLACK).min(STEP);
    conn.all(&format!("PRAGMA incremental_vacuum({pages})"), [], |_| Ok(()))?;
    Ok(free - SLACK > STEP)
}

/// Whether the file was made so that free pages can be given back.
pub(super) fn releases_pages(conn: &Connection) -> Result<bool, SqlError> {
    Ok(conn.value::<i64>("PRAGMA auto_vacuum", [])? == INCREMENTAL)
}

/// What a file is that does not, in which this is SQLite's number for how it was made: too large to be rewritten at a start.
pub(super) fn caveat(how: i64) -> Option<Caveat> {
    (how != INCREMENTAL).then(|| Caveat {
        code: "broker_never_shrinks",
        message: "the file of an older version keeps the space of deleted tasks".to_owned(),
        hint: "runner migrate --compact, which rewrites it, while no runner runs",
        grave: false,
    })
}

/// Rewrites the whole file, so that free pages can be given back from then on. Others wait, and the disk needs room for
/// a second copy meanwhile.
pub(super) fn rewrite(conn: &Connection) -> Result<(), SqlError> {
    Ok(conn.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);")?)
}

/// Does that for a small file that needs it. One that is in use, or a full disk, leaves it to the next time.
pub(super) fn rewrite_if_small(conn: &Connection) -> Result<(), SqlError> {
    let pages: i64 = conn.value("PRAGMA page_count", [])?;
    let size: i64 = conn.value("PRAGMA page_size", [])?;
    if releases_pages(conn)? || pages * size > REWRITTEN {
        return Ok(());
    }
    if let Err(error) = rewrite(conn) {
        tracing::debug!(%error, "the file is not rewritten this time; it keeps the space of deleted tasks");
    }
    Ok(())
}

/// Copies the log into the file; SQLite's answer, after the usual timeout is restored.
fn checkpoint(conn: &Connection) -> Result<i64, SqlError> {
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
    /// Of the file at `path`.
    pub(super) fn of(path: &Path) -> Self {
        let mut log = path.to_path_buf().into_os_string();
        log.push("-wal");
        let path = log.into();
        Self { path, groups: 0 }
    }

    /// After each group of writes: truncates a log that has become long, as after a reader that took minutes.
    pub(super) fn check(&mut self, conn: &Connection) {
        self.groups = (self.groups + 1) % GROUPS;
        if self.groups == 0 && self.length() > LOG_LIMIT {
            self.truncate(conn);
        }
    }

    /// Copies the log into the file and truncates it, which makes room on a full disk; whether it did.
    pub(super) fn truncate(&self, conn: &Connection) -> bool {
        if self.length() < WORTH_CUTTING {
            return false;
        }
        match checkpoint(conn) {
            // The first column says whether another connection was in the way.
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
