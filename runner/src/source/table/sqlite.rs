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

/// A SQLite file, not opened yet.
pub fn open(path: &Path) -> Kept<Sqlite> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(TIMEOUT)
        .disable_statement_logging();
    Kept::new(&DIALECT, options, None)
}
