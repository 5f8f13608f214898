//! How many requests are worked on at once, scrapes apart from pages; bodies are read before that.
//!
//! Who may ask for what is decided further in, by `guard`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{self, Body};
use axum::extract::{Request, State};
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use super::connections::{ConnectionState, PAGES, SCRAPES};
use super::error_page::PageError;
use super::guard::admit;

/// How long a client may take to send a form; ours have a few hundred bytes.
const BODY_TIME: Duration = Duration::from_secs(10);
/// How long a request waits for the others of its address; a browser shows nothing meanwhile.
const SHARE_TIME: Duration = Duration::from_secs(10);
/// Pages that begin between two looks at the sockets: enough to keep some processors busy.
const TURNS: usize = 4;

/// Places for requests that are worked on.
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
    /// Returns when it is this page's turn to begin: in the order in which they came, and few between two looks at the
    /// sockets. Hundreds of requests sent ahead thus delay a probe by a few pages, not by all of them.
    async fn turn(&self) {
        let turn = self.turns.acquire().await;
        tokio::task::yield_now().await;
        drop(turn);
    }
}

/// Lets a request in once its body is there, if there is a place. One that finds the places of its own address taken
/// waits for them, while its connection may be closed like any other; one that finds all places taken is refused.
pub async fn pass(State(gate): State<RequestLimits>, request: Request, next: Next) -> Response {
    let request = match whole(request).await {
        Ok(request) => request,
        Err(fault) => return fault.into_response(),
    };
    let is_scrape = match request.uri().path() {
        "/healthz" | "/readyz" => return next.run(request).await,
        path => path == "/metrics",
    };
    let seat = request.extensions().get::<Arc<ConnectionState>>().cloned();
    let share = seat.as_ref().map(|seat| match is_scrape {
        true => &seat.share().scrapes,
        false => &seat.share().pages,
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
    let Ok(_place) = places.try_acquire() else {
        return PageError::Busy.into_response();
    };
    let _seat = seat.as_ref().map(ConnectionState::answering);
    next.run(request).await
}

/// The request with its body read, up to the size of a form. Until then its connection may be closed like any other
/// that waits for its client.
async fn whole(request: Request) -> Result<Request, PageError> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(request);
    }
    let said = request.headers().get(header::CONTENT_LENGTH);
    let said = said.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if said.is_some_and(|length| length > admit::FORM_LIMIT as u64) {
        return Err(PageError::TooLarge);
    }
    let (parts, rest) = request.into_parts();
    let read = tokio::time::timeout(BODY_TIME, body::to_bytes(rest, admit::FORM_LIMIT)).await;
    match read {
        Ok(Ok(bytes)) => Ok(Request::from_parts(parts, Body::from(bytes))),
        Ok(Err(_)) => Err(PageError::TooLarge),
        Err(_) => Err(PageError::SlowForm),
    }
}
