//! A database URL, with only the parts that a table needs: driver, host, user, password, name.

use std::path::PathBuf;
use std::time::Duration;

use runner_queue::redis::percent_decoded;

use super::Secret;
use super::host::database_host;
use crate::source::{DatabaseLogin, DatabaseServer, TableSettings};

/// The parts of `scheme://user:password@host:port/name`, or the path of `sqlite:path`.
#[derive(Debug)]
pub enum DatabaseUrl {
    /// MySQL or MariaDB.
    MySql(DatabaseParts),
    /// PostgreSQL.
    Postgres(DatabaseParts),
    /// A file.
    Sqlite(PathBuf),
}

/// The parts that name a server.
#[derive(Debug)]
pub struct DatabaseParts {
    host: String,
    port: u16,
    username: String,
    password: Secret,
    database: String,
}

impl DatabaseUrl {
    /// Reads `text`. The error never repeats any of it.
    ///
    /// # Errors
    ///
    /// A reason to be read after "cannot be used: ".
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.trim().split_once(':').ok_or("it has no scheme")?;
        if scheme == "sqlite" {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            let path = path.split('?').next().unwrap_or_default();
            return if path.is_empty() {
                Err("the path is missing".to_owned())
            } else {
                Ok(Self::Sqlite(PathBuf::from(percent_decoded(path)?)))
            };
        }
        let rest = rest.strip_prefix("//").ok_or("\"//\" is missing after the scheme")?;
        match scheme {
            "mysql" | "mariadb" => DatabaseParts::parse(rest, 3306).map(Self::MySql),
            "postgres" | "postgresql" => DatabaseParts::parse(rest, 5432).map(Self::Postgres),
            _ => Err("the scheme must be mysql, postgres or sqlite".to_owned()),
        }
    }

    /// User name and password.
    ///
    /// # Errors
    ///
    /// If it names a file.
    pub fn login(self) -> Result<(String, String), String> {
        match self {
            Self::MySql(parts) | Self::Postgres(parts) => Ok((parts.username, parts.password.expose().to_owned())),
            Self::Sqlite(_) => Err("database.url names a file now".to_owned()),
        }
    }

    /// The settings that it means. If `written` refers to a file or a variable, the login is read from it again
    /// for each connection.
    #[must_use]
    pub fn into_settings(self, max_lifetime: Option<Duration>, written: &Secret) -> TableSettings {
        let server = |parts: DatabaseParts| DatabaseServer {
            host: parts.host,
            port: parts.port,
            login: match written.is_reference() {
                true => {
                    let written = written.clone();
                    DatabaseLogin::read_from(move || DatabaseUrl::parse(&written.read()?)?.login())
                }
                false => DatabaseLogin::fixed(&parts.username, parts.password.expose()),
            },
            database: parts.database,
            max_lifetime,
        };
        match self {
            Self::MySql(parts) => TableSettings::MySql(server(parts)),
            Self::Postgres(parts) => TableSettings::Postgres(server(parts)),
            Self::Sqlite(path) => TableSettings::Sqlite { path },
        }
    }
}

impl DatabaseParts {
    fn parse(rest: &str, default_port: u16) -> Result<Self, String> {
        if rest.contains('?') {
            return Err("parameters after \"?\" are not read".to_owned());
        }
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (user, host),
            None => ("", authority),
        };
        let (username, password) = user.split_once(':').unwrap_or((user, ""));
        let (host, port) = database_host(host, default_port).map_err(|_| "the host is not valid")?;
        Ok(Self {
            host,
            port,
            username: percent_decoded(username)?,
            password: Secret::new(percent_decoded(password)?),
            database: percent_decoded(database)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn parts_are_found_and_decoded() {
        let url = DatabaseUrl::parse("postgres://ann:p%40ss@db:6000/app").unwrap();
        let DatabaseUrl::Postgres(parts) = url else {
            panic!("not postgres")
        };
        assert_eq!((parts.host.as_str(), parts.port), ("db", 6000));
        assert_eq!(parts.password.expose(), "p@ss");
        assert_eq!((parts.username.as_str(), parts.database.as_str()), ("ann", "app"));
        assert!(matches!(
            DatabaseUrl::parse("sqlite:data/x.db").unwrap(),
            DatabaseUrl::Sqlite(p) if p.as_os_str() == "data/x.db"
        ));
    }

    #[test]
    fn errors_repeat_nothing() {
        for bad in [
            "hunter2",
            "oracle://u:hunter2@h/x",
            "mysql://u:hunter2%@h/x",
            "mysql://u:hunter2%+a@h/x",
            "mysql:hunter2",
        ] {
            let error = DatabaseUrl::parse(bad).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
