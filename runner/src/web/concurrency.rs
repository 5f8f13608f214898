//! Limits how many requests run at once, scrapes and pages separately; request bodies are read before that.
//!
//! Not here: who may request what (`guard`).

use std::sync::Arc;
use std::time::Duration;

use axum::body::{self, Body};
use axum::extract::{Request, State};
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use super::connections::{ConnectionState, PAGES, SCRAPES};
use super::guard::admit;
use super::hook_limits::is_hook;
use super::page_error::PageError;

/// How long a client may take to send a form; ours have a few hundred bytes.
const BODY_TIME: Duration = Duration::from_secs(10);
/// How long a request waits for others from its address; a browser shows nothing meanwhile.
const SHARE_TIME: Duration = Duration::from_secs(10);
/// Pages that start between two polls of the sockets: enough to keep a few cores busy.
const TURNS: usize = 4;

/// Permits for running requests.
#[derive(Debug, Clone)]
pub struct RequestLimits {
    pages: Arc<Semaphore>,
    scrapes: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            pages: Arc::new(Semaphore::new(PAGES)),
            scrapes: Arc::new(Semaphore::new(SCRAPES)),
            turns: Arc::new(Semaphore::new(TURNS)),
        }
    }
}

impl RequestLimits {
    /// Waits until this page may start: in order of arrival, and only a few between two polls of the sockets. Hundreds
    /// of pipelined requests thus delay a probe by a few pages, not by all of them.
    async fn turn(&self) {
        let turn = self.turns.acquire().await;
        // Yields with the permit held: the runtime polls the sockets before the next page gets it.
        tokio::task::yield_now().await;
        drop(turn);
    }
}

/// Runs a request once its body has arrived and a permit is free. If the permits of its own address are taken it waits,
/// and its connection may still be evicted; if all permits are taken it is refused.
///
/// The order matters: body, permit of the address, global permit. Holding a global permit while waiting for a slow
/// client or for other requests of its address would let one address block all others.
pub async fn pass(State(gate): State<RequestLimits>, request: Request, next: Next) -> Response {
    if is_hook(request.uri().path()) {
        // They have limits of their own, because their bodies may be larger and they may wait.
        gate.turn().await;
        return next.run(request).await;
    }
    let request = match read_body(request).await {
        Ok(request) => request,
        Err(fault) => return fault.into_response(),
    };
    let state = request.extensions().get::<Arc<ConnectionState>>().cloned();
    let is_scrape = match request.uri().path() {
        // Not limited: they must answer while everything else is busy.
        "/healthz" | "/readyz" => {
            let _active = state.as_ref().map(ConnectionState::answering);
            return next.run(request).await;
        }
        path => path == "/metrics",
    };
    let share = state.as_ref().map(|state| match is_scrape {
        true => &state.share().scrapes,
        false => &state.share().pages,
    });
    let _of_share = match share {
        None => None,
        Some(share) => match tokio::time::timeout(SHARE_TIME, share.acquire()).await {
            Ok(place) => Some(place),
            Err(_) => return PageError::Busy.into_response(),
        },
    };
    let places = match is_scrape {
        true => &gate.scrapes,
        false => {
            gate.turn().await;
            &gate.pages
        }
    };
    // Refused instead of queued: a queue here would only hide the overload and hold the memory of the requests.
    let Ok(_place) = places.try_acquire() else {
        return PageError::Busy.into_response();
    };
    // From here on the connection must not be evicted: the client is waiting for us, not we for it.
    let _active = state.as_ref().map(ConnectionState::answering);
    next.run(request).await
}

/// Reads the whole body, up to the size of a form. Until then the connection may be evicted like any other that waits
/// for its client.
async fn read_body(request: Request) -> Result<Request, PageError> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(request);
    }
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let limit = admit::body_limit(request.uri().path());
    // Refuse by the header, before a byte of the body is buffered.
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(PageError::TooLarge);
    }
    let (parts, rest) = request.into_parts();
    let read = tokio::time::timeout(BODY_TIME, body::to_bytes(rest, limit)).await;
    match read {
        Ok(Ok(bytes)) => Ok(Request::from_parts(parts, Body::from(bytes))),
        Ok(Err(_)) => Err(PageError::TooLarge),
        Err(_) => Err(PageError::SlowForm),
    }
}
