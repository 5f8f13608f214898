//! Reads where tasks and the table are stored: `redis`, `mysql`, `database`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Secret;
use super::host::database_host;
use super::read_redis;
use super::reader::{Located, SettingPlace};
use super::section::Section;
use super::settings::BrokerSettings;
use super::url::DatabaseUrl;
use crate::source::{DatabaseLogin, DatabaseServer, TableSettings};

/// A day; servers and proxies drop connections long before.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Connections; more is a mistake.
const MAX_CONNECTIONS: u64 = 1000;

/// The values of `database.driver`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Driver {
    MySql,
    Postgres,
    Sqlite,
    Off,
}

impl Driver {
    const WORDS: [(&'static str, Self); 8] = [
        ("mysql", Self::MySql),
        ("mariadb", Self::MySql),
        ("postgres", Self::Postgres),
        ("postgresql", Self::Postgres),
        ("sqlite", Self::Sqlite),
        ("none", Self::Off),
        ("off", Self::Off),
        ("false", Self::Off),
    ];
}

/// Reads `redis`; without it tasks are in `data_dir/runner.db`.
pub fn broker(root: &Section<'_>, data_dir: &Path) -> BrokerSettings {
    read_redis::read(root).map_or_else(
        || BrokerSettings::Embedded {
            path: embedded(data_dir),
        },
        |settings| BrokerSettings::Redis(Box::new(settings)),
    )
}

fn embedded(data_dir: &Path) -> PathBuf {
    data_dir.join("runner.db")
}

/// Where the table is, and whether its rows may be written.
pub struct ReadTable {
    /// `None`: it is not read.
    pub table: Option<TableSettings>,
    /// Whether the dashboard and the API may write rows.
    pub writable: bool,
}

/// Reads `mysql` and `database`; without both the table is in the file of the embedded broker.
pub fn table(root: &Section<'_>, data_dir: &Path) -> ReadTable {
    let (mysql, database) = (root.section("mysql"), root.section("database"));
    if mysql.written() && database.written() {
        let message = "mysql and database both say where the table is; keep one of them";
        let place = root.place_of("database").unwrap_or_else(|| database.place());
        root.reader().error("CFG_TWICE", &place, message);
    }
    let from_mysql = go_mysql(&mysql);
    let driver = database.choice("driver", &Driver::WORDS);
    let chosen = any_database(&database, driver, data_dir);
    let writable = [mysql.flag("writable"), database.flag("writable")];
    let writable = writable.contains(&Some(true));
    mysql.finish();
    database.finish();
    let table = match (chosen, driver) {
        (None, Some(Driver::Off)) => None,
        (chosen, _) => Some(chosen.or(from_mysql).unwrap_or_else(|| TableSettings::OfBroker {
            path: embedded(data_dir),
        })),
    };
    ReadTable { table, writable }
}

/// The section of the Go service.
fn go_mysql(mysql: &Section<'_>) -> Option<TableSettings> {
    let max_lifetime = limits(mysql, "maxOpenConnections", "maxConnectionLifeTime");
    let server = server(mysql, 3306, max_lifetime);
    mysql.legacy("maxIdleConnections", "idle connections are closed by age");
    mysql.legacy("logLevel", "statements are logged at level debug");
    if server.is_none() && mysql.written() {
        missing(mysql, "host", "for example host: 127.0.0.1:3306");
    }
    server.map(TableSettings::MySql)
}

/// Our own section, for any of the databases.
fn any_database(section: &Section<'_>, driver: Option<Driver>, data_dir: &Path) -> Option<TableSettings> {
    let path = section.path("path");
    let url = section.secret("url");
    let port = match driver {
        Some(Driver::Postgres) => 5432,
        _ => 3306,
    };
    let max_lifetime = limits(section, "max_connections", "max_lifetime");
    let server = server(section, port, max_lifetime);
    if let Some(url) = url {
        return from_url(section, &url, max_lifetime);
    }
    if driver.is_none() && section.written() && section.place_of("driver").is_none() {
        missing(section, "driver", "mysql, postgres, sqlite or none");
    }
    match (driver?, server) {
        (Driver::Off, _) => None,
        (Driver::Sqlite, _) => Some(TableSettings::Sqlite {
            path: path.map_or_else(|| embedded(data_dir), |p| p.value),
        }),
        (Driver::MySql, Some(server)) => Some(TableSettings::MySql(server)),
        (Driver::Postgres, Some(server)) => Some(TableSettings::Postgres(server)),
        (Driver::MySql | Driver::Postgres, None) => {
            missing(section, "host", "for example host: 127.0.0.1:3306");
            None
        }
    }
}

fn missing(section: &Section<'_>, key: &str, hint: &str) {
    let message = format!("{} is missing", section.path_of(key));
    section
        .reader()
        .error_hint("CFG_DATABASE", &section.place(), message, hint);
}

/// The longest life of a connection. 0 is "no limit", as in the Go service.
fn limits(section: &Section<'_>, connections_key: &'static str, lifetime_key: &'static str) -> Option<Duration> {
    // Only checked: the table is read over a single connection, which satisfies every bound.
    let _most = section.number(connections_key, 0..=MAX_CONNECTIONS);
    let lifetime = section.duration(lifetime_key, Duration::ZERO..=MAX_LIFETIME);
    lifetime.filter(|d| !d.is_zero())
}

/// The keys that all servers share; `None` if no host is named.
fn server(section: &Section<'_>, default_port: u16, max_lifetime: Option<Duration>) -> Option<DatabaseServer> {
    let host = section.text("host");
    let text = |key| section.text(key).map_or_else(String::new, |f| f.value);
    let database = text("database");
    let username = section
        .reference("username", true)
        .map_or_else(Secret::default, |f| f.value);
    let password = section
        .late_secret("password")
        .map_or_else(Secret::default, |f| f.value);
    let found = host?;
    let (host, port) = database_host(found.value.trim(), default_port).unwrap_or_else(|why| {
        let message = format!("{} is not host:port: {why}", section.path_of("host"));
        section
            .reader()
            .error_hint("CFG_DATABASE", &found.place, message, "for example db:3306");
        (String::new(), default_port)
    });
    Some(DatabaseServer {
        host,
        port,
        login: DatabaseLogin::read_from(move || Ok((username.read()?, password.read()?))),
        database,
        max_lifetime,
    })
}

fn from_url(section: &Section<'_>, url: &Located<Secret>, max_lifetime: Option<Duration>) -> Option<TableSettings> {
    match DatabaseUrl::parse(url.value.expose()) {
        Ok(parsed) => {
            let mut settings = parsed.into_settings(max_lifetime, &url.value);
            if let TableSettings::Sqlite { path } = &mut settings
                && matches!(url.place, SettingPlace::File(_))
            {
                *path = section.beside(&*path);
            }
            Some(settings)
        }
        Err(why) => {
            // The text itself may hold a password, so only the reason is said.
            let message = format!("database.url cannot be used: {why}");
            let hint = "for example postgres://user@host:5432/name or sqlite:data/table.db";
            section.reader().error_hint("CFG_DATABASE", &url.place, message, hint);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::host::split_host;
    use super::*;

    #[test]
    fn hosts_with_and_without_ports() {
        let both = |h: &str, p| Ok((h.to_owned(), p));
        assert_eq!(split_host("redis", 6379), both("redis", 6379));
        assert_eq!(split_host("redis:7000", 6379), both("redis", 7000));
        assert_eq!(split_host("[::1]:7000", 6379), both("[::1]", 7000));
        assert_eq!(split_host("[::1]", 6379), both("[::1]", 6379));
        for bad in ["", "redis://x:1", "a:b", "::1", "a:0", "a:70000", ":6379", "u@h:1"] {
            assert!(split_host(bad, 1).is_err(), "{bad}");
        }
        assert_eq!(database_host("/run/db.sock", 1), both("/run/db.sock", 1));
        assert_eq!(database_host("[::1]:7", 1), both("::1", 7));
    }
}
