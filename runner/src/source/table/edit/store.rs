//! What editing needs from a database, and what may go wrong with a write. Each database has a file of its own.

use async_trait::async_trait;

use crate::source::table::columns::Column;
use crate::source::table::statement::SqlDialect;
use crate::source::table::store::{TableError, TableRow};

/// Columns that are given a value; `None` leaves one as it is, in a new row at its default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowValues {
    /// The label.
    pub name: Option<String>,
    /// The task type.
    pub kind: Option<String>,
    /// The cron text.
    pub spec: Option<String>,
    /// The payload with its options; the inner `None` is NULL.
    pub payload: Option<Option<String>>,
    /// On or off.
    pub status: Option<bool>,
}

/// Why a write has failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// It was not sent, or others hold the row.
    #[error("nothing was written, the table cannot be reached now: {0}")]
    Unreachable(TableError),
    /// The user has no right to it, or the server only reads.
    #[error("the database refuses the write: {0}")]
    Forbidden(String),
    /// The values do not fit the table.
    #[error("the table does not take these values: {0}")]
    Rejected(String),
    /// It was sent, and no answer came.
    #[error("it is not known whether it was written: {0}")]
    Unknown(String),
}

/// The rows of a database, one at a time. Each call takes five seconds at most.
#[async_trait]
pub trait RowStore: Send {
    /// The row of this id, in a table without a key at most two of several.
    async fn rows_of(&mut self, id: &str) -> Result<Vec<TableRow>, TableError>;

    /// Changes a row if all that was read of it is still the same. Returns whether it did.
    async fn update(&mut self, before: &TableRow, values: &RowValues) -> Result<bool, WriteError>;

    /// Adds a row. Returns its id, if the database returns it.
    async fn insert(&mut self, id: Option<&str>, values: &RowValues) -> Result<Option<String>, WriteError>;

    /// Removes a row, or marks it as deleted where the table has a column for that, if all that was read of it is
    /// still the same. Returns whether it did.
    async fn delete(&mut self, before: &TableRow) -> Result<bool, WriteError>;

    /// Ends the connection.
    async fn close(&mut self);
}

/// What a driver reports of a write.
pub trait ChangeResult {
    /// How many rows it met.
    fn rows(&self) -> u64;

    /// The id that a new row was given, where the statement itself cannot return it.
    fn new_id(&self) -> Option<String> {
        None
    }
}

/// The most that a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Longest {
    /// In characters.
    Characters(usize),
    /// In bytes.
    Bytes(usize),
}

/// Expressions of one database that write. Values are part of the statement: nothing is prepared, so that a proxy may send
/// each statement to another server.
pub trait ChangeWords: SqlDialect {
    /// A text without NUL as a literal.
    fn literal(&self, text: &str) -> String;

    /// Bytes as a literal.
    fn bytes_literal(&self, bytes: &[u8]) -> String;

    /// The condition that an expression is this text, to the byte.
    fn same(&self, expression: &str, text: &str) -> String;

    /// A condition that holds for the row of this id and can use an index, so that a write locks no other row.
    fn indexed_id(&self, column: &Column, id: &str) -> Option<String>;

    /// The value of the status column.
    fn switch(&self, column: &Column, on: bool) -> String;

    /// The present time, for columns that hold one.
    fn now(&self, column: &Column) -> Option<String>;

    /// The mark of a deleted row, if one is known for columns of this type.
    fn deletion_mark(&self, column: &Column) -> Option<String>;

    /// What the column holds, where the database may cut longer texts instead of refusing them.
    fn longest(&self, _: &Column) -> Option<Longest> {
        None
    }

    /// Whether a statement that inserts can return the id.
    fn returns_ids(&self) -> bool;
}
