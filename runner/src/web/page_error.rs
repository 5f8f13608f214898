//! Every fault of a request, its status, and the answer that carries it.
//!
//! Internal causes go to the log only. Not here: the page that the user sees (`error_page`).

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use runner_core::chain::chain;
use runner_queue::{ActionError, BrokerError};

use super::render::TemplateError;
use crate::access::UserRole;

/// Why a request failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PageError {
    /// No such page.
    #[error("no such page")]
    NoPage,
    /// No such queue, task or schedule: its kind (a key of the word list) and name.
    #[error("no such {0}: {1}")]
    Gone(&'static str, String),
    /// A query parameter is out of bounds: its name and the allowed values.
    #[error("{0} must be {1}")]
    BadQuery(&'static str, String),
    /// An unreadable form.
    #[error("the form cannot be read")]
    BadForm,
    /// A body that is not a form.
    #[error("the body must be a form")]
    WrongMedia,
    /// A body or a form that is too large.
    #[error("the form is too large")]
    TooLarge,
    /// The method is not allowed for this page.
    #[error("method not allowed")]
    Method,
    /// A form with the token of another browser or another login.
    #[error("the form's token is not this browser's")]
    Forged,
    /// A form without the cookie that its token belongs to.
    #[error("no cookie came with the form")]
    NoCookie,
    /// A form sent from another site, according to the browser: its origin, if given.
    #[error("sent by {0}")]
    CrossSite(String),
    /// A form from a page under a name that is not this server's.
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
    /// Forwarded by a proxy for another machine, to a dashboard without a login.
    #[error("passed on for {0}, and no login is asked for")]
    PassedOn(String),
    /// An action without a login.
    #[error("login needed")]
    LoginNeeded,
    /// An action beyond the user's role.
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
    /// All request permits are taken.
    #[error("too many requests at once")]
    Busy,
    /// The broker does not answer; its stable code.
    #[error("broker: {0}")]
    Broker(&'static str),
    /// An internal error; the cause is in the log.
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
    pub(super) fn word(&self) -> &'static str {
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

    /// The text for `{what}` in its sentences.
    pub(super) fn what(&self) -> String {
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

    /// The text for `{other}`.
    pub(super) fn other(&self) -> String {
        match self {
            Self::OtherOrigin { host, .. } => host.clone(),
            _ => String::new(),
        }
    }

    /// The broker's code if the word list explains it under `trouble.`, as on the overview.
    pub(super) fn trouble(&self) -> Option<&'static str> {
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

/// A refused action becomes a notice, not a page; only a missing broker is a fault.
pub(crate) fn refused(error: ActionError) -> Result<String, PageError> {
    match error {
        ActionError::Broker(error) => Err(error.into()),
        other => Ok(other.to_string()),
    }
}

impl IntoResponse for PageError {
    /// An empty answer that carries the fault; `error_page` turns it into a page.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use runner_core::task::{QueueName, TaskId};

    use super::*;

    #[test]
    fn each_fault_has_the_status_and_the_pause_that_clients_act_by() {
        let second = Duration::from_secs(1);
        for (fault, status, pause) in [
            (PageError::NoPage, 404, None),
            (PageError::Gone("task", "a".into()), 404, None),
            (PageError::BadQuery("page", "1 to 9".to_owned()), 400, None),
            (PageError::BadForm, 400, None),
            (PageError::WrongMedia, 415, None),
            (PageError::TooLarge, 413, None),
            (PageError::Method, 405, None),
            (PageError::Forged, 403, None),
            (PageError::Forbidden(UserRole::Admin), 403, None),
            (PageError::WrongHost("a".into()), 421, None),
            (PageError::LoginNeeded, 401, None),
            (PageError::TooMany(second * 90), 429, Some("90")),
            (PageError::TooMany(second / 2), 429, Some("1")),
            (PageError::SlowForm, 408, None),
            (PageError::Slow, 503, Some("5")),
            (PageError::Busy, 503, Some("1")),
            (PageError::Broker("broker_full"), 503, Some("5")),
            (PageError::Internal, 500, None),
        ] {
            let response = fault.clone().into_response();
            assert_eq!(response.status().as_u16(), status, "{fault}");
            let given = response
                .headers()
                .get(header::RETRY_AFTER)
                .map(|value| value.to_str().unwrap());
            assert_eq!(given, pause, "{fault}");
            assert!(response.extensions().get::<Arc<PageError>>().is_some(), "{fault}");
        }
    }

    #[test]
    fn a_refused_action_is_a_text_and_a_missing_broker_a_fault() {
        let missing = ActionError::NotFound(TaskId::new("a").unwrap(), QueueName::default());
        let text = missing.to_string();
        assert_eq!(refused(missing).unwrap(), text);
        let away = BrokerError::Corrupt {
            doing: "look at a task",
            what: "no type".to_owned(),
        };
        let code = away.code();
        assert!(matches!(refused(ActionError::Broker(away)), Err(PageError::Broker(found)) if found == code));
    }
}
