//! `sys_crontab` in MySQL and MariaDB.

use async_trait::async_trait;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{ConnectOptions, Executor};

use super::store::{Row, Store, TableError, in_time, row_of};
use crate::source::settings::Server;

const SELECT: &str = "SELECT CAST(`id` AS CHAR), CAST(`name` AS CHAR), CAST(`type` AS CHAR), CAST(`spec` AS CHAR), \
     CAST(`payload` AS CHAR), CAST(`status` AS CHAR) FROM `sys_crontab` ORDER BY `id` LIMIT 10001";
const PROBE: &str = "SELECT 1 FROM `sys_crontab` LIMIT 1";
const MIGRATION: &str = include_str!("../../../../migrations/mysql/0001_sys_crontab.sql");
/// SQLSTATE "base table or view not found".
const MISSING: &str = "42S02";

/// A MySQL or MariaDB server.
pub struct MySql {
    options: MySqlConnectOptions,
    connection: Option<MySqlConnection>,
}

impl MySql {
    /// Not connected yet.
    pub fn new(server: &Server) -> Self {
        let options = MySqlConnectOptions::new()
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
    async fn connection(&mut self) -> Result<MySqlConnection, TableError> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => self.options.connect().await.map_err(|e| error(&e)),
        }
    }
}

fn error(error: &sqlx::Error) -> TableError {
    TableError::of(error, MISSING)
}

async fn make(connection: &mut MySqlConnection) -> Result<bool, TableError> {
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
impl Store for MySql {
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
