//! `sys_crontab` in MySQL and MariaDB: dialect and connection.

use sqlx::error::DatabaseError;
use sqlx::mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlQueryResult};
use sqlx::{ConnectOptions, MySql};

use super::columns::Column;
use super::connection::{Dialect, TableConnection};
use super::edit::{ChangeResult, ChangeWords, Longest};
use super::statement::{ByteColumn, SqlDialect};
use crate::source::settings::DatabaseServer;
use crate::text::{hex, unhex};

static DIALECT: Dialect = Dialect {
    columns: "SHOW COLUMNS FROM `sys_crontab`",
    words: &MySqlWords,
    migration: include_str!("../../../migrations/mysql/0001_sys_crontab.sql"),
    // SQLSTATE "base table or view not found".
    missing: "42S02",
    forbidden,
    busy,
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

impl ChangeWords for MySqlWords {
    fn literal(&self, text: &str) -> String {
        // Digits need no escape, whatever the SQL mode says of backslashes.
        format!("_utf8mb4 X'{}'", hex(text.as_bytes()))
    }

    fn bytes_literal(&self, bytes: &[u8]) -> String {
        format!("X'{}'", hex(bytes))
    }

    fn same(&self, expression: &str, text: &str) -> String {
        // Collations ignore case and trailing spaces.
        format!("HEX({expression}) = '{}'", hex(text.as_bytes()).to_uppercase())
    }

    fn indexed_id(&self, column: &Column, id: &str) -> Option<String> {
        let name = self.quoted(&column.name);
        let is = |kinds: &[&str]| kinds.iter().any(|kind| column.kind.starts_with(kind));
        match self.bytes(column) {
            ByteColumn::Yes => unhex(id).map(|bytes| format!("{name} = {}", self.bytes_literal(&bytes))),
            _ if is(&["int", "bigint", "mediumint", "smallint", "tinyint"]) => {
                id.parse::<i128>().ok().map(|number| format!("{name} = {number}"))
            }
            _ => is(&["varchar", "char"]).then(|| format!("{name} = {}", self.literal(id))),
        }
    }

    fn switch(&self, column: &Column, on: bool) -> String {
        let digit = u8::from(on);
        match ["char", "text", "enum"].iter().any(|word| column.kind.contains(word)) {
            true => format!("'{digit}'"),
            false => digit.to_string(),
        }
    }

    fn now(&self, column: &Column) -> Option<String> {
        let kind = &column.kind;
        let timed = kind.starts_with("datetime") || kind.starts_with("timestamp");
        timed.then(|| format!("CURRENT_TIMESTAMP({})", number_in(kind).unwrap_or(0)))
    }

    fn deletion_mark(&self, column: &Column) -> Option<String> {
        let whole = ["int", "bigint"].iter().any(|kind| column.kind.starts_with(kind));
        match self.now(column) {
            Some(now) => Some(now),
            None if whole => Some("UNIX_TIMESTAMP()".to_owned()),
            None => ["tinyint", "bit"]
                .iter()
                .any(|kind| column.kind.starts_with(kind))
                .then(|| "1".to_owned()),
        }
    }

    fn longest(&self, column: &Column) -> Option<Longest> {
        let kind = &column.kind;
        match kind.split('(').next().unwrap_or_default() {
            "varchar" | "char" => number_in(kind).map(Longest::Characters),
            "varbinary" | "binary" => number_in(kind).map(Longest::Bytes),
            "tinytext" | "tinyblob" => Some(Longest::Bytes(255)),
            "text" | "blob" => Some(Longest::Bytes(65_535)),
            _ => None,
        }
    }

    fn returns_ids(&self) -> bool {
        false
    }
}

/// The number in parentheses.
fn number_in(kind: &str) -> Option<usize> {
    kind.split(['(', ')']).nth(1)?.parse().ok()
}

impl ChangeResult for MySqlQueryResult {
    fn rows(&self) -> u64 {
        // The driver asks the server to count the rows that were found, changed or not.
        self.rows_affected()
    }

    fn new_id(&self) -> Option<String> {
        match self.last_insert_id() {
            0 => None,
            id => Some(id.to_string()),
        }
    }
}

/// No right, a server that takes no writes, a transaction that only reads.
fn forbidden(error: &dyn DatabaseError) -> bool {
    let number = error
        .try_downcast_ref::<MySqlDatabaseError>()
        .map(MySqlDatabaseError::number);
    matches!(number, Some(1044 | 1045 | 1142 | 1143 | 1227 | 1290 | 1792 | 1836))
}

/// A lock that others hold, a deadlock, a time limit, a full disk or table.
fn busy(error: &dyn DatabaseError) -> bool {
    let number = error
        .try_downcast_ref::<MySqlDatabaseError>()
        .map(MySqlDatabaseError::number);
    matches!(number, Some(1021 | 1114 | 1205 | 1213 | 3024))
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
