//! The listener: as many connections as there are seats, each with a limit for how long a request may dawdle.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::desk::Desk;
use super::pages::login::Peer;
use super::routes::router;

/// Connections at once; more wait in the system's backlog.
const SEATS: usize = 512;
/// How long a client may take to send the head of a request, also between two requests.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// The largest head, bytes.
const HEAD_SIZE: usize = 16 * 1024;
/// How long to wait after a connection could not be accepted.
const BREATH: Duration = Duration::from_millis(100);
/// How long requests in progress may take once the process stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// Answers on `listener` until stopped, then lets requests in progress end.
///
/// A failed accept is logged and tried again, since it passes (out of descriptors).
pub async fn serve(desk: Desk, listener: TcpListener, stop: CancellationToken) {
    let app = router(desk);
    let seats = Arc::new(Semaphore::new(SEATS));
    let tracker = TaskTracker::new();
    loop {
        let Ok(seat) = seats.clone().acquire_owned().await else {
            break;
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                let app = app.clone().layer(Extension(Peer(from)));
                let stop = stop.clone();
                tracker.spawn(async move {
                    connection(stream, app, stop).await;
                    drop(seat);
                });
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

async fn connection(stream: TcpStream, app: axum::Router, stop: CancellationToken) {
    let service = TowerToHyperService::new(app);
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(HEAD_SIZE)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
