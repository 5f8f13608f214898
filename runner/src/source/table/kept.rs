//! One connection to whatever database, kept between readings; what each says differently is a [`Dialect`].

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{ColumnIndex, ConnectOptions, Connection, Database, Decode, Executor, Type};
use tokio::time::Instant;

use super::store::{Row, Store, TableError, in_time, row_of};
use crate::source::settings::Login;

/// What a database is asked, in its own words.
pub struct Dialect {
    /// The six columns as text, ordered by id, one row more than [`super::store::MAX_ROWS`] at most.
    pub select: &'static str,
    /// Succeeds if there is a table.
    pub probe: &'static str,
    /// Makes the table.
    pub migration: &'static str,
    /// The database's code for "no such table".
    pub missing: &'static str,
    /// Whether reading makes the table if there is none.
    pub makes_table: bool,
}

impl Dialect {
    fn error(&self, error: &sqlx::Error) -> TableError {
        TableError::of(error, self.missing)
    }

    /// Makes the table if there is none; whether it did.
    async fn make<D: Database>(&self, connection: &mut D::Connection) -> Result<bool, TableError>
    where
        for<'c> &'c mut D::Connection: Executor<'c, Database = D>,
    {
        let probed = connection.execute(sqlx::raw_sql(self.probe)).await;
        match probed.map_err(|e| self.error(&e)) {
            Err(TableError::NoTable) => (),
            other => return other.map(|_| false),
        }
        let made = connection.execute(sqlx::raw_sql(self.migration)).await;
        made.map(|_| true).map_err(|e| self.error(&e))
    }
}

/// A database with at most one connection, so that any bound on connections holds.
///
/// After any error or timeout nobody knows what a connection still has to say, so a new one is made.
pub struct Kept<D: Database> {
    dialect: &'static Dialect,
    options: Options<D>,
    login: Option<(Login, Enter<D>)>,
    max_age: Option<Duration>,
    connection: Option<(D::Connection, Instant)>,
}

/// Adds account and password to the options of a connection.
type Enter<D> = fn(Options<D>, (String, String)) -> Options<D>;
type Options<D> = <<D as Database>::Connection as Connection>::Options;

impl<D: Database> Kept<D> {
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

    /// Each connection asks `login` who it is.
    pub fn with_login(self, login: Login, enter: Enter<D>) -> Self {
        let login = Some((login, enter));
        Self { login, ..self }
    }

    /// Takes the connection out, to be put back only after it answered.
    async fn connection(&mut self) -> Result<(D::Connection, Instant), TableError> {
        match self.connection.take() {
            Some((old, since)) if self.max_age.is_some_and(|age| since.elapsed() >= age) => {
                if let Err(error) = old.close().await {
                    tracing::debug!(%error, "an old connection did not say goodbye");
                }
            }
            Some(connection) => return Ok(connection),
            None => (),
        }
        let options = match &self.login {
            Some((login, enter)) => enter(self.options.clone(), login.now().await.map_err(TableError::Login)?),
            None => self.options.clone(),
        };
        let connection = options.connect().await.map_err(|e| self.dialect.error(&e))?;
        Ok((connection, Instant::now()))
    }
}

#[async_trait]
impl<D> Store for Kept<D>
where
    D: Database,
    for<'c> &'c mut D::Connection: Executor<'c, Database = D>,
    usize: ColumnIndex<D::Row>,
    for<'r> Option<String>: Decode<'r, D> + Type<D>,
{
    async fn rows(&mut self) -> Result<Vec<Row>, TableError> {
        in_time(async {
            let (mut connection, since) = self.connection().await?;
            if self.dialect.makes_table {
                self.dialect.make(&mut connection).await?;
            }
            let rows = connection.fetch_all(sqlx::raw_sql(self.dialect.select)).await;
            let rows = rows.map_err(|e| self.dialect.error(&e))?;
            self.connection = Some((connection, since));
            Ok(rows.iter().map(row_of).collect())
        })
        .await
    }

    async fn migrate(&mut self) -> Result<bool, TableError> {
        in_time(async {
            let (mut connection, _) = self.connection().await?;
            self.dialect.make(&mut connection).await
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

    /// How many rows are seen again after one was added; a store in memory ends with its connection.
    async fn seen_again(max_age: Option<Duration>) -> usize {
        let mut kept = Kept::<Sqlite>::new(&DIALECT, SqliteConnectOptions::new().in_memory(true), max_age);
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
