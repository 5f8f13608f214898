//! What the table needs from a database, and its errors. Each database has a file of its own.
//!
//! Every column is read as text, by a cast in the statement: a table that users created themselves may have
//! other types, and the drivers are strict about them. A payload may be bytes.

use std::time::Duration;

use async_trait::async_trait;

/// How long connecting and reading may take together.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// The most rows that are read; each enabled one is a schedule that is checked every second.
pub const MAX_ROWS: usize = 10_000;

/// The most bytes of a payload that are read; larger data belongs in a store, and its name in the payload.
pub const MAX_PAYLOAD: u64 = 1024 * 1024;

/// The most bytes of any other column that are read: what a `text` column of MySQL holds.
pub const MAX_CELL: u64 = 65_535;

/// The most bytes of all rows together: they are held in memory, twice while a reading replaces another.
pub const MAX_TEXT: u64 = 64 * 1024 * 1024;

/// The most characters of an id; it is part of the ids of tasks and of keys.
pub const MAX_ID: usize = 255;

/// A column; `Err` if it was not read.
pub type Cell<T = String> = Result<Option<T>, Unread>;

/// Why a column was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// It contains bytes that are not text.
    #[error("is not text: {0}")]
    NoText(String),
    /// It exceeds its bound.
    #[error("has {bytes} bytes, and at most {most} are read")]
    TooLong {
        /// Its length.
        bytes: u64,
        /// The bound.
        most: u64,
    },
}

/// One row as it is in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRow {
    /// The primary key; bytes as hexadecimal digits.
    pub id: String,
    /// A label.
    pub name: Cell,
    /// The task type.
    pub kind: Cell,
    /// The cron text.
    pub spec: Cell,
    /// JSON, other bytes, or nothing.
    pub payload: Cell<Vec<u8>>,
    /// 1 is on.
    pub status: Cell,
    /// Why it cannot be used, whatever its columns say.
    pub fault: Option<RowFault>,
}

impl TableRow {
    /// How many bytes its columns have.
    pub fn size(&self) -> u64 {
        let text = |cell: &Cell| cell.as_ref().ok().and_then(Option::as_ref).map_or(0, String::len);
        let payload = self.payload.as_ref().ok().and_then(Option::as_ref).map_or(0, Vec::len);
        let size: usize = [&self.name, &self.kind, &self.spec, &self.status]
            .map(text)
            .iter()
            .sum();
        (size + payload) as u64
    }
}

/// Why a whole row cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowFault {
    /// It has no id; others may have none either.
    NoId(AmbiguousRows),
    /// Its id cannot be one: longer than [`MAX_ID`], or with control characters.
    OddId,
    /// Others have the same id.
    SameId(AmbiguousRows),
    /// The rows before it reached [`MAX_TEXT`], so its text was not read.
    Beyond,
}

/// Rows that cannot be distinguished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmbiguousRows {
    /// How many.
    pub rows: usize,
    /// The names of the first ones.
    pub names: Vec<String>,
}

/// Why the table cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The database answers, and has no such table.
    #[error("table sys_crontab does not exist; `runner migrate` creates it")]
    NoTable,
    /// The table lacks a column that every row needs.
    #[error("table sys_crontab has no column {missing}; its columns are {there}")]
    NoColumn {
        /// Those that it lacks.
        missing: String,
        /// Those that it has.
        there: String,
    },
    /// Account or password are in a file or a variable that cannot be read now.
    #[error("cannot read the login of the database: {0}")]
    Login(String),
    /// Anything else, in the words of the database.
    #[error("{0}")]
    Database(String),
    /// No answer in time.
    #[error("no answer within {}s", TIMEOUT.as_secs())]
    Timeout,
}

impl TableError {
    /// From a driver's error; `missing` is the database's code for "no such table".
    pub fn of(error: &sqlx::Error, missing: &str) -> Self {
        if let sqlx::Error::Database(database) = error {
            let unknown = database.message().contains("no such table");
            if database.code().is_some_and(|code| code == missing) || unknown {
                return Self::NoTable;
            }
            return Self::Database(database.message().to_owned());
        }
        Self::Database(error.to_string())
    }
}

/// A database that may have the table.
#[async_trait]
pub trait Store: Send {
    /// Every row, ordered by id, one more than [`MAX_ROWS`] at most; an id may come more than once.
    async fn rows(&mut self) -> Result<Vec<TableRow>, TableError>;

    /// Creates the table if it is missing. Returns whether it did.
    async fn migrate(&mut self) -> Result<bool, TableError>;
}

/// Runs a step of a store within [`TIMEOUT`].
pub async fn in_time<T>(step: impl Future<Output = Result<T, TableError>> + Send) -> Result<T, TableError> {
    tokio::time::timeout(TIMEOUT, step)
        .await
        .unwrap_or(Err(TableError::Timeout))
}
