//! `sys_crontab` in MySQL and MariaDB: dialect and connection.

use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions, MySql};

use super::columns::Column;
use super::connection::{Dialect, TableConnection};
use super::statement::{ByteColumn, SqlDialect};
use crate::source::settings::DatabaseServer;

static DIALECT: Dialect = Dialect {
    columns: "SHOW COLUMNS FROM `sys_crontab`",
    words: &MySqlWords,
    migration: include_str!("../../../migrations/mysql/0001_sys_crontab.sql"),
    // SQLSTATE "base table or view not found".
    missing: "42S02",
    makes_table: false,
};

struct MySqlWords;

impl SqlDialect for MySqlWords {
    fn quoted(&self, name: &str) -> String {
        format!("`{name}`")
    }

    fn cast(&self, expression: &str) -> String {
        format!("CAST({expression} AS CHAR)")
    }

    fn text(&self, column: &Column) -> String {
        let name = self.quoted(&column.name);
        match column.kind.starts_with("bit") {
            // As text a bit is a control character.
            true => self.cast(&format!("{name} + 0")),
            false => self.cast(&name),
        }
    }

    fn size(&self, column: &Column) -> String {
        format!("OCTET_LENGTH({})", self.quoted(&column.name))
    }

    fn bytes(&self, column: &Column) -> ByteColumn {
        match ["binary", "blob"].iter().any(|word| column.kind.contains(word)) {
            true => ByteColumn::Yes,
            false => ByteColumn::No,
        }
    }

    fn hex(&self, column: &Column) -> String {
        format!("LOWER(HEX({}))", self.quoted(&column.name))
    }

    fn beginning(&self, text: &str, characters: usize) -> String {
        format!("LEFT({text}, {characters})")
    }
}

/// A MySQL or MariaDB server, not connected yet.
pub fn open(server: &DatabaseServer) -> TableConnection<MySql> {
    let options = MySqlConnectOptions::new()
        .database(&server.database)
        .disable_statement_logging();
    // Reading text needs neither SQL mode nor zone. A proxy that does not know such a statement pins the connection to
    // one server, or refuses it; it does know the character set.
    let options = options
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None);
    let options = match server.host.strip_prefix('/') {
        Some(_) => options.socket(&server.host),
        None => options.host(&server.host).port(server.port),
    };
    let enter = |options: MySqlConnectOptions, (username, password): (String, String)| {
        options.username(&username).password(&password)
    };
    TableConnection::new(&DIALECT, options, server.max_lifetime).with_login(server.login.clone(), enter)
}
