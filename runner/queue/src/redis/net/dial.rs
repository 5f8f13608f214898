//! One connection to one address: the socket, TLS, the login, each with a time limit and its own error texts.
//!
//! `link` and `sentinel` choose the address; `login` sends the commands of the login.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisConnectionInfo, RedisError, RedisFuture, Value};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use crate::redis::net::login::{self, ByteStream, RedisLogin};
use crate::redis::net::settings::{RedisTls, address};
use crate::tls::{self, ClientCertificate, NO_CERTIFICATE};

/// How long the server may take to answer; our scripts take a few milliseconds at most.
pub(in crate::redis) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long connecting may take, including the login.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Why there is no connection. Never contains a password.
#[derive(Debug, Clone)]
pub(in crate::redis) enum DialError {
    /// The address does not answer, or not in time; may pass by itself.
    Unreachable(String),
    /// Retrying will not help: wrong certificates, addresses, or an unknown name at the sentinels.
    Refused(String),
    /// The password of the settings cannot be read now.
    NoPassword(String),
    /// Certificates, or an answer of the other end to TLS; retrying will not help.
    Tls(String),
    /// The server returned an error, or the connection broke.
    Redis(RedisError),
}

impl From<RedisError> for DialError {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl std::fmt::Display for DialError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(text) | Self::Refused(text) | Self::NoPassword(text) | Self::Tls(text) => {
                f.write_str(text)
            }
            Self::Redis(error) => error.fmt(f),
        }
    }
}

/// One connection to one server, shared by cloning. Closes with its last clone, even while a command waits.
#[derive(Clone)]
pub(in crate::redis) struct Connection {
    link: MultiplexedConnection,
    _driver: Arc<AbortOnDropHandle<()>>,
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.link.req_packed_command(command)
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipe: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.link.req_packed_commands(pipe, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.link.get_db()
    }
}

/// Where to connect.
#[derive(Debug, Clone, Copy)]
pub(in crate::redis) enum DialAddress<'a> {
    /// `host:port`.
    Tcp(&'a str),
    /// A Unix socket.
    Socket(&'a Path),
}

impl std::fmt::Display for DialAddress<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Socket(path) => path.display().fmt(f),
        }
    }
}

/// A socket, with TLS if configured.
struct OpenSocket {
    bytes: Box<dyn ByteStream>,
    asked: Option<Arc<ClientCertificate>>,
}

/// Connects and logs in. `answer_within` limits each later answer; `None`: no limit.
pub(in crate::redis) async fn line(
    at: DialAddress<'_>,
    tls: Option<&RedisTls>,
    login: &RedisLogin,
    answer_within: Option<Duration>,
) -> Result<Connection, DialError> {
    let asked = bounded(at, async {
        let bytes = entered(at, tls, login).await?;
        let config = AsyncConnectionConfig::new().set_response_timeout(answer_within);
        let (link, driver) = MultiplexedConnection::new_with_config(&login_done(), bytes, config).await?;
        Ok(Connection {
            link,
            _driver: Arc::new(AbortOnDropHandle::new(tokio::spawn(driver))),
        })
    });
    asked.await
}

/// Connects and logs in, to listen to channels.
pub(in crate::redis) async fn listener(
    at: DialAddress<'_>,
    tls: Option<&RedisTls>,
    login: &RedisLogin,
) -> Result<PubSub, DialError> {
    bounded(at, async {
        let bytes = entered(at, tls, login).await?;
        Ok(PubSub::new(&login_done(), bytes).await?)
    })
    .await
}

/// Tells the library that nothing is left to set up: the login is done before it gets the connection.
fn login_done() -> RedisConnectionInfo {
    RedisConnectionInfo::default().set_skip_set_lib_name()
}

async fn entered(
    at: DialAddress<'_>,
    tls: Option<&RedisTls>,
    login: &RedisLogin,
) -> Result<Box<dyn ByteStream>, DialError> {
    // Read for each connection, so that a changed password needs no restart.
    let login = login.now().await.map_err(DialError::NoPassword)?;
    let mut open = open(at, tls).await?;
    match login::enter(&mut open.bytes, &login).await {
        Ok(()) => Ok(open.bytes),
        Err(error) => Err(broken(at, error, open.asked.as_deref())),
    }
}

async fn bounded<T>(at: DialAddress<'_>, making: impl Future<Output = Result<T, DialError>>) -> Result<T, DialError> {
    match timeout(CONNECT_TIMEOUT, making).await {
        Ok(made) => made,
        Err(_) => Err(DialError::Unreachable(format!(
            "{at}: no connection within {} s; is it a Redis, and TLS at both ends or at none?",
            CONNECT_TIMEOUT.as_secs()
        ))),
    }
}

async fn open(at: DialAddress<'_>, tls: Option<&RedisTls>) -> Result<OpenSocket, DialError> {
    let unreachable = |error: std::io::Error| DialError::Unreachable(format!("{at}: {error}"));
    let tls_fails = |why: String| DialError::Tls(format!("{at}: {why}"));
    let (text, host, port) = match at {
        DialAddress::Socket(path) => {
            let stream = UnixStream::connect(path).await.map_err(unreachable)?;
            return Ok(OpenSocket {
                bytes: Box::new(stream),
                asked: None,
            });
        }
        DialAddress::Tcp(text) => match address(text) {
            Some((host, port)) => (text, host, port),
            None => return Err(DialError::Refused(format!("{at}: it is not of the form host:port"))),
        },
    };
    let terms = match tls {
        Some(tls) => Some(tls::read_terms(tls, host).await.map_err(tls_fails)?),
        None => None,
    };
    let stream = TcpStream::connect((host, port)).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let Some(terms) = terms else {
        return Ok(OpenSocket {
            bytes: Box::new(stream),
            asked: None,
        });
    };
    let connector = TlsConnector::from(terms.config);
    match connector.connect(terms.name.clone(), stream).await {
        Ok(stream) => Ok(OpenSocket {
            bytes: Box::new(stream),
            asked: Some(terms.asked),
        }),
        Err(_) if terms.asked.in_vain() => Err(tls_fails(NO_CERTIFICATE.to_owned())),
        Err(error) => Err(match tls::explain(&error, &terms.name) {
            (why, true) => DialError::Unreachable(format!("{text}: {why}")),
            (why, false) => tls_fails(why),
        }),
    }
}

/// The error of a connection that broke before the first answer.
fn broken(at: DialAddress<'_>, error: RedisError, asked: Option<&ClientCertificate>) -> DialError {
    let cut = error.is_io_error() || error.is_connection_dropped();
    match asked {
        Some(asked) if cut && asked.in_vain() => DialError::Tls(format!("{at}: {NO_CERTIFICATE}")),
        Some(asked) if cut && asked.answered() => DialError::Tls(format!(
            "{at}: the server ended the connection after it saw our certificate (tls.cert_file): {error}"
        )),
        None if cut => DialError::Unreachable(format!(
            "{at}: the server ended the connection before it answered ({error}); is TLS on at its end only?"
        )),
        _ => DialError::Redis(error),
    }
}
