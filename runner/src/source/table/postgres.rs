//! `sys_crontab` in PostgreSQL: dialect and connection.

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnectOptions, PgQueryResult};
use sqlx::{ConnectOptions, Postgres};

use super::columns::Column;
use super::connection::{Dialect, TableConnection};
use super::edit::{ChangeResult, ChangeWords};
use super::statement::{ByteColumn, SqlDialect};
use crate::source::settings::DatabaseServer;
use crate::text::hex;

static DIALECT: Dialect = Dialect {
    // Of the table that the search path finds; a domain is replaced by its base type.
    columns: "SELECT a.attname::text, (CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END)::regtype::text \
         FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
         WHERE a.attrelid = 'sys_crontab'::regclass AND a.attnum > 0 AND NOT a.attisdropped",
    words: &PostgresWords,
    migration: include_str!("../../../migrations/postgres/0001_sys_crontab.sql"),
    // SQLSTATE "undefined table".
    missing: "42P01",
    forbidden,
    busy,
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

impl ChangeWords for PostgresWords {
    /// Between dollar signs nothing needs an escape, whatever the settings say of backslashes; and a literal of no type
    /// fits columns of any.
    fn literal(&self, text: &str) -> String {
        let mut number = 0_u32;
        let mut tag = "$t$".to_owned();
        // The text could end in a part of the tag.
        while format!("{text}$").contains(&tag) {
            number += 1;
            tag = format!("$t{number}$");
        }
        format!("{tag}{text}{tag}")
    }

    fn bytes_literal(&self, bytes: &[u8]) -> String {
        format!("decode('{}', 'hex')", hex(bytes))
    }

    fn same(&self, expression: &str, text: &str) -> String {
        format!("({expression}) COLLATE \"C\" = {}", self.literal(text))
    }

    fn indexed_id(&self, column: &Column, id: &str) -> Option<String> {
        let indexed = ["bigint", "integer", "smallint", "uuid", "text", "character varying"];
        let value = self.literal(id);
        // A text that cannot be of that type would be an error.
        let fits = match column.kind.as_str() {
            "bigint" => id.parse::<i64>().is_ok(),
            "integer" => id.parse::<i32>().is_ok(),
            "smallint" => id.parse::<i16>().is_ok(),
            "uuid" => uuid::Uuid::parse_str(id).is_ok(),
            _ => true,
        };
        let indexed = fits && indexed.contains(&column.kind.as_str());
        indexed.then(|| format!("{} = {value}", self.quoted(&column.name)))
    }

    fn switch(&self, _: &Column, on: bool) -> String {
        // A literal of no type: numbers, bits, booleans and texts all read it.
        format!("'{}'", u8::from(on))
    }

    fn now(&self, column: &Column) -> Option<String> {
        let timed = column.kind.starts_with("timestamp");
        timed.then(|| "CURRENT_TIMESTAMP".to_owned())
    }

    fn deletion_mark(&self, column: &Column) -> Option<String> {
        match column.kind.as_str() {
            "bigint" | "integer" => Some("floor(extract(epoch FROM CURRENT_TIMESTAMP))::bigint".to_owned()),
            "boolean" | "smallint" => Some("'1'".to_owned()),
            _ => self.now(column),
        }
    }

    fn returns_ids(&self) -> bool {
        true
    }
}

impl ChangeResult for PgQueryResult {
    fn rows(&self) -> u64 {
        self.rows_affected()
    }
}

/// No right, or a server or a transaction that only reads.
fn forbidden(error: &dyn DatabaseError) -> bool {
    matches!(error.code().as_deref(), Some("42501" | "25006"))
}

/// A lost race, a deadlock, a lock or time limit, a full disk.
fn busy(error: &dyn DatabaseError) -> bool {
    matches!(
        error.code().as_deref(),
        Some("40001" | "40P01" | "55P03" | "57014" | "53100")
    )
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
