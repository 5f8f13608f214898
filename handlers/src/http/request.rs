//! The request of an HTTP call: address, method, headers, body.

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Body, Method, Request, Url};
use runner_core::function::{HttpBody, HttpSpec, is_json_type};
use runner_core::task::{TRACEPARENT, TRACESTATE};
use runner_sdk::{Ctx, TaskError, check_json};

use super::{HttpSettings, guard, sign};
use crate::context;
use crate::misconfigured::misconfigured;
use crate::secret::Secrets;

/// Makes the request, and refuses an address that is not allowed.
///
/// # Errors
///
/// An invalid definition is skipped, as is a payload that is not of the declared type; a secret that is missing here is
/// retried.
pub(super) fn build(
    spec: &HttpSpec,
    function: &str,
    settings: &HttpSettings,
    secrets: &mut Secrets,
    cx: &Ctx,
) -> Result<Request, TaskError> {
    let url = address(&spec.url, settings)?;
    let method = Method::from_bytes(spec.method.to_ascii_uppercase().as_bytes())
        .map_err(|_| TaskError::skip(format!("`{}` is not an HTTP method", spec.method)))?;
    let mut headers = own_headers(spec, secrets, cx)?;
    for (name, value) in context::headers(cx, function) {
        match name {
            // A manifest may name a trace of its own.
            TRACEPARENT | TRACESTATE => default(&mut headers, name, &value),
            _ => add(&mut headers, name, &value),
        }
    }
    default(&mut headers, "idempotency-key", cx.id().as_str());
    let body = match &spec.body {
        // A body has no meaning with these methods, and servers refuse it.
        _ if method == Method::GET || method == Method::HEAD => None,
        HttpBody::None => None,
        HttpBody::Payload => Some(cx.payload().clone()).filter(|b| !b.is_empty()),
        HttpBody::Text(text) => Some(text.clone().into()),
    };
    if body.is_some() {
        default(&mut headers, CONTENT_TYPE.as_str(), "application/json");
    }
    if let (HttpBody::Payload, Some(payload)) = (&spec.body, &body) {
        check_declared_json(payload, &headers)?;
    }
    if let Some(secret) = &spec.sign_secret {
        let secret = secrets.resolve(secret).map_err(|e| e.into_error(cx))?;
        if secret.is_empty() {
            return Err(misconfigured("http.sign.secret is empty", cx));
        }
        sign::sign(&mut headers, secret.as_bytes(), body.as_deref().unwrap_or_default())?;
    }
    let mut request = Request::new(method, url);
    *request.headers_mut() = headers;
    *request.body_mut() = body.map(Body::from);
    Ok(request)
}

/// Refuses a payload that is declared as JSON and is not: no server can read it, now or later.
fn check_declared_json(payload: &[u8], headers: &HeaderMap) -> Result<(), TaskError> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let Some(content_type) = content_type.filter(|text| is_json_type(text)) else {
        return Ok(());
    };
    check_json(payload).map_err(|why| {
        TaskError::skip(format!(
            "the payload is not JSON ({why}), and the call sends it as {content_type}; for other payloads set \
             http.headers.Content-Type in the manifest"
        ))
    })
}

fn address(text: &str, settings: &HttpSettings) -> Result<Url, TaskError> {
    let url = Url::parse(text).map_err(|e| TaskError::skip(format!("the URL is wrong: {e}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        let scheme = url.scheme();
        return Err(TaskError::skip(format!("the URL must be http or https, not {scheme}")));
    }
    guard::check(&url, settings).map_err(TaskError::skip)?;
    Ok(url)
}

/// The manifest's headers, with their secrets.
fn own_headers(spec: &HttpSpec, secrets: &mut Secrets, cx: &Ctx) -> Result<HeaderMap, TaskError> {
    let mut headers = HeaderMap::new();
    for (name, text) in &spec.headers {
        let wrong = || TaskError::skip(format!("the header `{name}` cannot be sent"));
        let value = secrets.resolve(text).map_err(|e| e.into_error(cx))?;
        let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?, value);
    }
    Ok(headers)
}

/// Sets one of our headers. A value from outside that no header can hold is left out.
fn add(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let (Ok(name), Ok(value)) = (
        HeaderName::from_bytes(name.as_bytes()),
        HeaderValue::from_bytes(value.as_bytes()),
    ) {
        headers.insert(name, value);
    }
}

/// Sets a header unless the manifest did.
fn default(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if !headers.contains_key(name) {
        add(headers, name, value);
    }
}
