//! Connections to the file, and the few ways in which this room runs a statement over one.
//!
//! A statement holds up the thread that runs it: all writes share one thread (`writer`), questions run on a bounded
//! number of blocking threads (`readers`). Nothing that is given a connection ever waits for anything else.

use std::path::Path;
use std::time::Duration;

use rusqlite::types::FromSql;
use rusqlite::{Connection, OpenFlags, Params, Row};

use super::error::SqlError;

/// How long a statement waits for another process that is writing.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The same for the change to a log, which a new file needs once: of two processes that make it at the same time each may
/// hold what the other one needs, and then waiting helps neither. Who gives up tries again with a new connection.
const CREATING_TIMEOUT: Duration = Duration::from_millis(50);

/// Bytes of the log beyond which SQLite, or a cut, shortens it: four times what SQLite copies into the file at once.
pub(super) const LOG_LIMIT: i64 = 16 * 1024 * 1024;

/// Prepared statements kept by each connection; above the number of different ones in this room.
const STATEMENTS: usize = 256;

/// Opens the file, which must exist.
pub(super) fn open(path: &Path) -> Result<Connection, SqlError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    // A file that has pages keeps how it was made.
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
    // What was deleted is not to be read from the file.
    conn.pragma_update(None, "secure_delete", true)?;
    Ok(conn)
}

/// Opens a connection that cannot write.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, SqlError> {
    let conn = open(path)?;
    conn.pragma_update(None, "query_only", true)?;
    Ok(conn)
}

/// Statements that are prepared once for each connection. A row lives no longer than its statement, so each is read
/// into a value of its own before the next statement runs.
pub(super) trait Statements {
    /// Runs a statement that answers with no rows; how many it changed.
    fn exec(&self, text: &str, given: impl Params) -> Result<u64, SqlError>;

    /// The rows.
    fn all<T>(
        &self,
        text: &str,
        given: impl Params,
        read: impl FnMut(&Row<'_>) -> Result<T, SqlError>,
    ) -> Result<Vec<T>, SqlError>;

    /// The first row, if there is one.
    fn first<T>(
        &self,
        text: &str,
        given: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T, SqlError>,
    ) -> Result<Option<T>, SqlError>;

    /// The first row, which must be there.
    fn one<T>(
        &self,
        text: &str,
        given: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        self.first(text, given, read)?.ok_or(SqlError::RowNotFound)
    }

    /// The first column of the first row, which must be there.
    fn value<T: FromSql>(&self, text: &str, given: impl Params) -> Result<T, SqlError> {
        self.one(text, given, |row| Ok(row.get(0)?))
    }

    /// The first column of all rows.
    fn values<T: FromSql>(&self, text: &str, given: impl Params) -> Result<Vec<T>, SqlError> {
        self.all(text, given, |row| Ok(row.get(0)?))
    }
}

impl Statements for Connection {
    fn exec(&self, text: &str, given: impl Params) -> Result<u64, SqlError> {
        Ok(self.prepare_cached(text)?.execute(given)? as u64)
    }

    fn all<T>(
        &self,
        text: &str,
        given: impl Params,
        read: impl FnMut(&Row<'_>) -> Result<T, SqlError>,
    ) -> Result<Vec<T>, SqlError> {
        self.prepare_cached(text)?.query_and_then(given, read)?.collect()
    }

    fn first<T>(
        &self,
        text: &str,
        given: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T, SqlError>,
    ) -> Result<Option<T>, SqlError> {
        let mut statement = self.prepare_cached(text)?;
        let mut rows = statement.query(given)?;
        rows.next()?.map(read).transpose()
    }
}
