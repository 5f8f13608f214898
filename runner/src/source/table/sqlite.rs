//! `sys_crontab` in a SQLite file, usually that of the embedded broker: dialect and connection.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use sqlx::error::DatabaseError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteQueryResult, SqliteSynchronous};
use sqlx::{ConnectOptions, Sqlite};

use super::columns::Column;
use super::connection::{Dialect, TableConnection};
use super::edit::{ChangeResult, ChangeWords, RowStore, RowValues, WriteError};
use super::statement::{ByteColumn, SqlDialect};
use super::store::{Store, TIMEOUT, TableError, TableRow};
use crate::text::hex;

pub(super) static DIALECT: Dialect = Dialect {
    columns: "SELECT name, type FROM pragma_table_xinfo('sys_crontab')",
    words: &SqliteWords,
    migration: include_str!("../../../migrations/sqlite/0100_sys_crontab.sql"),
    // SQLite has no code of its own for a missing table; its message is recognised.
    missing: "",
    forbidden,
    busy,
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

impl ChangeWords for SqliteWords {
    fn literal(&self, text: &str) -> String {
        match text.contains('\0') {
            // A statement ends at the first NUL.
            true => format!("CAST({} AS TEXT)", self.bytes_literal(text.as_bytes())),
            false => format!("'{}'", text.replace('\'', "''")),
        }
    }

    fn bytes_literal(&self, bytes: &[u8]) -> String {
        format!("X'{}'", hex(bytes))
    }

    fn same(&self, expression: &str, text: &str) -> String {
        format!("({expression}) = {} COLLATE BINARY", self.literal(text))
    }

    /// The file has one writer at a time, so nothing waits for rows that are passed over.
    fn indexed_id(&self, _: &Column, _: &str) -> Option<String> {
        None
    }

    fn switch(&self, column: &Column, on: bool) -> String {
        let digit = u8::from(on);
        match column.kind.contains("char") || column.kind.contains("text") {
            true => format!("'{digit}'"),
            false => digit.to_string(),
        }
    }

    fn now(&self, column: &Column) -> Option<String> {
        let timed = ["text", "char", "date", "time"];
        let timed = timed.iter().any(|word| column.kind.contains(word));
        timed.then(|| "CURRENT_TIMESTAMP".to_owned())
    }

    fn deletion_mark(&self, column: &Column) -> Option<String> {
        let whole = column
            .kind
            .contains("int")
            .then(|| "CAST(strftime('%s', 'now') AS INTEGER)".to_owned());
        self.now(column).or(whole)
    }

    fn returns_ids(&self) -> bool {
        true
    }
}

impl ChangeResult for SqliteQueryResult {
    fn rows(&self) -> u64 {
        self.rows_affected()
    }
}

/// `SQLITE_READONLY`, with what it was extended by, or `SQLITE_PERM` or `SQLITE_AUTH`.
fn forbidden(error: &dyn DatabaseError) -> bool {
    let code: Option<u32> = error.code().and_then(|code| code.parse().ok());
    matches!(code.map(|code| code & 0xff), Some(3 | 8 | 23))
}

/// `SQLITE_BUSY`, `SQLITE_LOCKED` or `SQLITE_FULL`, with what they were extended by.
fn busy(error: &dyn DatabaseError) -> bool {
    let code: Option<u32> = error.code().and_then(|code| code.parse().ok());
    matches!(code.map(|code| code & 0xff), Some(5 | 6 | 13))
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

#[async_trait]
impl RowStore for SqliteFile {
    async fn rows_of(&mut self, id: &str) -> Result<Vec<TableRow>, TableError> {
        self.kept.rows_of(id).await
    }

    async fn update(&mut self, before: &TableRow, values: &RowValues) -> Result<bool, WriteError> {
        self.kept.update(before, values).await
    }

    async fn insert(&mut self, id: Option<&str>, values: &RowValues) -> Result<Option<String>, WriteError> {
        self.kept.insert(id, values).await
    }

    async fn delete(&mut self, before: &TableRow) -> Result<bool, WriteError> {
        self.kept.delete(before).await
    }

    async fn close(&mut self) {
        RowStore::close(&mut self.kept).await;
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
