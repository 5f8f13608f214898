//! What the table needs of a database, and what goes wrong there. One file for each database beside this one.
//!
//! Every column is read as text, by a cast in the statement: a table that people made themselves may hold
//! other types than ours, and the drivers are strict about them.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{ColumnIndex, Decode, Type};

/// How long connecting and reading may take together.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// The most rows that are read; each enabled one is a schedule that is looked at every second.
pub const MAX_ROWS: usize = 10_000;

/// A column as text; `Err` if it is no text.
pub type Cell = Result<Option<String>, String>;

/// One row as it stands in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The primary key.
    pub id: String,
    /// A label.
    pub name: Cell,
    /// The task type.
    pub kind: Cell,
    /// The cron text.
    pub spec: Cell,
    /// JSON, or nothing.
    pub payload: Cell,
    /// 1 is on.
    pub status: Cell,
}

/// Why the table cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The database answers, and has no such table.
    #[error("table sys_crontab does not exist; `runner migrate` makes it")]
    NoTable,
    /// Account or password stand in a file or a variable, and cannot be read now.
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
    /// From what a driver says; `missing` is the database's code for "no such table".
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

/// A database that may hold the table.
#[async_trait]
pub trait Store: Send {
    /// Every row, ordered by id, one more than [`MAX_ROWS`] at most.
    async fn rows(&mut self) -> Result<Vec<Row>, TableError>;

    /// Makes the table if there is none; whether it did.
    async fn migrate(&mut self) -> Result<bool, TableError>;
}

/// Runs a step of a store within [`TIMEOUT`].
pub async fn in_time<T>(step: impl Future<Output = Result<T, TableError>> + Send) -> Result<T, TableError> {
    tokio::time::timeout(TIMEOUT, step)
        .await
        .unwrap_or(Err(TableError::Timeout))
}

/// Reads the six columns of a row, in the order of the statements.
pub fn row_of<'r, R>(row: &'r R) -> Row
where
    R: sqlx::Row,
    usize: ColumnIndex<R>,
    Option<String>: Decode<'r, R::Database> + Type<R::Database>,
{
    let cell = |index: usize| row.try_get::<Option<String>, usize>(index).map_err(|e| reason(&e));
    Row {
        id: cell(0).ok().flatten().unwrap_or_default(),
        name: cell(1),
        kind: cell(2),
        spec: cell(3),
        payload: cell(4),
        status: cell(5),
    }
}

fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::ColumnDecode { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}
