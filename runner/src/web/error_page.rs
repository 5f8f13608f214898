//! Everything that can be wrong with a request, and the page that says so.
//!
//! A page of this kind names what failed and what to do; what lies inside the program goes to the log only.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use runner_core::chain::chain;
use runner_queue::{ActionError, BrokerError};
use serde::Serialize;

use super::app_state::AppState;
use super::guard::admit;
use super::layout;
use super::render::{PageTemplate, TemplateError};
use super::request_context::{RequestContext, SharedContext};
use super::settings::UserRole;

/// Why a request did not get what it asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PageError {
    /// No such page.
    #[error("no such page")]
    NoPage,
    /// No such queue, task or schedule: its kind (a key of the word list) and name.
    #[error("no such {0}: {1}")]
    Gone(&'static str, String),
    /// A query parameter is out of bounds: its name and what is allowed.
    #[error("{0} must be {1}")]
    BadQuery(&'static str, &'static str),
    /// A form that cannot be read.
    #[error("the form cannot be read")]
    BadForm,
    /// A body that is not a form.
    #[error("the body must be a form")]
    WrongMedia,
    /// A body or a form that is too large.
    #[error("the form is too large")]
    TooLarge,
    /// This method is not for this page.
    #[error("method not allowed")]
    Method,
    /// A form with the token of another browser or another login.
    #[error("the form's token is not this browser's")]
    Forged,
    /// A form without the cookie that its token belongs to.
    #[error("no cookie came with the form")]
    NoCookie,
    /// A form that the browser says another site sent: its origin, if it says so.
    #[error("sent by {0}")]
    CrossSite(String),
    /// A form from a page under a name that is none of this server's.
    #[error("sent by {origin}, but this server was asked for {host}")]
    OtherOrigin {
        /// The page's origin.
        origin: String,
        /// The host that the request was for.
        host: String,
    },
    /// For another host name.
    #[error("request for another host, {0}")]
    WrongHost(String),
    /// Passed on by a proxy for another machine, to a dashboard that asks for no login.
    #[error("passed on for {0}, and no login is asked for")]
    PassedOn(String),
    /// An action of somebody who is not logged in.
    #[error("login needed")]
    LoginNeeded,
    /// An action beyond the cx's role.
    #[error("needs role {}", .0.as_str())]
    Forbidden(UserRole),
    /// Too many wrong passwords.
    #[error("too many attempts")]
    TooMany(Duration),
    /// The request took too long.
    #[error("took too long")]
    Slow,
    /// The form did not arrive in time.
    #[error("the form did not arrive in time")]
    SlowForm,
    /// As many requests are worked on as there are places.
    #[error("too many requests at once")]
    Busy,
    /// The broker cannot be asked; its stable code.
    #[error("broker: {0}")]
    Broker(&'static str),
    /// A fault of ours; the cause is in the log.
    #[error("internal error")]
    Internal,
}

impl PageError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoPage | Self::Gone(..) => StatusCode::NOT_FOUND,
            Self::BadQuery(..) | Self::BadForm => StatusCode::BAD_REQUEST,
            Self::WrongMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Forged | Self::NoCookie | Self::CrossSite(_) | Self::OtherOrigin { .. } | Self::Forbidden(_) => {
                StatusCode::FORBIDDEN
            }
            Self::WrongHost(_) | Self::PassedOn(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::LoginNeeded => StatusCode::UNAUTHORIZED,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::SlowForm => StatusCode::REQUEST_TIMEOUT,
            Self::Slow | Self::Busy | Self::Broker(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The part of the keys in the word list: `fault.<word>.title`, `.text`, `.hint`.
    fn word(&self) -> &'static str {
        match self {
            Self::NoPage => "no-page",
            Self::Gone(what, _) => what,
            Self::BadQuery(..) => "bad-query",
            Self::BadForm | Self::WrongMedia => "bad-form",
            Self::TooLarge => "too-large",
            Self::Method => "method",
            Self::Forged => "forged",
            Self::NoCookie => "no-cookie",
            Self::CrossSite(_) => "cross-site",
            Self::OtherOrigin { .. } => "other-origin",
            Self::WrongHost(_) => "wrong-host",
            Self::PassedOn(_) => "passed-on",
            Self::LoginNeeded => "login-needed",
            Self::Forbidden(_) => "forbidden",
            Self::TooMany(_) => "too-many",
            Self::Slow => "slow",
            Self::SlowForm => "slow-form",
            Self::Busy => "busy",
            Self::Broker(_) => "broker",
            Self::Internal => "internal",
        }
    }

    /// The text that `{what}` stands for in its sentences.
    fn what(&self) -> String {
        match self {
            Self::Gone(_, name) | Self::WrongHost(name) | Self::PassedOn(name) | Self::CrossSite(name) => name.clone(),
            Self::OtherOrigin { origin, .. } => origin.clone(),
            Self::BadQuery(name, allowed) => format!("{name}: {allowed}"),
            Self::Forbidden(role) => role.as_str().to_owned(),
            Self::TooMany(rest) => rest.as_secs().max(1).to_string(),
            Self::Broker(code) => (*code).to_owned(),
            _ => String::new(),
        }
    }

    /// The text that `{other}` stands for.
    fn other(&self) -> String {
        match self {
            Self::OtherOrigin { host, .. } => host.clone(),
            _ => String::new(),
        }
    }

    /// The code that the word list explains under `trouble.`: what is wrong with the broker, as on the first page.
    fn trouble(&self) -> Option<&'static str> {
        match self {
            Self::Broker(code) => Some(code),
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::TooMany(rest) => Some(rest.as_secs().max(1)),
            Self::Slow | Self::Broker(_) => Some(5),
            Self::Busy => Some(1),
            _ => None,
        }
    }
}

impl From<BrokerError> for PageError {
    fn from(error: BrokerError) -> Self {
        let chain = chain(&error);
        tracing::warn!(code = error.code(), error = %chain, "the broker could not be asked for a page");
        Self::Broker(error.code())
    }
}

impl From<TemplateError> for PageError {
    fn from(error: TemplateError) -> Self {
        tracing::error!(error = %chain(&error), "a page could not be rendered");
        Self::Internal
    }
}

/// An action that was refused comes back as a notice, not as a page; only a broker that is gone is a fault.
pub(crate) fn refused(error: ActionError) -> Result<String, PageError> {
    match error {
        ActionError::Broker(error) => Err(error.into()),
        other => Ok(other.to_string()),
    }
}

impl IntoResponse for PageError {
    /// A bare answer that carries the fault; [`dress`] makes a page of it.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        if let Some(seconds) = self.retry_after() {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// The page of a fault.
#[derive(Debug, Serialize)]
struct ErrorPage {
    status: u16,
    word: &'static str,
    what: String,
    other: String,
    trouble: Option<&'static str>,
}

impl PageTemplate for ErrorPage {
    const TEMPLATE: &'static str = "fault.html";
}

/// Turns bare answers that carry a fault into pages, in the cx's language.
pub async fn add_error_page(State(app): State<AppState>, request: Request, next: Next) -> Response {
    let bodiless = *request.method() == Method::HEAD;
    let lang = admit::language(request.headers());
    let response = next.run(request).await;
    let Some(fault) = response.extensions().get::<Arc<PageError>>().cloned() else {
        return response;
    };
    let stranger = || Arc::new(RequestContext::unknown(lang, app.clock.now()));
    let cx = response
        .extensions()
        .get::<SharedContext>()
        .cloned()
        .unwrap_or_else(stranger);
    let page = ErrorPage {
        status: response.status().as_u16(),
        word: fault.word(),
        what: fault.what(),
        other: fault.other(),
        trouble: fault.trouble(),
    };
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    let body = match layout::html(&app, &cx, layout::NavSection::None, &page) {
        Ok(text) if !bodiless => text,
        Ok(_) => String::new(),
        // The page for faults has a fault itself: say it in a word rather than not at all.
        Err(_) => fault.to_string(),
    };
    parts.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    Response::from_parts(parts, body.into())
}
