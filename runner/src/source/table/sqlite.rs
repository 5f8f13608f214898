//! `sys_crontab` in a SQLite file, most often the one of the embedded broker: its words and how to open it.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Sqlite};

use super::kept::{Dialect, Kept};
use super::store::TIMEOUT;

pub(super) static DIALECT: Dialect = Dialect {
    select: "SELECT CAST(id AS TEXT), CAST(name AS TEXT), CAST(type AS TEXT), CAST(spec AS TEXT), \
         CAST(payload AS TEXT), CAST(status AS TEXT) FROM sys_crontab ORDER BY sys_crontab.id LIMIT 10001",
    probe: "SELECT 1 FROM sys_crontab LIMIT 1",
    migration: include_str!("../../../../migrations/sqlite/0100_sys_crontab.sql"),
    // SQLite has no code of its own for a missing table; its message is recognised.
    missing: "",
    makes_table: true,
};

/// A SQLite file, not opened yet; made if it is missing.
pub fn open(path: &Path) -> Kept<Sqlite> {
    kept(path, true)
}

/// A SQLite file that reading never makes: one that was removed while its broker had it open must not appear anew.
pub fn open_existing(path: &Path) -> Kept<Sqlite> {
    kept(path, false)
}

/// Makes the directory and the file if they are missing, for the owner only.
pub fn make_file(path: &Path) -> std::io::Result<()> {
    let mut directory = std::fs::DirBuilder::new();
    let mut file = std::fs::OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
        directory.mode(0o700);
        file.mode(0o600);
    }
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        directory.recursive(true).create(parent)?;
    }
    file.append(true).create(true).open(path).map(drop)
}

fn kept(path: &Path, create: bool) -> Kept<Sqlite> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(create)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(TIMEOUT)
        .disable_statement_logging();
    Kept::new(&DIALECT, options, None)
}
