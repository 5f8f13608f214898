//! One connection to any of the databases, kept between readings; their differences are in a [`Dialect`].

use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use sqlx::error::DatabaseError;
use sqlx::{AssertSqlSafe, ColumnIndex, ConnectOptions, Connection, Database, Decode, Executor, Type};
use tokio::time::Instant;

use super::columns::{Column, Columns};
use super::edit::ChangeWords;
use super::reading::{self, Budget};
use super::statement;
use super::store::{Store, TableError, TableRow, in_time};
use crate::source::settings::DatabaseLogin;

/// How long a connection that was idle may take for its first answer: one that a proxy or a firewall has silently
/// dropped never answers, and the rest of the time is for a new one.
const FIRST_ANSWER: Duration = Duration::from_secs(2);

/// How long closing an old connection may take.
const FAREWELL: Duration = Duration::from_millis(500);

/// The statements of a database.
pub struct Dialect {
    /// The names and types of all columns; none, or an error, if there is no table.
    pub columns: &'static str,
    /// The expressions of the statements that read rows.
    pub words: &'static dyn ChangeWords,
    /// Creates the table.
    pub migration: &'static str,
    /// The database's code for "no such table".
    pub missing: &'static str,
    /// Whether an error of a write says that the user, or the server, may not write.
    pub forbidden: fn(&dyn DatabaseError) -> bool,
    /// Whether an error of a write says that others hold the row or that there is no room: it can be repeated.
    pub busy: fn(&dyn DatabaseError) -> bool,
    /// Whether reading creates a missing table.
    pub makes_table: bool,
}

impl Dialect {
    /// What a driver's error means for a reading.
    pub fn error(&self, error: &sqlx::Error) -> TableError {
        TableError::of(error, self.missing)
    }
}

/// A database with at most one connection, so that any bound on connections holds.
///
/// After an error or timeout the state of a connection is unknown, so a new one is made.
pub struct TableConnection<D: Database> {
    dialect: &'static Dialect,
    options: Options<D>,
    login: Option<(DatabaseLogin, Enter<D>)>,
    max_age: Option<Duration>,
    connection: Option<(D::Connection, Instant)>,
}

/// A connection that has just answered.
pub struct Answering<D: Database> {
    /// Over which statements are sent.
    pub connection: D::Connection,
    since: Instant,
}

/// Adds account and password to the options of a connection.
type Enter<D> = fn(Options<D>, (String, String)) -> Options<D>;
type Options<D> = <<D as Database>::Connection as Connection>::Options;

impl<D: Database> TableConnection<D> {
    /// Not connected yet. A connection older than `max_age` is not used again.
    pub fn new(dialect: &'static Dialect, options: Options<D>, max_age: Option<Duration>) -> Self {
        Self {
            dialect,
            options,
            login: None,
            max_age,
            connection: None,
        }
    }

    /// Each connection asks `login` for account and password.
    pub fn with_login(self, login: DatabaseLogin, enter: Enter<D>) -> Self {
        let login = Some((login, enter));
        Self { login, ..self }
    }

    /// Takes the connection of the last reading, if it may be used again.
    async fn old(&mut self) -> Option<(D::Connection, Instant)> {
        let (old, since) = self.connection.take()?;
        if self.max_age.is_none_or(|age| since.elapsed() < age) {
            return Some((old, since));
        }
        if let Ok(Err(error)) = tokio::time::timeout(FAREWELL, old.close()).await {
            tracing::debug!(%error, "an old connection was not closed cleanly");
        }
        None
    }

    async fn connect(&mut self) -> Result<(D::Connection, Instant), TableError> {
        let options = match &self.login {
            Some((login, enter)) => enter(self.options.clone(), login.now().await.map_err(TableError::Login)?),
            None => self.options.clone(),
        };
        let connection = options.connect().await.map_err(|e| self.dialect.error(&e))?;
        Ok((connection, Instant::now()))
    }
}

/// The requests over a connection. It has no state between statements: a proxy may pass each one to another server
/// connection. For the same reason nothing is prepared.
struct PendingRead<'c, D: Database> {
    dialect: &'static Dialect,
    connection: &'c mut D::Connection,
}

impl<D> PendingRead<'_, D>
where
    D: Database,
    for<'c> &'c mut D::Connection: Executor<'c, Database = D>,
    usize: ColumnIndex<D::Row>,
    for<'r> Option<String>: Decode<'r, D> + Type<D>,
{
    /// The columns of the table.
    async fn columns(&mut self) -> Result<Vec<Column>, TableError> {
        let found = self.connection.fetch_all(sqlx::raw_sql(self.dialect.columns)).await;
        let found = found.map_err(|e| self.dialect.error(&e))?;
        match found.is_empty() {
            true => Err(TableError::NoTable),
            false => Ok(found.iter().filter_map(reading::column).collect()),
        }
    }

    /// Creates the table if it is missing. Returns whether it did.
    async fn make(&mut self) -> Result<bool, TableError> {
        match self.columns().await {
            Err(TableError::NoTable) => (),
            other => return other.map(|_| false),
        }
        let made = self.connection.execute(sqlx::raw_sql(self.dialect.migration)).await;
        made.map(|_| true).map_err(|e| self.dialect.error(&e))
    }

    /// The columns, of a table that is created first if reading creates it.
    async fn columns_to_read(&mut self) -> Result<Columns, TableError> {
        let mut columns = self.columns().await;
        if columns == Err(TableError::NoTable) && self.dialect.makes_table {
            self.make().await?;
            columns = self.columns().await;
        }
        Columns::of(&columns?)
    }

    /// Reads the rows. The amount of text is read first, so that more than the bound is never sent.
    async fn read(&mut self, columns: &Columns) -> Result<Vec<TableRow>, TableError> {
        let words = self.dialect.words;
        let sizes = self
            .connection
            .fetch_all(sqlx::raw_sql(AssertSqlSafe(statement::sizes(words, columns))));
        let sizes = sizes.await.map_err(|e| self.dialect.error(&e))?;
        let first = reading::first(sizes.iter().map(reading::number));
        let mut budget = Budget::default();
        let mut rows = Vec::new();
        let text = statement::rows(words, columns, first);
        self.take(text, |row| rows.push(budget.grant(reading::row(row, columns))))
            .await?;
        if let Some(first) = first {
            let text = statement::heads(words, columns, first);
            self.take(text, |row| rows.push(reading::row(row, columns).beyond()))
                .await?;
        }
        Ok(rows)
    }

    /// Passes on row by row, so that rows that are not kept take no memory.
    async fn take(&mut self, statement: String, mut take: impl FnMut(&D::Row) + Send) -> Result<(), TableError> {
        let dialect = self.dialect;
        let mut found = self.connection.fetch(sqlx::raw_sql(AssertSqlSafe(statement)));
        while let Some(row) = found.try_next().await.map_err(|e| dialect.error(&e))? {
            take(&row);
        }
        Ok(())
    }
}

impl<D> TableConnection<D>
where
    D: Database,
    for<'c> &'c mut D::Connection: Executor<'c, Database = D>,
    usize: ColumnIndex<D::Row>,
    for<'r> Option<String>: Decode<'r, D> + Type<D>,
{
    fn ask<'c>(&self, connection: &'c mut D::Connection) -> PendingRead<'c, D> {
        PendingRead {
            dialect: self.dialect,
            connection,
        }
    }

    /// The statements of the database.
    pub fn dialect(&self) -> &'static Dialect {
        self.dialect
    }

    /// A connection that has just answered, and the columns of the table.
    ///
    /// # Errors
    ///
    /// There is none, or the table cannot be used.
    pub async fn answering(&mut self) -> Result<(Answering<D>, Columns), TableError> {
        if let Some((mut connection, since)) = self.old().await {
            let mut asked = self.ask(&mut connection);
            if let Ok(Ok(columns)) = tokio::time::timeout(FIRST_ANSWER, asked.columns_to_read()).await {
                return Ok((Answering { connection, since }, columns));
            }
        }
        let (mut connection, since) = self.connect().await?;
        let columns = self.ask(&mut connection).columns_to_read().await?;
        Ok((Answering { connection, since }, columns))
    }

    /// Uses this connection again; not after an error.
    pub fn keep(&mut self, answering: Answering<D>) {
        self.connection = Some((answering.connection, answering.since));
    }

    /// Ends the connection, if there is one.
    pub async fn close(&mut self) {
        if let Some((connection, _)) = self.connection.take() {
            // The server notices the end in any case.
            let _ended = tokio::time::timeout(FAREWELL, connection.close()).await;
        }
    }

    /// Reads over the connection of the last reading; `None` if there is none or it has ended meanwhile.
    async fn again(&mut self) -> Option<Result<Vec<TableRow>, TableError>> {
        let (mut connection, since) = self.old().await?;
        let mut asked = self.ask(&mut connection);
        let columns = match tokio::time::timeout(FIRST_ANSWER, asked.columns_to_read()).await {
            Ok(Ok(columns)) => columns,
            Ok(Err(error @ (TableError::NoTable | TableError::NoColumn { .. }))) => return Some(Err(error)),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the connection to the database has ended; a new one is made");
                return None;
            }
            Err(_) => {
                tracing::debug!("the connection to the database does not answer; a new one is made");
                return None;
            }
        };
        match asked.read(&columns).await {
            Ok(rows) => {
                self.connection = Some((connection, since));
                Some(Ok(rows))
            }
            // It may just have ended, or the table was altered between two statements.
            Err(error) => {
                tracing::debug!(%error, "the table is read again over a new connection");
                None
            }
        }
    }
}

#[async_trait]
impl<D> Store for TableConnection<D>
where
    D: Database,
    for<'c> &'c mut D::Connection: Executor<'c, Database = D>,
    usize: ColumnIndex<D::Row>,
    for<'r> Option<String>: Decode<'r, D> + Type<D>,
{
    async fn rows(&mut self) -> Result<Vec<TableRow>, TableError> {
        in_time(async {
            if let Some(read) = self.again().await {
                return read;
            }
            let (mut connection, since) = self.connect().await?;
            let mut asked = self.ask(&mut connection);
            let columns = asked.columns_to_read().await?;
            let rows = asked.read(&columns).await?;
            self.connection = Some((connection, since));
            Ok(rows)
        })
        .await
    }

    async fn migrate(&mut self) -> Result<bool, TableError> {
        in_time(async {
            let (mut connection, _) = self.connect().await?;
            self.ask(&mut connection).make().await
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::source::table::sqlite::DIALECT;
    use sqlx::Sqlite;
    use sqlx::sqlite::SqliteConnectOptions;

    /// How many rows are found after one was added; a store in memory ends with its connection.
    async fn seen_again(max_age: Option<Duration>) -> usize {
        let mut kept = TableConnection::<Sqlite>::new(&DIALECT, SqliteConnectOptions::new().in_memory(true), max_age);
        assert!(kept.rows().await.unwrap().is_empty());
        let (connection, _) = kept.connection.as_mut().unwrap();
        let insert = "INSERT INTO sys_crontab (name, type, spec) VALUES ('n', 't', '@daily')";
        connection.execute(sqlx::raw_sql(insert)).await.unwrap();
        kept.rows().await.unwrap().len()
    }

    #[tokio::test]
    async fn a_connection_is_kept_until_it_is_old() {
        assert_eq!(seen_again(None).await, 1);
        assert_eq!(seen_again(Some(Duration::from_secs(3600))).await, 1);
        assert_eq!(seen_again(Some(Duration::ZERO)).await, 0);
    }
}
