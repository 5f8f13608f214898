//! `sys_crontab` in a SQLite file, most often the one of the embedded broker. Makes the table itself.

use std::path::Path;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Executor};

use super::store::{Row, Store, TIMEOUT, TableError, in_time, row_of};

const SELECT: &str = "SELECT CAST(id AS TEXT), CAST(name AS TEXT), CAST(type AS TEXT), CAST(spec AS TEXT), \
     CAST(payload AS TEXT), CAST(status AS TEXT) FROM sys_crontab ORDER BY sys_crontab.id LIMIT 10001";
const PROBE: &str = "SELECT 1 FROM sys_crontab LIMIT 1";
const MIGRATION: &str = include_str!("../../../../migrations/sqlite/0100_sys_crontab.sql");

/// A SQLite file.
pub struct Sqlite {
    options: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
}

impl Sqlite {
    /// Not opened yet.
    pub fn new(path: &Path) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(TIMEOUT)
            .disable_statement_logging();
        Self {
            options,
            connection: None,
        }
    }

    /// Takes the connection out: it is put back only after it answered, as after an error or a timeout nobody
    /// knows what it still has to say.
    async fn connection(&mut self) -> Result<SqliteConnection, TableError> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => self.options.connect().await.map_err(|e| error(&e)),
        }
    }
}

fn error(error: &sqlx::Error) -> TableError {
    // SQLite has no code of its own for a missing table; its message is recognised.
    TableError::of(error, "")
}

async fn make(connection: &mut SqliteConnection) -> Result<bool, TableError> {
    match connection.execute(sqlx::raw_sql(PROBE)).await.map_err(|e| error(&e)) {
        Err(TableError::NoTable) => (),
        other => return other.map(|_| false),
    }
    connection
        .execute(sqlx::raw_sql(MIGRATION))
        .await
        .map_err(|e| error(&e))?;
    Ok(true)
}

#[async_trait]
impl Store for Sqlite {
    async fn rows(&mut self) -> Result<Vec<Row>, TableError> {
        in_time(async {
            let mut connection = self.connection().await?;
            make(&mut connection).await?;
            let rows = connection
                .fetch_all(sqlx::raw_sql(SELECT))
                .await
                .map_err(|e| error(&e))?;
            self.connection = Some(connection);
            Ok(rows.iter().map(row_of).collect())
        })
        .await
    }

    async fn migrate(&mut self) -> Result<bool, TableError> {
        in_time(async { make(&mut self.connection().await?).await }).await
    }
}
