//! Where the Redis server is and how to log in. Read from configuration by others.

use std::fmt;

/// How to reach one Redis server.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// `host:port`; an IPv6 address stands in brackets.
    pub host: String,
    /// Name to log in with; `None`: the server's default user.
    pub username: Option<String>,
    /// Password, if the server asks for one. Never printed.
    pub password: Option<String>,
    /// Number of the database.
    pub database: i64,
}

impl RedisSettings {
    /// Database 0 of the server at `host` (`host:port`), without a password.
    #[must_use]
    pub fn at(host: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            username: None,
            password: None,
            database: 0,
        }
    }

    /// Host and port, apart; `None` if the text is not `host:port`.
    pub(super) fn address(&self) -> Option<(String, u16)> {
        let (host, port) = self.host.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return None;
        }
        Some((host.to_owned(), port.parse().ok()?))
    }
}

impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field("host", &self.host)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("database", &self.database)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_never_printed() {
        let mut settings = RedisSettings::at("localhost:6379");
        settings.password = Some("hunter2".to_owned());
        assert!(!format!("{settings:?}").contains("hunter2"));
    }

    #[test]
    fn an_address_has_host_and_port() {
        let at = |text: &str| RedisSettings::at(text).address();
        assert_eq!(at("localhost:6379"), Some(("localhost".into(), 6379)));
        assert_eq!(at("[::1]:7000"), Some(("::1".into(), 7000)));
        assert_eq!(at("localhost"), None);
        assert_eq!(at(":6379"), None);
        assert_eq!(at("h:70000"), None);
    }
}
