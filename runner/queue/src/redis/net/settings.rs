//! Where the Redis is and how to log in. Data only: read from a configuration or a URL by others.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// How to reach a Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// What it is and where.
    pub target: RedisTarget,
    /// Name to log in with, which takes a password too; `None`: the server's default user.
    pub username: Option<String>,
    /// Password, if the server asks for one. Never printed.
    pub password: Option<Password>,
    /// Number of the database.
    pub database: i64,
    /// TLS for every connection, those to sentinels too; `None`: none.
    pub tls: Option<RedisTls>,
    /// Replicas that must confirm what is enqueued before that counts as accepted; 0: none. Not for a cluster.
    pub replicas: u32,
    /// Goes on although the server may evict keys, and with them tasks.
    pub allow_eviction: bool,
}

/// What stands behind the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisTarget {
    /// One server at `host:port`; an IPv6 address stands in brackets.
    Server(String),
    /// One server behind a socket of this machine.
    Socket(PathBuf),
    /// The server that the sentinels name.
    Sentinels(RedisSentinels),
    /// A cluster, of which these nodes are known (`host:port`).
    Cluster(Vec<String>),
}

/// Sentinels, and what to ask them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisSentinels {
    /// The name under which they watch the server.
    pub master: String,
    /// `host:port` of each.
    pub addresses: Vec<String>,
    /// Name to log in to the sentinels; `None`: their default user.
    pub username: Option<String>,
    /// Password of the sentinels, if they ask for one; not that of the server.
    pub password: Option<Password>,
}

/// How the server proves who it is, and how we do. Files are read at each connection, so that they can be replaced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RedisTls {
    /// Authorities that may sign the server's certificate (PEM); `None`: those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// Our certificate and those between it and an authority (PEM), if the server asks for one.
    pub cert_file: Option<PathBuf>,
    /// The key of our certificate (PEM).
    pub key_file: Option<PathBuf>,
    /// The name that must stand in the server's certificate; `None`: the host connected to.
    pub server_name: Option<String>,
}

/// A password: it is used, and never printed.
#[derive(Clone)]
pub struct Password {
    text: String,
    source: Option<Arc<dyn PasswordSource>>,
}

/// Where a password stands, so that each connection takes it as it is by then. Reading may block.
pub trait PasswordSource: Send + Sync {
    /// The password now.
    ///
    /// # Errors
    ///
    /// Why it cannot be read now, without any part of it. It is tried again with the next connection.
    fn read(&self) -> Result<String, String>;
}

impl<F: Fn() -> Result<String, String> + Send + Sync> PasswordSource for F {
    fn read(&self) -> Result<String, String> {
        self()
    }
}

impl Password {
    /// Wraps `text`, which stays the same.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { text, source: None }
    }

    /// The same for now; `source` is asked for each connection.
    #[must_use]
    pub fn read_from(self, source: impl PasswordSource + 'static) -> Self {
        Self {
            source: Some(Arc::new(source)),
            ..self
        }
    }

    /// The text itself, for the one call that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// The password as it is now, for one connection.
    pub(in crate::redis) async fn now(&self) -> Result<Self, String> {
        let Some(source) = self.source.clone() else {
            return Ok(self.clone());
        };
        // A file may lie on a share that does not answer.
        let read = tokio::task::spawn_blocking(move || source.read()).await;
        match read.map_err(|error| error.to_string()).and_then(|read| read) {
            Ok(text) if text.is_empty() => Err("cannot read the password of Redis: it is empty".to_owned()),
            Ok(text) => Ok(Self::new(text)),
            Err(why) => Err(format!("cannot read the password of Redis: {why}")),
        }
    }
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Password {}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl RedisSettings {
    /// Database 0 of the server at `host` (`host:port`), without a password.
    #[must_use]
    pub fn at(host: impl Into<String>) -> Self {
        Self::of(RedisTarget::Server(host.into()))
    }

    /// Database 0 of `target`, without a password.
    #[must_use]
    pub fn of(target: RedisTarget) -> Self {
        Self {
            target,
            username: None,
            password: None,
            database: 0,
            tls: None,
            replicas: 0,
            allow_eviction: false,
        }
    }

    /// The place for people: never a user name or a password.
    #[must_use]
    pub fn place(&self) -> String {
        let database = self.database;
        match &self.target {
            RedisTarget::Server(host) if self.tls.is_some() => format!("{host}/{database} (TLS)"),
            RedisTarget::Server(host) => format!("{host}/{database}"),
            RedisTarget::Socket(path) => format!("{}, database {database}", path.display()),
            RedisTarget::Sentinels(sentinel) => {
                let (master, at) = (&sentinel.master, sentinel.addresses.join(","));
                format!("{master}/{database} (by sentinels {at})")
            }
            RedisTarget::Cluster(nodes) => format!("cluster {}", nodes.join(",")),
        }
    }
}

/// Host and port, apart; `None` if the text is not `host:port`.
pub(in crate::redis) fn address(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn passwords_are_never_printed() {
        let mut settings = RedisSettings::of(RedisTarget::Sentinels(RedisSentinels {
            master: "m".to_owned(),
            addresses: vec!["h:26379".to_owned()],
            username: None,
            password: Some(Password::new("hunter3")),
        }));
        settings.password = Some(Password::new("hunter2"));
        settings.tls = Some(RedisTls::default());
        for text in [format!("{settings:?}"), settings.place()] {
            assert!(!text.contains("hunter"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_password_with_a_source_is_read_anew_each_time() {
        let said = Arc::new(std::sync::Mutex::new(Ok("first".to_owned())));
        let source = {
            let said = said.clone();
            move || -> Result<String, String> { said.lock().map_err(|e| e.to_string())?.clone() }
        };
        let password = Password::new("first").read_from(source);
        let set = |next| *said.lock().unwrap() = next;
        assert_eq!(password.now().await.unwrap().expose(), "first");
        set(Ok("second".to_owned()));
        assert_eq!(password.now().await.unwrap().expose(), "second");
        for (bad, words) in [
            (Ok(String::new()), "is empty"),
            (Err("no such file".to_owned()), "no such file"),
        ] {
            set(bad);
            let why = password.now().await.unwrap_err();
            assert!(
                why.starts_with("cannot read the password") && why.contains(words),
                "{why}"
            );
        }
        assert_eq!(Password::new("fixed").now().await.unwrap().expose(), "fixed");
    }

    #[test]
    fn an_address_has_host_and_port() {
        assert_eq!(address("localhost:6379"), Some(("localhost", 6379)));
        assert_eq!(address("[::1]:7000"), Some(("::1", 7000)));
        for bad in ["localhost", ":6379", "h:70000", "h:0", "::1:7000", "[::1:7000"] {
            assert_eq!(address(bad), None, "{bad}");
        }
    }
}
