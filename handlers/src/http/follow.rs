//! Sends a request and follows redirects, if the manifest allows any: to the same host only, never from `https` to `http`,
//! and each address is checked as the first one was.

use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Client, Method, Request, Response, StatusCode, Url};
use runner_core::function::HttpSpec;
use runner_sdk::{Ctx, TaskError};

use super::{HttpSettings, failed, guard, sign};

/// The answer that counts.
pub(super) struct FinalAnswer {
    pub(super) response: Response,
    /// Why it is an unfollowed redirect, if it is one.
    pub(super) not_followed: Option<&'static str>,
}

/// Sends the request.
pub(super) async fn send(
    client: &Client,
    mut request: Request,
    spec: &HttpSpec,
    settings: &HttpSettings,
    cx: &Ctx,
) -> Result<FinalAnswer, TaskError> {
    let mut left = spec.redirects;
    loop {
        let from = request.url().clone();
        let host = from.host_str().unwrap_or_default().to_owned();
        // Bodies are in memory, so a copy always exists; and costs nothing, because they are shared.
        let again = request.try_clone().filter(|_| left > 0);
        let response = client.execute(request).await.map_err(|e| failed(&host, e, cx))?;
        let answer = |response, not_followed| Ok(FinalAnswer { response, not_followed });
        if !is_redirect(response.status()) {
            return answer(response, None);
        }
        let Some(next) = again else {
            let why = match spec.redirects {
                0 => "redirects are not followed",
                _ => "too many redirects",
            };
            return answer(response, Some(why));
        };
        let Some(to) = target(&from, &response) else {
            return answer(response, Some("without a usable Location"));
        };
        if !is_same_host(&from, &to) {
            return answer(response, Some("redirects to another host are not followed"));
        }
        guard::check(&to, settings).map_err(TaskError::skip)?;
        cx.log().push(
            "log",
            &format!("{host} answered {} and was followed", response.status()),
        );
        left -= 1;
        request = redirected(next, to, response.status());
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where the answer points to.
fn target(from: &Url, response: &Response) -> Option<Url> {
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let to = from.join(location).ok()?;
    let plain = to.username().is_empty() && to.password().is_none();
    (plain && matches!(to.scheme(), "http" | "https")).then_some(to)
}

/// Whether both are one server, or the same one with TLS.
fn is_same_host(from: &Url, to: &Url) -> bool {
    let same_port = from.port_or_known_default() == to.port_or_known_default();
    let same_host = from.host_str() == to.host_str();
    match (from.scheme(), to.scheme()) {
        (a, b) if a == b => same_host && same_port,
        // The usual ports of both, or one port.
        ("http", "https") => same_host && (same_port || (from.port().is_none() && to.port().is_none())),
        _ => false,
    }
}

/// 307 and 308 repeat the request; the others ask for the target, as browsers do.
fn redirected(mut request: Request, to: Url, status: StatusCode) -> Request {
    *request.url_mut() = to;
    let repeats = matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    let is_plain = request.method() == Method::GET || request.method() == Method::HEAD;
    if !repeats && !is_plain {
        *request.method_mut() = Method::GET;
        *request.body_mut() = None;
        for header in [CONTENT_TYPE, CONTENT_LENGTH, sign::SIGNATURE, sign::TIMESTAMP] {
            request.headers_mut().remove(header);
        }
    }
    request
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_the_same_host_is_followed() {
        for (from, to, same) in [
            ("http://a/x", "http://a/y", true),
            ("http://a:80/", "http://a/", true),
            ("http://A/", "http://a/", true),
            ("http://a/", "https://a/", true),
            ("http://a:8080/", "https://a:8080/", true),
            ("http://a:8080/", "https://a/", false),
            ("https://a/", "http://a/", false),
            ("http://a/", "http://b/", false),
            ("http://a/", "http://a:81/", false),
            ("http://a/", "http://a.b/", false),
            ("http://a/", "http://169.254.169.254/", false),
            ("http://a/", "http://127.0.0.1/", false),
        ] {
            let (from, to) = (Url::parse(from).unwrap(), Url::parse(to).unwrap());
            assert_eq!(is_same_host(&from, &to), same, "{from} {to}");
        }
    }
}
