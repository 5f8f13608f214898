//! `sys_crontab` in PostgreSQL.

use async_trait::async_trait;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Executor};

use super::store::{Row, Store, TableError, in_time, row_of};
use crate::source::settings::Server;

const SELECT: &str = "SELECT id::text, name::text, type::text, spec::text, payload::text, status::text \
     FROM sys_crontab ORDER BY sys_crontab.id LIMIT 10001";
const PROBE: &str = "SELECT 1 FROM sys_crontab LIMIT 1";
const MIGRATION: &str = include_str!("../../../../migrations/postgres/0001_sys_crontab.sql");
/// SQLSTATE "undefined table".
const MISSING: &str = "42P01";

/// A PostgreSQL server.
pub struct Postgres {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
}

impl Postgres {
    /// Not connected yet.
    pub fn new(server: &Server) -> Self {
        let options = PgConnectOptions::new_without_pgpass()
            .username(&server.username)
            .password(&server.password)
            .database(&server.database)
            .disable_statement_logging();
        let options = match server.host.strip_prefix('/') {
            Some(_) => options.socket(&server.host),
            None => options.host(&server.host).port(server.port),
        };
        Self {
            options,
            connection: None,
        }
    }

    /// Takes the connection out: it is put back only after it answered, as after an error or a timeout nobody
    /// knows what it still has to say.
    async fn connection(&mut self) -> Result<PgConnection, TableError> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => self.options.connect().await.map_err(|e| error(&e)),
        }
    }
}

fn error(error: &sqlx::Error) -> TableError {
    TableError::of(error, MISSING)
}

async fn make(connection: &mut PgConnection) -> Result<bool, TableError> {
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
impl Store for Postgres {
    async fn rows(&mut self) -> Result<Vec<Row>, TableError> {
        in_time(async {
            let mut connection = self.connection().await?;
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
