//! Address and credentials of Redis. Data only: `config` and `url` fill it in.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

pub use crate::tls::TlsFiles as RedisTls;

/// How to reach a Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// Kind and address.
    pub target: RedisTarget,
    /// Username, which requires a password; `None`: the server's default user.
    pub username: Option<String>,
    /// Password, if the server requires one. Never printed.
    pub password: Option<Password>,
    /// Database number.
    pub database: i64,
    /// TLS for every connection, including those to sentinels; `None`: plain text.
    pub tls: Option<RedisTls>,
    /// Replicas that must acknowledge an enqueue before it counts as accepted; 0: none. Not supported for a cluster.
    pub replicas: u32,
    /// Continue although the server may evict keys, and with them tasks.
    pub allow_eviction: bool,
}

/// The kind of deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisTarget {
    /// One server at `host:port`; an IPv6 address is in brackets.
    Server(String),
    /// One server behind a Unix socket.
    Socket(PathBuf),
    /// The server that the sentinels name.
    Sentinels(RedisSentinels),
    /// A cluster with these known nodes (`host:port`).
    Cluster(Vec<String>),
}

/// Sentinels and the server they watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisSentinels {
    /// The name under which they watch it.
    pub master: String,
    /// `host:port` of each.
    pub addresses: Vec<String>,
    /// Username for the sentinels; `None`: their default user.
    pub username: Option<String>,
    /// Password of the sentinels, if they require one; not that of the server.
    pub password: Option<Password>,
}

/// A password; never printed.
#[derive(Clone)]
pub struct Password {
    text: String,
    source: Option<Arc<dyn PasswordSource>>,
}

/// Where a password is stored, so that each connection uses the current one. Reading may block.
pub trait PasswordSource: Send + Sync {
    /// Reads the password.
    ///
    /// # Errors
    ///
    /// Why it cannot be read, without any part of it. The next connection tries again.
    fn read(&self) -> Result<String, String>;
}

impl<F: Fn() -> Result<String, String> + Send + Sync> PasswordSource for F {
    fn read(&self) -> Result<String, String> {
        self()
    }
}

impl Password {
    /// A fixed password.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { text, source: None }
    }

    /// This password until `source` is read, which happens for each connection.
    #[must_use]
    pub fn read_from(self, source: impl PasswordSource + 'static) -> Self {
        Self {
            source: Some(Arc::new(source)),
            ..self
        }
    }

    /// The plain text, for the call that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// The current password, for one connection.
    pub(in crate::redis) async fn now(&self) -> Result<Self, String> {
        let Some(source) = self.source.clone() else {
            return Ok(self.clone());
        };
        // The file may be on a network share that does not answer.
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

    /// The address for people: never a username or a password.
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

/// Host and port; `None` if the text is not `host:port`.
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
    async fn a_password_with_a_source_is_read_each_time() {
        let stored = Arc::new(std::sync::Mutex::new(Ok("first".to_owned())));
        let source = {
            let stored = stored.clone();
            move || -> Result<String, String> { stored.lock().map_err(|e| e.to_string())?.clone() }
        };
        let password = Password::new("first").read_from(source);
        let set = |next| *stored.lock().unwrap() = next;
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
