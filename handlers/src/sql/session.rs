//! One connection to any of the databases: the same steps for all, each in the words of its own.

use runner_core::function::SqlSpec;
use sqlx::mysql::MySqlConnection;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Executor};

use super::failure::Failure;
use super::rows::ResultRows;
use super::statement::{BoundStatement, Changed};
use super::{mysql, postgres, sqlite};

/// A connection, and how to cancel what it does.
pub(super) enum Session {
    MySql(MySqlConnection, mysql::MySqlCanceller),
    Postgres(PgConnection, postgres::PostgresCanceller),
    Sqlite(SqliteConnection, sqlite::SqliteCanceller),
}

/// Cancels the statement of a session.
pub(super) enum Canceller {
    MySql(mysql::MySqlCanceller),
    Postgres(postgres::PostgresCanceller),
    Sqlite(sqlite::SqliteCanceller),
}

impl Session {
    /// Connects to the database of this URL.
    pub(super) async fn open(url: &str, spec: &SqlSpec) -> Result<Self, Failure> {
        let scheme = url.split(':').next().unwrap_or_default();
        match scheme {
            "mysql" | "mariadb" => mysql::open(url).await.map(|(c, k)| Self::MySql(c, k)),
            "postgres" | "postgresql" => postgres::open(url).await.map(|(c, k)| Self::Postgres(c, k)),
            "sqlite" => sqlite::open(url, spec).await.map(|(c, k)| Self::Sqlite(c, k)),
            // The rest may hold a password.
            _ => Err(Failure::Sql(sqlx::Error::Configuration(
                "the URL must begin with mysql://, mariadb://, postgres:// or sqlite:".into(),
            ))),
        }
    }

    pub(super) fn canceller(&self) -> Canceller {
        match self {
            Self::MySql(_, canceller) => Canceller::MySql(canceller.clone()),
            Self::Postgres(_, canceller) => Canceller::Postgres(canceller.clone()),
            Self::Sqlite(_, canceller) => Canceller::Sqlite(canceller.clone()),
        }
    }

    /// Begins the transaction.
    pub(super) async fn begin(&mut self, spec: &SqlSpec) -> Result<(), Failure> {
        let statement = match (&self, spec.read_only) {
            (Self::MySql(..), true) => "START TRANSACTION READ ONLY",
            (Self::MySql(..), false) => "START TRANSACTION",
            (Self::Postgres(..), true) => "BEGIN READ ONLY",
            (Self::Postgres(..), false) => "BEGIN",
            (Self::Sqlite(..), true) => "BEGIN",
            // A transaction that reads before it writes could not wait for another writer.
            (Self::Sqlite(..), false) => "BEGIN IMMEDIATE",
        };
        self.end(statement).await
    }

    /// A statement of our own, without parameters and result.
    pub(super) async fn end(&mut self, statement: &'static str) -> Result<(), Failure> {
        match self {
            Self::MySql(connection, _) => connection.execute(statement).await.map(|_| ())?,
            Self::Postgres(connection, _) => connection.execute(statement).await.map(|_| ())?,
            Self::Sqlite(connection, _) => connection.execute(statement).await.map(|_| ())?,
        }
        Ok(())
    }

    /// Runs a statement for what it changes.
    pub(super) async fn execute(&mut self, statement: &BoundStatement<'_>) -> Result<Changed, Failure> {
        match self {
            Self::MySql(connection, _) => mysql::execute(connection, statement).await,
            Self::Postgres(connection, _) => postgres::execute(connection, statement).await,
            Self::Sqlite(connection, _) => sqlite::execute(connection, statement).await,
        }
    }

    /// Runs a statement for its rows.
    pub(super) async fn query(&mut self, statement: &BoundStatement<'_>, max_rows: u32) -> Result<ResultRows, Failure> {
        match self {
            Self::MySql(connection, _) => mysql::query(connection, statement, max_rows).await,
            Self::Postgres(connection, _) => postgres::query(connection, statement, max_rows).await,
            Self::Sqlite(connection, _) => sqlite::query(connection, statement, max_rows).await,
        }
    }

    /// Says goodbye; a connection that cannot is closed anyway.
    pub(super) async fn close(self) {
        match self {
            Self::MySql(connection, _) => drop(connection.close().await),
            Self::Postgres(connection, _) => drop(connection.close().await),
            Self::Sqlite(connection, _) => drop(connection.close().await),
        }
    }
}

impl Canceller {
    pub(super) async fn cancel(self) -> Result<(), sqlx::Error> {
        match self {
            Self::MySql(canceller) => canceller.cancel().await,
            Self::Postgres(canceller) => canceller.cancel().await,
            Self::Sqlite(canceller) => {
                canceller.cancel();
                Ok(())
            }
        }
    }
}
