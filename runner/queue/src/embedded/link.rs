//! One connection to the file, and the statements that run over it.
//!
//! A statement holds up the thread that it runs on: the writer has a thread of its own for all of its statements,
//! so that none of them costs a change of threads; what readers ask goes to threads that may wait (`readers`).

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, InterruptHandle, OpenFlags};

use super::cells::{Bound, Cell, Row};
use super::upkeep::LOG_LIMIT;
use crate::BoxError;

/// How long a statement waits for another process that is writing.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The same for the change to a log, which a new file needs once: of two processes that make it at the same time each may
/// hold what the other one needs, and then waiting helps neither. Who gives up tries again with a new connection.
const CREATING_TIMEOUT: Duration = Duration::from_millis(50);

/// Prepared statements kept by each connection; above the number of different ones in this room.
const STATEMENTS: usize = 256;

/// What can go wrong below this room.
#[derive(Debug, thiserror::Error)]
pub(super) enum SqlError {
    /// SQLite's own words.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// A row holds something that this program does not understand.
    #[error("{0}")]
    Decode(BoxError),
    /// A value cannot be written down.
    #[error("{0}")]
    Encode(BoxError),
    /// There should have been a row.
    #[error("a row is missing")]
    RowNotFound,
    /// A write broke down in this program; whoever asked for it asks in vain, the others do not.
    #[error("the program broke down while it wrote this")]
    Panicked,
    /// The file is not the one that was opened.
    #[error("{0}")]
    Replaced(String),
    /// Nobody is there to run the statement: all are busy, or the file is closed.
    #[error("{0}")]
    Gone(&'static str),
}

/// A statement with what it is given.
pub(super) struct Query {
    text: Cow<'static, str>,
    bound: Vec<Bound>,
}

/// Starts a query whose text is fixed.
pub(super) fn sql(text: &'static str) -> Query {
    let text = Cow::Borrowed(text);
    let bound = Vec::new();
    Query { text, bound }
}

/// Starts a query whose text was put together from this room's own constants, never from input.
pub(super) fn built(text: String) -> Query {
    let text = Cow::Owned(text);
    let bound = Vec::new();
    Query { text, bound }
}

/// What a statement that changes rows did.
pub(super) struct Changed(u64);

impl Changed {
    /// How many rows.
    pub(super) fn rows_affected(&self) -> u64 {
        self.0
    }
}

/// Where a statement can run.
pub(super) trait Executor {
    /// Runs it and takes its rows, and how many rows it changed.
    fn run(self, query: Query) -> impl Future<Output = Result<(Vec<Row>, u64), SqlError>> + Send;
}

impl Query {
    /// Gives the next value.
    pub(super) fn bind(mut self, value: impl Into<Bound>) -> Self {
        self.bound.push(value.into());
        self
    }

    /// Runs it for what it does.
    pub(super) async fn execute(self, on: impl Executor) -> Result<Changed, SqlError> {
        let (_, changed) = on.run(self).await?;
        Ok(Changed(changed))
    }

    /// All rows.
    pub(super) async fn fetch_all(self, on: impl Executor) -> Result<Vec<Row>, SqlError> {
        let (rows, _) = on.run(self).await?;
        Ok(rows)
    }

    /// The first row, if there is one.
    pub(super) async fn fetch_optional(self, on: impl Executor) -> Result<Option<Row>, SqlError> {
        let (rows, _) = on.run(self).await?;
        Ok(rows.into_iter().next())
    }

    /// The first row, which must be there.
    pub(super) async fn fetch_one(self, on: impl Executor) -> Result<Row, SqlError> {
        self.fetch_optional(on).await?.ok_or(SqlError::RowNotFound)
    }
}

/// A connection. Whoever runs a statement over it waits, thread and all.
pub(super) struct Link(Connection);

impl Link {
    /// Opens the file, which must exist.
    pub(super) fn open(path: &Path) -> Result<Self, SqlError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let link = Connection::open_with_flags(path, flags)?;
        link.busy_timeout(BUSY_TIMEOUT)?;
        link.set_prepared_statement_cache_capacity(STATEMENTS);
        // One that has pages keeps how it was made.
        if link.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0))? == 0 {
            link.pragma_update(None, "auto_vacuum", "incremental")?;
        }
        let mode: String = link.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
        if mode != "wal" {
            link.busy_timeout(CREATING_TIMEOUT)?;
            link.pragma_update(None, "journal_mode", "wal")?;
            link.busy_timeout(BUSY_TIMEOUT)?;
        }
        link.pragma_update(None, "journal_size_limit", LOG_LIMIT)?;
        link.pragma_update(None, "synchronous", "full")?;
        // What was deleted is not to be read from the file.
        link.pragma_update(None, "secure_delete", true)?;
        Ok(Self(link))
    }

    /// One that cannot write.
    pub(super) fn open_to_read(path: &Path) -> Result<Self, SqlError> {
        let link = Self::open(path)?;
        link.0.pragma_update(None, "query_only", true)?;
        Ok(link)
    }

    /// Runs a statement to its end.
    pub(super) fn ask(&self, query: &Query) -> Result<(Vec<Row>, u64), SqlError> {
        let mut statement = self.0.prepare_cached(&query.text)?;
        for (place, value) in (1..).zip(&query.bound) {
            statement.raw_bind_parameter(place, value)?;
        }
        let width = statement.column_count();
        let mut found = Vec::new();
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            let mut cells = Vec::with_capacity(width);
            for place in 0..width {
                cells.push(Cell::from(row.get_ref(place)?));
            }
            found.push(Row(cells.into()));
        }
        drop(rows);
        Ok((found, self.0.changes()))
    }

    /// The number that a statement answers with.
    pub(super) fn number(&self, text: &'static str) -> Result<i64, SqlError> {
        let (rows, _) = self.ask(&sql(text))?;
        rows.first().ok_or(SqlError::RowNotFound)?.try_get(0)
    }

    /// Does something while statements wait this long for others, instead of as long as usual.
    pub(super) fn with_patience<T>(
        &self,
        patience: Duration,
        what: impl FnOnce() -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        self.0.busy_timeout(patience)?;
        let done = what();
        self.0.busy_timeout(BUSY_TIMEOUT)?;
        done
    }

    /// Several statements that are given nothing.
    pub(super) fn batch(&self, texts: &str) -> Result<(), SqlError> {
        Ok(self.0.execute_batch(texts)?)
    }

    /// Ends a statement that takes too long, from another thread.
    pub(super) fn interrupter(&self) -> InterruptHandle {
        self.0.get_interrupt_handle()
    }

    /// Whether a transaction is open.
    pub(super) fn is_in_transaction(&self) -> bool {
        !self.0.is_autocommit()
    }
}

impl Executor for &mut Link {
    async fn run(self, query: Query) -> Result<(Vec<Row>, u64), SqlError> {
        self.ask(&query)
    }
}
