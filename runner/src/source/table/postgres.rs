//! `sys_crontab` in PostgreSQL: dialect and connection.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Postgres};

use super::columns::Column;
use super::connection::{Dialect, TableConnection};
use super::statement::{ByteColumn, SqlDialect};
use crate::source::settings::DatabaseServer;

static DIALECT: Dialect = Dialect {
    // Of the table that the search path finds; a domain is replaced by its base type.
    columns: "SELECT a.attname::text, (CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END)::regtype::text \
         FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
         WHERE a.attrelid = 'sys_crontab'::regclass AND a.attnum > 0 AND NOT a.attisdropped",
    words: &PostgresWords,
    migration: include_str!("../../../migrations/postgres/0001_sys_crontab.sql"),
    // SQLSTATE "undefined table".
    missing: "42P01",
    makes_table: false,
};

struct PostgresWords;

impl SqlDialect for PostgresWords {
    fn quoted(&self, name: &str) -> String {
        format!("\"{name}\"")
    }

    fn cast(&self, expression: &str) -> String {
        format!("({expression})::text")
    }

    fn size(&self, column: &Column) -> String {
        match self.bytes(column) {
            ByteColumn::Yes => format!("octet_length({})", self.quoted(&column.name)),
            _ => format!("octet_length({})", self.text(column)),
        }
    }

    fn bytes(&self, column: &Column) -> ByteColumn {
        match column.kind == "bytea" {
            true => ByteColumn::Yes,
            false => ByteColumn::No,
        }
    }

    fn hex(&self, column: &Column) -> String {
        format!("encode({}, 'hex')", self.quoted(&column.name))
    }

    fn beginning(&self, text: &str, characters: usize) -> String {
        format!("left({text}, {characters})")
    }
}

/// A PostgreSQL server, not connected yet.
pub fn open(server: &DatabaseServer) -> TableConnection<Postgres> {
    let options = PgConnectOptions::new_without_pgpass()
        .database(&server.database)
        // Numbers are read as text, so this is not needed, and PgBouncer refuses a connection that asks for it.
        .extra_float_digits(None)
        .disable_statement_logging();
    let options = match server.host.strip_prefix('/') {
        Some(_) => options.socket(&server.host),
        None => options.host(&server.host).port(server.port),
    };
    let enter = |options: PgConnectOptions, (username, password): (String, String)| {
        options.username(&username).password(&password)
    };
    TableConnection::new(&DIALECT, options, server.max_lifetime).with_login(server.login.clone(), enter)
}
