//! `sys_crontab` in PostgreSQL: its words and how to reach it.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Postgres};

use super::kept::{Dialect, Kept};
use crate::source::settings::Server;

static DIALECT: Dialect = Dialect {
    select: "SELECT id::text, name::text, type::text, spec::text, payload::text, status::text \
         FROM sys_crontab ORDER BY sys_crontab.id LIMIT 10001",
    probe: "SELECT 1 FROM sys_crontab LIMIT 1",
    migration: include_str!("../../../../migrations/postgres/0001_sys_crontab.sql"),
    // SQLSTATE "undefined table".
    missing: "42P01",
    makes_table: false,
};

/// A PostgreSQL server, not connected yet.
pub fn open(server: &Server) -> Kept<Postgres> {
    let options = PgConnectOptions::new_without_pgpass()
        .database(&server.database)
        .disable_statement_logging();
    let options = match server.host.strip_prefix('/') {
        Some(_) => options.socket(&server.host),
        None => options.host(&server.host).port(server.port),
    };
    let enter = |options: PgConnectOptions, (username, password): (String, String)| {
        options.username(&username).password(&password)
    };
    Kept::new(&DIALECT, options, server.max_lifetime).with_login(server.login.clone(), enter)
}
