//! Refusals of the API: `application/problem+json` with a stable code, in English. Internal causes go to the log only.

use std::borrow::Cow;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use runner_core::chain::chain;
use runner_queue::{ActionError, BrokerError, Refusal};
use serde::Serialize;

use crate::web::page_error::PageError;

/// The media type of refusals, RFC 9457.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Why a call was refused.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct ApiProblem {
    /// The status of the answer, in words.
    title: &'static str,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// Stable; programs branch on it.
    #[schema(value_type = String)]
    code: Cow<'static, str>,
    /// What was wrong, for people.
    detail: String,
    /// What helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    hint: Option<String>,
    /// When to call again, in seconds.
    #[serde(skip)]
    #[schema(ignore)]
    retry_after: Option<u64>,
}

/// What a call gets if nothing can be said of the cause.
const RETRY_SECONDS: u64 = 5;

impl ApiProblem {
    /// A refusal.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code: Cow::Borrowed(code),
            detail: detail.into(),
            hint: None,
            retry_after: None,
        }
    }

    /// The same with what helps.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with another code, of a reason or a setting.
    #[must_use]
    pub fn code(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.code = code.into();
        self
    }

    /// The same with when to call again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds.max(1));
        self
    }

    /// There is no such thing: `queue`, its name.
    pub fn gone(what: &str, name: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "api_not_found",
            format!("there is no {what} {name:?}"),
        )
    }

    /// A value of a path, a query or a body that is not allowed.
    pub fn bad_value(name: &str, why: impl std::fmt::Display) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "api_bad_value",
            format!("{name}: {why}"),
        )
    }

    /// The state of things does not allow it.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "api_conflict", detail)
    }

    /// A fault that the layers around all addresses found.
    pub fn of_page(fault: &PageError) -> Self {
        let new = |status, code| Self::new(status, code, fault.to_string());
        match fault {
            PageError::NoPage => Self::new(StatusCode::NOT_FOUND, "api_no_path", "there is no such path")
                .hint("the paths are in openapi.json, beside this version's root"),
            PageError::Gone(what, name) => Self::gone(what, name),
            PageError::BadQuery(..) | PageError::BadForm => new(StatusCode::BAD_REQUEST, "api_bad_request"),
            PageError::WrongMedia => new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "api_media"),
            PageError::TooLarge => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "api_too_large",
                "the body is larger than this call takes",
            ),
            PageError::Method => Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "api_method",
                "the method is not allowed for this path",
            ),
            PageError::Forged | PageError::NoCookie => new(StatusCode::FORBIDDEN, "api_form_token"),
            PageError::CrossSite(_) | PageError::OtherOrigin { .. } => {
                new(StatusCode::FORBIDDEN, "api_other_site").hint("call with a token, and from no page of another site")
            }
            PageError::WrongHost(_) => new(StatusCode::MISDIRECTED_REQUEST, "api_wrong_host")
                .hint("add the name to server.allowed_hosts, or set server.public_url"),
            PageError::PassedOn(_) => new(StatusCode::MISDIRECTED_REQUEST, "api_passed_on")
                .hint("configure users, or name the proxy in server.trusted_proxies; see docs/proxy.md"),
            PageError::LoginNeeded => new(StatusCode::UNAUTHORIZED, "api_no_token"),
            PageError::Forbidden(_) => new(StatusCode::FORBIDDEN, "api_forbidden"),
            PageError::TooMany(rest) => new(StatusCode::TOO_MANY_REQUESTS, "api_too_many").retry_after(rest.as_secs()),
            PageError::SlowForm => Self::new(
                StatusCode::REQUEST_TIMEOUT,
                "api_slow_body",
                "the body did not arrive in time",
            ),
            PageError::Slow => new(StatusCode::SERVICE_UNAVAILABLE, "api_slow").retry_after(RETRY_SECONDS),
            PageError::Busy => new(StatusCode::SERVICE_UNAVAILABLE, "api_busy").retry_after(1),
            PageError::Broker(code) => new(StatusCode::SERVICE_UNAVAILABLE, code).retry_after(RETRY_SECONDS),
            PageError::Internal => new(StatusCode::INTERNAL_SERVER_ERROR, "api_internal"),
        }
    }
}

impl From<PageError> for ApiProblem {
    fn from(fault: PageError) -> Self {
        Self::of_page(&fault)
    }
}

impl From<BrokerError> for ApiProblem {
    fn from(error: BrokerError) -> Self {
        tracing::warn!(code = error.code(), error = %chain(&error), "the broker could not be asked for the API");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.code(), error.to_string()).retry_after(RETRY_SECONDS)
    }
}

impl From<ActionError> for ApiProblem {
    fn from(error: ActionError) -> Self {
        let detail = error.to_string();
        match error {
            ActionError::Broker(error) => error.into(),
            ActionError::NotFound(..) => Self::new(StatusCode::NOT_FOUND, "api_not_found", detail),
            ActionError::Invalid(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "api_bad_value", detail),
            ActionError::WrongState { .. } | ActionError::Never { .. } => Self::conflict(detail),
        }
    }
}

impl From<Refusal> for ApiProblem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::Duplicate => Self::conflict(detail).code("api_duplicate"),
            Refusal::IdTaken | Refusal::Received => Self::conflict(detail).code("api_id_taken"),
            Refusal::Invalid(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "api_bad_value", detail),
        }
    }
}

impl IntoResponse for ApiProblem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = self.retry_after;
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            let realm = HeaderValue::from_static("Bearer realm=\"runner\"");
            headers.insert(header::WWW_AUTHENTICATE, realm);
        }
        response
    }
}
