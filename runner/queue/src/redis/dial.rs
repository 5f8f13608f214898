//! One connection to one address: the socket, TLS, the login, each within a bound and with its own words for failure.
//!
//! Which address to take is decided by `link` and `sentinel`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisConnectionInfo, RedisError, RedisFuture, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::settings::{Password, RedisTls, address};
use super::tls::{self, Asked};

/// How long making a connection may take, the login included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Why there is no connection. It never holds a password.
#[derive(Debug, Clone)]
pub(super) enum DialError {
    /// Nobody answers there, or not in time: it may be better later.
    Unreachable(String),
    /// Trying again does not mend it: certificates, addresses, what the sentinels know.
    Refused(String),
    /// The server's own words, or the connection broke.
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
            Self::Unreachable(text) | Self::Refused(text) => f.write_str(text),
            Self::Redis(error) => error.fmt(f),
        }
    }
}

/// One connection to one server, shared by cloning. It is closed when its last clone goes, whatever it waits for.
#[derive(Clone)]
pub(super) struct Line {
    link: MultiplexedConnection,
    _driver: Arc<AbortOnDropHandle<()>>,
}

impl ConnectionLike for Line {
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

/// Who we are to a server.
#[derive(Clone, Default)]
pub(super) struct Login {
    pub(super) username: Option<String>,
    pub(super) password: Option<Password>,
    pub(super) database: i64,
}

/// Where to connect.
#[derive(Debug, Clone, Copy)]
pub(super) enum Address<'a> {
    /// `host:port`.
    Tcp(&'a str),
    /// A socket of this machine.
    Socket(&'a Path),
}

impl std::fmt::Display for Address<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Socket(path) => path.display().fmt(f),
        }
    }
}

trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// A socket, encrypted where that was asked for.
struct Open {
    bytes: Box<dyn Bytes>,
    asked: Option<Arc<Asked>>,
}

/// Connects and logs in. `answer_within` bounds each answer from then on; `None`: they may take as long as they like.
pub(super) async fn line(
    at: Address<'_>,
    tls: Option<&RedisTls>,
    login: &Login,
    answer_within: Option<Duration>,
) -> Result<Line, DialError> {
    let asked = bounded(at, async {
        let open = open(at, tls).await?;
        let config = AsyncConnectionConfig::new().set_response_timeout(answer_within);
        let plain = RedisConnectionInfo::default().set_skip_set_lib_name();
        let made = MultiplexedConnection::new_with_config(&plain, open.bytes, config).await;
        let (link, driver) = made.map_err(|error| broken(at, error, open.asked.as_deref()))?;
        let mut line = Line {
            link,
            _driver: Arc::new(AbortOnDropHandle::new(tokio::spawn(driver))),
        };
        enter(&mut line, login)
            .await
            .map_err(|error| broken(at, error, open.asked.as_deref()))?;
        Ok(line)
    });
    asked.await
}

/// Connects and logs in to listen to channels.
pub(super) async fn listener(at: Address<'_>, tls: Option<&RedisTls>, login: &Login) -> Result<PubSub, DialError> {
    bounded(at, async {
        let open = open(at, tls).await?;
        let mut info = RedisConnectionInfo::default()
            .set_db(login.database)
            .set_skip_set_lib_name();
        if let Some(username) = &login.username {
            info = info.set_username(username);
        }
        if let Some(password) = &login.password {
            info = info.set_password(password.expose());
        }
        let made = PubSub::new(&info, open.bytes).await;
        made.map_err(|error| broken(at, error, open.asked.as_deref()))
    })
    .await
}

async fn bounded<T>(at: Address<'_>, making: impl Future<Output = Result<T, DialError>>) -> Result<T, DialError> {
    match timeout(CONNECT_TIMEOUT, making).await {
        Ok(made) => made,
        Err(_) => Err(DialError::Unreachable(format!(
            "{at}: no connection within {} s; is it a Redis, and TLS at both ends or at none?",
            CONNECT_TIMEOUT.as_secs()
        ))),
    }
}

async fn open(at: Address<'_>, tls: Option<&RedisTls>) -> Result<Open, DialError> {
    let unreachable = |error: std::io::Error| DialError::Unreachable(format!("{at}: {error}"));
    let refused = |why: String| DialError::Refused(format!("{at}: {why}"));
    let (text, host, port) = match at {
        Address::Socket(path) => {
            let stream = UnixStream::connect(path).await.map_err(unreachable)?;
            return Ok(Open {
                bytes: Box::new(stream),
                asked: None,
            });
        }
        Address::Tcp(text) => match address(text) {
            Some((host, port)) => (text, host, port),
            None => return Err(refused("it is not of the form host:port".to_owned())),
        },
    };
    let terms = tls.map(|tls| tls::terms(tls, host)).transpose().map_err(refused)?;
    let stream = TcpStream::connect((host, port)).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let Some(terms) = terms else {
        return Ok(Open {
            bytes: Box::new(stream),
            asked: None,
        });
    };
    let connector = TlsConnector::from(terms.config);
    match connector.connect(terms.name.clone(), stream).await {
        Ok(stream) => Ok(Open {
            bytes: Box::new(stream),
            asked: Some(terms.asked),
        }),
        Err(_) if terms.asked.in_vain() => Err(refused(NO_CERTIFICATE.to_owned())),
        Err(error) => Err(match tls::explain(&error, &terms.name) {
            (why, true) => DialError::Unreachable(format!("{text}: {why}")),
            (why, false) => refused(why),
        }),
    }
}

const NO_CERTIFICATE: &str = "the server asks for a client certificate (tls.cert_file and tls.key_file)";

/// Logs in with commands of our own, so that the server's words are known when it refuses.
async fn enter(line: &mut Line, login: &Login) -> Result<(), RedisError> {
    let mut pipe = Pipeline::new();
    if let Some(password) = &login.password {
        pipe.cmd("AUTH");
        if let Some(username) = &login.username {
            pipe.arg(username);
        }
        pipe.arg(password.expose());
    }
    if login.database != 0 {
        pipe.cmd("SELECT").arg(login.database);
    }
    // Always something: with TLS the server's objection to our certificate comes with its first answer.
    pipe.cmd("CLIENT").arg("SETNAME").arg("runner");
    let answers = line.link.send_packed_commands(&pipe, 0, pipe.len()).await?;
    let named = answers.len().saturating_sub(1);
    for answer in answers.into_iter().take(named) {
        // A proxy or a server that renamed AUTH may quote the arguments of a command that it does not know.
        if let Value::ServerError(error) = answer {
            return Err(without(error.into(), login));
        }
    }
    Ok(())
}

fn without(error: RedisError, login: &Login) -> RedisError {
    let quoted = login
        .password
        .as_ref()
        .is_some_and(|password| !password.expose().is_empty() && error.to_string().contains(password.expose()));
    if quoted {
        RedisError::from((redis::ErrorKind::AuthenticationFailed, "the server refused the login"))
    } else {
        error
    }
}

/// A connection that broke before the first answer.
fn broken(at: Address<'_>, error: RedisError, asked: Option<&Asked>) -> DialError {
    let cut = error.is_io_error() || error.is_connection_dropped();
    match asked {
        Some(asked) if cut && asked.in_vain() => DialError::Refused(format!("{at}: {NO_CERTIFICATE}")),
        Some(asked) if cut && asked.answered() => DialError::Refused(format!(
            "{at}: the server ended the connection after it saw our certificate (tls.cert_file): {error}"
        )),
        None if cut => DialError::Unreachable(format!(
            "{at}: the server ended the connection before it answered ({error}); is TLS on at its end only?"
        )),
        _ => DialError::Redis(error),
    }
}
