//! `sys_crontab` in MySQL and MariaDB: its words and how to reach it.

use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions, MySql};

use super::kept::{Dialect, Kept};
use crate::source::settings::Server;

static DIALECT: Dialect = Dialect {
    select: "SELECT CAST(`id` AS CHAR), CAST(`name` AS CHAR), CAST(`type` AS CHAR), CAST(`spec` AS CHAR), \
         CAST(`payload` AS CHAR), CAST(`status` AS CHAR) FROM `sys_crontab` ORDER BY `id` LIMIT 10001",
    probe: "SELECT 1 FROM `sys_crontab` LIMIT 1",
    migration: include_str!("../../../../migrations/mysql/0001_sys_crontab.sql"),
    // SQLSTATE "base table or view not found".
    missing: "42S02",
    makes_table: false,
};

/// A MySQL or MariaDB server, not connected yet.
pub fn open(server: &Server) -> Kept<MySql> {
    let options = MySqlConnectOptions::new()
        .database(&server.database)
        .disable_statement_logging();
    let options = match server.host.strip_prefix('/') {
        Some(_) => options.socket(&server.host),
        None => options.host(&server.host).port(server.port),
    };
    let enter = |options: MySqlConnectOptions, (username, password): (String, String)| {
        options.username(&username).password(&password)
    };
    Kept::new(&DIALECT, options, server.max_lifetime).with_login(server.login.clone(), enter)
}
