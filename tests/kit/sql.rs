//! Databases of the SQL servers: one for each test, and statements sent to it from outside the program.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, Connection, MySqlConnection, PgConnection, Row};

use super::nursery::Child;

/// Which kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// MariaDB, by the MySQL protocol.
    MariaDb,
    /// PostgreSQL.
    Postgres,
}

/// A running server.
#[derive(Debug)]
pub struct SqlServer {
    dialect: Dialect,
    /// Its port on 127.0.0.1.
    pub port: u16,
    child: Child,
    next: AtomicU32,
}

impl SqlServer {
    pub(super) fn new(dialect: Dialect, port: u16, child: Child) -> Self {
        Self {
            dialect,
            port,
            child,
            next: AtomicU32::new(0),
        }
    }

    /// A new empty database.
    pub async fn fresh_db(&self) -> SqlDb {
        let name = format!("t{}", self.next.fetch_add(1, Ordering::Relaxed));
        self.create_db(&name).await
    }

    /// A new empty database of this name.
    pub async fn create_db(&self, name: &str) -> SqlDb {
        let home = match self.dialect {
            Dialect::MariaDb => "mysql",
            Dialect::Postgres => "postgres",
        };
        let db = SqlDb {
            dialect: self.dialect,
            port: self.port,
            name: home.to_owned(),
        };
        db.execute(&format!("CREATE DATABASE {name}")).await;
        SqlDb {
            name: name.to_owned(),
            ..db
        }
    }

    /// The process, for signals and its log.
    pub fn child(&self) -> &Child {
        &self.child
    }
}

/// One database of a server.
#[derive(Debug, Clone)]
pub struct SqlDb {
    /// Which kind of server.
    pub dialect: Dialect,
    /// Port on 127.0.0.1.
    pub port: u16,
    /// Name of the database.
    pub name: String,
}

impl SqlDb {
    /// Who may log in.
    pub fn user(&self) -> &'static str {
        match self.dialect {
            Dialect::MariaDb => "root",
            Dialect::Postgres => "postgres",
        }
    }

    /// `mysql://…` or `postgres://…`.
    pub fn url(&self) -> String {
        let scheme = match self.dialect {
            Dialect::MariaDb => "mysql",
            Dialect::Postgres => "postgres",
        };
        format!(
            "{scheme}://{user}:root@127.0.0.1:{}/{}",
            self.port,
            self.name,
            user = self.user()
        )
    }

    /// Runs statements, separated by `;`.
    ///
    /// # Panics
    ///
    /// With the statement and the error.
    pub async fn execute(&self, sql: &str) {
        self.try_execute(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}\n{error}"));
    }

    /// The first column of every row, as text; `NULL` as nothing.
    pub async fn column(&self, sql: &str) -> Vec<Option<String>> {
        let statement = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self.dialect {
            Dialect::MariaDb => {
                let mut connection = MySqlConnection::connect(&self.url())
                    .await
                    .expect("the test's database");
                let rows = statement
                    .fetch_all(&mut connection)
                    .await
                    .unwrap_or_else(|error| panic!("{sql}\n{error}"));
                rows.iter()
                    .map(|row| row.try_get_unchecked(0).expect("a text column"))
                    .collect()
            }
            Dialect::Postgres => {
                let mut connection = PgConnection::connect(&self.url()).await.expect("the test's database");
                let rows = statement
                    .fetch_all(&mut connection)
                    .await
                    .unwrap_or_else(|error| panic!("{sql}\n{error}"));
                rows.iter()
                    .map(|row| row.try_get_unchecked(0).expect("a text column"))
                    .collect()
            }
        }
    }

    async fn try_execute(&self, sql: &str) -> sqlx::Result<()> {
        let statement = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self.dialect {
            Dialect::MariaDb => {
                let mut connection = MySqlConnection::connect(&self.url()).await?;
                statement.execute(&mut connection).await?;
                connection.close().await
            }
            Dialect::Postgres => {
                let mut connection = PgConnection::connect(&self.url()).await?;
                statement.execute(&mut connection).await?;
                connection.close().await
            }
        }
    }
}
