//! The listener: a bounded number of connections, each with limits for slow requests, slow readers and its age.
//!
//! Not here: which connection is closed for a new one (`connections`), and how many requests run at once (`concurrency`).

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
/// The largest head in bytes: task ids may be long, and each byte may take three in an address.
const HEAD_SIZE: usize = 64 * 1024;
/// After this time a connection ends with its current answer; browsers reconnect silently.
const AGE: Duration = Duration::from_secs(300);
/// How long that last answer may take: 60 MB at 1 MB a second.
const FINAL_ANSWER: Duration = Duration::from_secs(60);
/// Send buffer of the kernel in bytes; Linux doubles it. Allows 640 kB a second over a line of 100 ms.
const SEND_BUFFER: usize = 64 * 1024;
/// Receive buffer of the kernel in bytes; Linux doubles it.
const RECEIVE_BUFFER: usize = 32 * 1024;
/// How long to wait after a failed accept.
const BREATH: Duration = Duration::from_millis(100);
/// How long running requests may take once the process stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves `listener` until stopped, then lets running requests end.
///
/// A failed accept is logged and retried, because the cause (no descriptors left) passes.
pub async fn serve(app: AppState, listener: TcpListener, stop: CancellationToken) {
    let app = router(app);
    let open = Connections::new();
    let tracker = TaskTracker::new();
    limit_buffers(&listener);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, from)) => {
                // Without a slot the socket is closed here.
                if let Some(taken) = open.take(from.ip()) {
                    tracker.spawn(connection(socket, from, taken, app.clone(), stop.clone()));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                #[allow(clippy::disallowed_methods)]
                // The descriptors are not freed sooner by retrying at once.
                tokio::time::sleep(BREATH).await;
            }
        }
    }
    tracker.close();
    // A request that still runs after the grace period is cut off with the process.
    if tokio::time::timeout(FAREWELL, tracker.wait()).await.is_err() {
        tracing::warn!("connections were cut off: they had not ended in time");
    }
}

/// Sets the buffers that accepted sockets inherit. If the system refuses, its defaults apply.
fn limit_buffers(listener: &TcpListener) {
    let set = setsockopt(listener, sockopt::SndBuf, &SEND_BUFFER)
        .and_then(|()| setsockopt(listener, sockopt::RcvBuf, &RECEIVE_BUFFER));
    if let Err(error) = set {
        tracing::debug!(%error, "could not limit the buffers of connections");
    }
}

/// Limits how long the kernel holds unacknowledged data, even after the connection was closed on this side.
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
    let state = taken.state();
    let app = app
        .layer(Extension(PeerAddress(from)))
        .layer(Extension(Arc::clone(state)));
    let io = TokioIo::new(WriteDeadline::new(socket, Arc::clone(state)));
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
        () = state.evicted() => None,
        () = async { tokio::select! { () = stop.cancelled() => (), () = tokio::time::sleep_until(old) => () } } => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => Some(ended),
                () = state.evicted() => None,
                () = tokio::time::sleep_until(Instant::now() + FINAL_ANSWER) => None,
            }
        }
    };
    match ended {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!(%error, %from, "a connection ended early"),
        None => tracing::debug!(%from, "a connection was closed to make room"),
    }
}
