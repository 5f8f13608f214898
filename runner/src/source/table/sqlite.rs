//! `sys_crontab` in a SQLite file, usually that of the embedded broker: dialect and connection.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Sqlite};

use super::columns::Column;
use super::connection::{Dialect, TableConnection};
use super::statement::{ByteColumn, SqlDialect};
use super::store::{Store, TIMEOUT, TableError, TableRow};

pub(super) static DIALECT: Dialect = Dialect {
    columns: "SELECT name, type FROM pragma_table_xinfo('sys_crontab')",
    words: &SqliteWords,
    migration: include_str!("../../../migrations/sqlite/0100_sys_crontab.sql"),
    // SQLite has no code of its own for a missing table; its message is recognised.
    missing: "",
    makes_table: true,
};

struct SqliteWords;

impl SqlDialect for SqliteWords {
    fn quoted(&self, name: &str) -> String {
        format!("\"{name}\"")
    }

    fn cast(&self, expression: &str) -> String {
        format!("CAST({expression} AS TEXT)")
    }

    fn size(&self, column: &Column) -> String {
        format!("length(CAST({} AS BLOB))", self.quoted(&column.name))
    }

    /// The type of a column does not bind its values.
    fn bytes(&self, column: &Column) -> ByteColumn {
        ByteColumn::Where(format!("typeof({}) = 'blob'", self.quoted(&column.name)))
    }

    fn hex(&self, column: &Column) -> String {
        format!("lower(hex({}))", self.quoted(&column.name))
    }

    fn beginning(&self, text: &str, characters: usize) -> String {
        format!("substr({text}, 1, {characters})")
    }
}

/// A SQLite file: always the one at its path, even after it was replaced.
pub struct SqliteFile {
    path: PathBuf,
    kept: TableConnection<Sqlite>,
    /// The one that was read last: device and number.
    read: Option<(u64, u64)>,
}

/// A SQLite file, not opened yet; created if it is missing.
pub fn open(path: &Path) -> SqliteFile {
    SqliteFile::new(path, true)
}

/// A SQLite file that reading never creates: one that was removed while its broker had it open must not reappear.
pub fn open_existing(path: &Path) -> SqliteFile {
    SqliteFile::new(path, false)
}

impl SqliteFile {
    fn new(path: &Path, create: bool) -> Self {
        Self {
            path: path.to_path_buf(),
            kept: kept(path, create),
            read: None,
        }
    }
}

#[async_trait]
impl Store for SqliteFile {
    async fn rows(&mut self) -> Result<Vec<TableRow>, TableError> {
        match (self.read, identity(&self.path)) {
            (Some(_), None) => return Err(TableError::Database(format!("{} was removed", self.path.display()))),
            // A connection would continue to read the removed file.
            (Some(before), now) if now != Some(before) => self.kept = kept(&self.path, false),
            _ => (),
        }
        let rows = self.kept.rows().await?;
        self.read = identity(&self.path);
        Ok(rows)
    }

    async fn migrate(&mut self) -> Result<bool, TableError> {
        self.kept.migrate().await
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// Elsewhere an open file is not replaced.
#[cfg(not(unix))]
fn identity(path: &Path) -> Option<(u64, u64)> {
    path.exists().then_some((0, 0))
}

fn kept(path: &Path, create: bool) -> TableConnection<Sqlite> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(create)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(TIMEOUT)
        .disable_statement_logging();
    TableConnection::new(&DIALECT, options, None)
}
