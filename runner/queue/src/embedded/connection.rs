//! Connections to the file, and the helpers that run statements on them.
//!
//! A statement blocks its thread: all writes share one thread (`writer`), reads run on a bounded number of blocking
//! threads (`readers`). Code that holds a connection never waits for anything else.

use std::path::Path;
use std::time::Duration;

use rusqlite::types::FromSql;
use rusqlite::{Connection, OpenFlags, Params, Row};

use super::error::SqlError;

/// How long a statement waits for the lock of another process.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The same for switching a new file to the write-ahead log. Two processes that create the file at once may each hold what
/// the other one needs; waiting cannot resolve that, so the loser retries with a new connection.
const CREATING_TIMEOUT: Duration = Duration::from_millis(50);

/// Size in bytes at which the log is truncated: four times what SQLite checkpoints at once.
pub(super) const LOG_LIMIT: i64 = 16 * 1024 * 1024;

/// Prepared statements cached per connection; above the number of different ones in this room.
const STATEMENTS: usize = 256;

/// Opens the file, which must exist.
pub(super) fn open(path: &Path) -> Result<Connection, SqlError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    // Has an effect on empty files only.
    if conn.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0))? == 0 {
        conn.pragma_update(None, "auto_vacuum", "incremental")?;
    }
    let mode: String = conn.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    if mode != "wal" {
        conn.busy_timeout(CREATING_TIMEOUT)?;
        conn.pragma_update(None, "journal_mode", "wal")?;
        conn.busy_timeout(BUSY_TIMEOUT)?;
    }
    conn.pragma_update(None, "journal_size_limit", LOG_LIMIT)?;
    conn.pragma_update(None, "synchronous", "full")?;
    // Deleted data must not remain readable in the file.
    conn.pragma_update(None, "secure_delete", true)?;
    Ok(conn)
}

/// Opens a read-only connection.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, SqlError> {
    let conn = open(path)?;
    conn.pragma_update(None, "query_only", true)?;
    Ok(conn)
}

/// Statements that are prepared once per connection. A row borrows from its statement, so each is read into an owned value
/// before the next statement runs.
pub(super) trait Statements {
    /// Runs a statement that returns no rows. Returns how many rows it changed.
    fn exec(&self, text: &str, params: impl Params) -> Result<u64, SqlError>;

    /// Returns all rows.
    fn all<T>(
        &self,
        text: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> Result<T, SqlError>,
    ) -> Result<Vec<T>, SqlError>;

    /// Returns the first row, if there is one.
    fn first<T>(
        &self,
        text: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T, SqlError>,
    ) -> Result<Option<T>, SqlError>;

    /// Returns the first row, which must exist.
    fn one<T>(
        &self,
        text: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        self.first(text, params, read)?.ok_or(SqlError::RowNotFound)
    }

    /// Returns the first column of the first row, which must exist.
    fn value<T: FromSql>(&self, text: &str, params: impl Params) -> Result<T, SqlError> {
        self.one(text, params, |row| Ok(row.get(0)?))
    }

    /// Returns the first column of all rows.
    fn values<T: FromSql>(&self, text: &str, params: impl Params) -> Result<Vec<T>, SqlError> {
        self.all(text, params, |row| Ok(row.get(0)?))
    }
}

impl Statements for Connection {
    fn exec(&self, text: &str, params: impl Params) -> Result<u64, SqlError> {
        Ok(self.prepare_cached(text)?.execute(params)? as u64)
    }

    fn all<T>(
        &self,
        text: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> Result<T, SqlError>,
    ) -> Result<Vec<T>, SqlError> {
        self.prepare_cached(text)?.query_and_then(params, read)?.collect()
    }

    fn first<T>(
        &self,
        text: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T, SqlError>,
    ) -> Result<Option<T>, SqlError> {
        let mut statement = self.prepare_cached(text)?;
        let mut rows = statement.query(params)?;
        rows.next()?.map(read).transpose()
    }
}
