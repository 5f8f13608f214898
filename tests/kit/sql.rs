//! Databases: one for each test, and statements sent to it from outside the program.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, MySqlConnection, PgConnection, Row};

use super::children::Child;

/// Which kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// MariaDB, by the MySQL protocol.
    MariaDb,
    /// PostgreSQL.
    Postgres,
    /// A SQLite file.
    Sqlite,
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
            Dialect::MariaDb => self.db("mysql"),
            _ => self.db("postgres"),
        };
        home.execute(&format!("CREATE DATABASE {name}")).await;
        self.db(name)
    }

    fn db(&self, name: &str) -> SqlDb {
        SqlDb {
            dialect: self.dialect,
            port: self.port,
            name: name.to_owned(),
        }
    }

    /// The process, for signals and its log.
    pub fn child(&self) -> &Child {
        &self.child
    }
}

/// One database.
#[derive(Debug, Clone)]
pub struct SqlDb {
    /// Which kind.
    pub dialect: Dialect,
    /// Port on 127.0.0.1; 0 for a file.
    pub port: u16,
    /// Name of the database, or path of the file.
    pub name: String,
}

impl SqlDb {
    /// The database in this file, which the program creates.
    pub fn file(path: &Path) -> Self {
        Self {
            dialect: Dialect::Sqlite,
            port: 0,
            name: path.display().to_string(),
        }
    }

    /// The user, with the password `root`.
    pub fn user(&self) -> &'static str {
        match self.dialect {
            Dialect::MariaDb => "root",
            Dialect::Postgres => "postgres",
            Dialect::Sqlite => "",
        }
    }

    /// `mysql://…`, `postgres://…` or `sqlite:…`.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The same database through another port, such as that of a [`super::Forward`].
    pub fn url_at(&self, port: u16) -> String {
        let scheme = match self.dialect {
            Dialect::MariaDb => "mysql",
            Dialect::Postgres => "postgres",
            Dialect::Sqlite => return format!("sqlite:{}", self.name),
        };
        format!("{scheme}://{}:root@127.0.0.1:{port}/{}", self.user(), self.name)
    }

    /// Runs statements, separated by `;`.
    ///
    /// # Panics
    ///
    /// With the statement and the error.
    pub async fn execute(&self, sql: &str) {
        self.column(sql).await;
    }

    /// The first column of every row, as text; `NULL` is the empty text.
    ///
    /// # Panics
    ///
    /// With the statement and the error.
    pub async fn column(&self, sql: &str) -> Vec<Option<String>> {
        let found = match self.dialect {
            Dialect::MariaDb => self.mariadb(sql).await,
            Dialect::Postgres => self.postgres(sql).await,
            Dialect::Sqlite => self.sqlite(sql).await,
        };
        found.unwrap_or_else(|error| panic!("{sql}\n{error}"))
    }

    async fn mariadb(&self, sql: &str) -> sqlx::Result<Vec<Option<String>>> {
        let mut connection = MySqlConnection::connect(&self.url()).await?;
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&mut connection)
            .await?;
        connection.close().await?;
        rows.iter().map(|row| row.try_get_unchecked(0)).collect()
    }

    async fn postgres(&self, sql: &str) -> sqlx::Result<Vec<Option<String>>> {
        let mut connection = PgConnection::connect(&self.url()).await?;
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&mut connection)
            .await?;
        connection.close().await?;
        rows.iter().map(|row| row.try_get_unchecked(0)).collect()
    }

    async fn sqlite(&self, sql: &str) -> sqlx::Result<Vec<Option<String>>> {
        let options: sqlx::sqlite::SqliteConnectOptions = self.url().parse()?;
        let mut connection = options.connect().await?;
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&mut connection)
            .await?;
        connection.close().await?;
        rows.iter().map(|row| row.try_get_unchecked(0)).collect()
    }
}
