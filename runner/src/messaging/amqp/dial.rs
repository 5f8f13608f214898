//! One connection to RabbitMQ: address, socket, login, each with a time limit.
//!
//! Sockets are our own, given to the client library as its kind of stream: so TLS is that of the rest of the program, and
//! the library is built without its own.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::str::FromStr as _;
use std::time::{Duration, Instant};

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures_util::Stream;
use lapin::tcp::AsyncTcpStream;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};
use runner_queue::tls::{self, AfterHandshake, TlsFiles};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use super::fault;
use super::shallow::ShallowStream;
use crate::messaging::{ConnectionFault, RabbitMqSettings};

/// How long connecting may take, login included.
const CONNECT: Duration = Duration::from_secs(10);

/// Seconds between two signs of life; a server that is silent for two of them is given up.
const HEARTBEAT: u16 = 10;

const PLAIN_WITH_TLS: &str =
    "it begins with amqp://, which is without TLS, and tls is set beside it: write amqps://, or remove tls";

/// Any stream of bytes: a socket, or TLS over one.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

type Bytes = Compat<Box<dyn Duplex>>;

/// Tokio with our own sockets.
#[derive(Debug, Clone)]
struct Sockets(Tokio);

impl Reactor for Sockets {
    type TcpStream = Bytes;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: io::Read + io::Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl futures_util::io::AsyncRead + futures_util::io::AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, time: Duration) -> Self::Sleep {
        self.0.sleep(time)
    }

    fn interval(&self, time: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(time)
    }

    // An `async fn` would borrow `self` for as long as it connects.
    #[allow(clippy::manual_async_fn)]
    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        async move {
            let stream = TcpStream::connect(address).await?;
            Ok(bytes(stream))
        }
    }
}

fn bytes(stream: impl Duplex + 'static) -> Bytes {
    let stream: Box<dyn Duplex> = Box::new(ShallowStream::new(stream));
    stream.compat()
}

/// Whether a URL can be used with these files of TLS.
///
/// # Errors
///
/// Why not; never the URL, which may hold a password.
pub fn check_url(url: &str, files: &TlsFiles) -> Result<(), String> {
    let plain = parse(url)?.scheme == AMQPScheme::AMQP;
    match plain && *files != TlsFiles::default() {
        true => Err(PLAIN_WITH_TLS.to_owned()),
        false => Ok(()),
    }
}

/// `host:port/vhost`, without user and password.
fn server(uri: &AMQPUri) -> String {
    format!(
        "{}:{}/{}",
        uri.authority.host,
        uri.authority.port,
        uri.vhost.trim_start_matches('/')
    )
}

fn parse(url: &str) -> Result<AMQPUri, String> {
    if !url.starts_with("amqp://") && !url.starts_with("amqps://") {
        return Err("it begins neither with amqp:// nor with amqps://".to_owned());
    }
    // The library's reason could quote the URL.
    let mut uri =
        AMQPUri::from_str(url).map_err(|_| "it is not of the form amqp://user:password@host:port/vhost".to_owned())?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT);
    Ok(uri)
}

/// Connects; `named` is called with the name of the server as soon as that is known.
///
/// # Errors
///
/// Why there is no connection; never a password.
pub async fn connect(
    settings: &RabbitMqSettings,
    client: &str,
    named: impl FnOnce(String),
) -> Result<Connection, ConnectionFault> {
    let url = settings.url.clone();
    let read = tokio::task::spawn_blocking(move || url.read()).await;
    let url = read
        .map_err(|error| error.to_string())
        .and_then(|url| url)
        .map_err(fault::secret)?;
    let uri = parse(&url).map_err(fault::url)?;
    if uri.scheme == AMQPScheme::AMQP && settings.tls != TlsFiles::default() {
        return Err(fault::url(PLAIN_WITH_TLS.to_owned()));
    }
    named(server(&uri));
    let socket = timeout(CONNECT, open(&uri, &settings.tls)).await;
    let (socket, tls) = socket.map_err(|_| fault::slow(CONNECT)).and_then(|socket| socket)?;
    let properties = ConnectionProperties::default().with_connection_name(client.into());
    let tokio = Tokio::current();
    let runtime = Runtime::new(RuntimeParts::new(tokio.clone(), Sockets(tokio)));
    // The library would call it again to reconnect, which we do ourselves.
    let socket = std::sync::Mutex::new(Some(socket));
    let given = async move |_: AMQPUri, _: Runtime<RuntimeParts<Tokio, Sockets>>| {
        let socket = socket.lock().ok().and_then(|mut socket| socket.take());
        let socket = socket.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        Ok::<_, lapin::Error>(AsyncTcpStream::Plain(socket))
    };
    match timeout(CONNECT, Connection::connector(uri, runtime, given, properties)).await {
        Ok(connected) => connected.map_err(|error| {
            let fault = fault::of_connecting(&error);
            match tls.and_then(|tls| tls.reason()) {
                Some(reason) if fault.code == fault::UNREACHABLE => fault::tls(reason.to_owned()),
                _ => fault,
            }
        }),
        Err(_) => Err(fault::slow(CONNECT)),
    }
}

async fn open(uri: &AMQPUri, files: &TlsFiles) -> Result<(Bytes, Option<AfterHandshake>), ConnectionFault> {
    let (host, port) = (uri.authority.host.as_str(), uri.authority.port);
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|error| fault::unreachable(&error))?;
    stream.set_nodelay(true).map_err(|error| fault::unreachable(&error))?;
    match uri.scheme {
        AMQPScheme::AMQP => Ok((bytes(stream), None)),
        AMQPScheme::AMQPS => {
            let (stream, after) = tls::connect(stream, files, host).await.map_err(fault::tls)?;
            Ok((bytes(stream), Some(after)))
        }
    }
}
