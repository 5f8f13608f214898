//! Security headers of every answer, errors included.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

/// Nothing inline, nothing from other sites, no framing. The only `connect-src` refreshes a page.
pub const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

const ALWAYS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("x-robots-tag"), "noindex"),
];

/// Bodies up to this length arrive with the head of their request, and are read with it.
const READ_WITH_HEAD: u64 = 8 * 1024;

/// Adds them. A refusal whose request has a body that may not have been read also says that the connection ends: a client that
/// used it for its next request would get no answer.
pub async fn add(request: Request, next: Next) -> Response {
    let unread = may_be_unread(request.headers());
    let mut response = next.run(request).await;
    let refused = response.status().is_client_error() || response.status().is_server_error();
    let headers = response.headers_mut();
    if unread && refused {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("private, no-store"));
    response
}

fn may_be_unread(headers: &HeaderMap) -> bool {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok());
    match length.map(str::parse::<u64>) {
        Some(length) => length.is_ok_and(|length| length > READ_WITH_HEAD),
        None => headers.contains_key(header::TRANSFER_ENCODING),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_may_not_have_been_read_is_long_or_of_unknown_length() {
        let of = |name, value| HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
        let unread = [
            may_be_unread(&HeaderMap::new()),
            may_be_unread(&of(header::CONTENT_LENGTH, "8192")),
            may_be_unread(&of(header::CONTENT_LENGTH, "8193")),
            may_be_unread(&of(header::TRANSFER_ENCODING, "chunked")),
        ];
        assert_eq!(unread, [false, false, true, true]);
    }
}
