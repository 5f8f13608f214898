//! The listener: a bounded number of connections, each with bounds for slow heads, slow readers and its age.
//!
//! Which connection is closed when there are too many is decided by `connections`, how many requests run at once by `concurrency`.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::app_state::AppState;
use super::connections::{Connections, OpenConnection};
use super::reached_by::PeerAddress;
use super::routes::router;
use super::write_deadline::{WRITE_TIME, WriteDeadline};

/// How long a client may take to send the head of a request, also between two requests.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// The largest head, bytes: ids of tasks may be long, and each of their bytes may take three in an address.
const HEAD_SIZE: usize = 64 * 1024;
/// After this time a connection ends with the answer it is at; a browser opens another one without a word.
const AGE: Duration = Duration::from_secs(300);
/// How long that last answer may still take: 60 MB at 1 MB a second.
const LAST_ANSWER: Duration = Duration::from_secs(60);
/// What the kernel keeps of an answer that the client has not taken, bytes; Linux doubles it. 640 kB a second over a
/// line of 100 ms.
const SEND_BUFFER: usize = 64 * 1024;
/// What it keeps of requests that are not read yet, bytes; Linux doubles it.
const RECEIVE_BUFFER: usize = 32 * 1024;
/// How long to wait after a connection could not be accepted.
const BREATH: Duration = Duration::from_millis(100);
/// How long requests in progress may take once the process stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// Answers on `listener` until stopped, then lets requests in progress end.
///
/// A failed accept is logged and tried again, since it passes (out of descriptors).
pub async fn serve(app: AppState, listener: TcpListener, stop: CancellationToken) {
    let app = router(app);
    let seats = Connections::new();
    let tracker = TaskTracker::new();
    limit_buffers(&listener);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, from)) => {
                // Without a seat the socket is closed here.
                if let Some(taken) = seats.take(from.ip()) {
                    tracker.spawn(connection(socket, from, taken, app.clone(), stop.clone()));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                #[allow(clippy::disallowed_methods)]
                // a full table of descriptors does not empty sooner by asking again
                tokio::time::sleep(BREATH).await;
            }
        }
    }
    tracker.close();
    // Whoever is still being answered after the farewell is cut off with the process.
    if tokio::time::timeout(FAREWELL, tracker.wait()).await.is_err() {
        tracing::warn!("connections were cut off: they had not ended in time");
    }
}

/// Accepted sockets take these over. A system that refuses keeps its own sizes.
fn limit_buffers(listener: &TcpListener) {
    let set = setsockopt(listener, sockopt::SndBuf, &SEND_BUFFER)
        .and_then(|()| setsockopt(listener, sockopt::RcvBuf, &RECEIVE_BUFFER));
    if let Err(error) = set {
        tracing::debug!(%error, "could not limit the buffers of connections");
    }
}

/// Lets the kernel drop what a client does not take, also after the connection has ended on this side.
#[cfg(target_os = "linux")]
fn limit_remains(socket: &TcpStream) {
    let longest = u32::try_from(WRITE_TIME.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = setsockopt(socket, sockopt::TcpUserTimeout, &longest) {
        tracing::debug!(%error, "could not limit how long unsent data is kept");
    }
}

#[cfg(not(target_os = "linux"))]
fn limit_remains(_: &TcpStream) {}

async fn connection(
    socket: TcpStream,
    from: SocketAddr,
    taken: OpenConnection,
    app: axum::Router,
    stop: CancellationToken,
) {
    limit_remains(&socket);
    let seat = taken.seat();
    let app = app
        .layer(Extension(PeerAddress(from)))
        .layer(Extension(Arc::clone(seat)));
    let io = TokioIo::new(WriteDeadline::new(socket, Arc::clone(seat)));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(HEAD_SIZE)
            .serve_connection(io, TowerToHyperService::new(app))
    );
    let old = Instant::now() + AGE;
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = seat.evicted() => None,
        () = async { tokio::select! { () = stop.cancelled() => (), () = tokio::time::sleep_until(old) => () } } => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => Some(ended),
                () = seat.evicted() => None,
                () = tokio::time::sleep_until(Instant::now() + LAST_ANSWER) => None,
            }
        }
    };
    match ended {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!(%error, %from, "a connection ended early"),
        None => tracing::debug!(%from, "a connection was closed to make room"),
    }
}
