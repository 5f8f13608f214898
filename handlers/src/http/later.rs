//! Long work behind a call: the server answers at once that it continues, and reports its end later.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Request, StatusCode};
use runner_sdk::{Callback, Ctx, Outcome, TaskError};

/// What the report must carry.
const TOKEN: HeaderName = HeaderName::from_static("x-runner-complete-token");

/// Where the report goes, on any instance that serves pages.
const PATH: HeaderName = HeaderName::from_static("x-runner-complete-path");

/// `true` in an answer: the work continues.
const CONTINUES: HeaderName = HeaderName::from_static("x-runner-async");

/// Says in the request how its end may be reported later.
pub(super) fn announce(request: &mut Request, callback: &Callback, cx: &Ctx) {
    let path = format!("/queue/api/tasks/{}/complete", encoded(cx.id().as_str()));
    for (name, value) in [(TOKEN, callback.token()), (PATH, path.as_str())] {
        if let Ok(mut value) = HeaderValue::try_from(value) {
            value.set_sensitive(true);
            request.headers_mut().insert(name, value);
        }
    }
}

/// Whether the server says that the work continues.
pub(super) fn continues(status: StatusCode, headers: &HeaderMap) -> bool {
    let says_so = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"true");
    status == StatusCode::ACCEPTED && headers.get(CONTINUES).is_some_and(says_so)
}

/// Waits for the report; the caller bounds that by the limit of the attempt.
pub(super) async fn wait(callback: &Callback, host: &str, cx: &Ctx) -> Result<Outcome, TaskError> {
    cx.log().push(
        "log",
        &format!("{host} continues with the work; waiting for its report"),
    );
    let outcome = callback.reported().await;
    cx.log().push("log", "the report has arrived");
    Ok(outcome)
}

/// One path segment.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_stays_one_segment() {
        assert_eq!(encoded("m:a@1/b ?空"), "m%3Aa%401%2Fb%20%3F%E7%A9%BA");
    }

    #[test]
    fn only_a_202_that_says_so_continues() {
        let headers = |value: &'static str| HeaderMap::from_iter([(CONTINUES, HeaderValue::from_static(value))]);
        assert!(continues(StatusCode::ACCEPTED, &headers("true")));
        assert!(continues(StatusCode::ACCEPTED, &headers("True")));
        assert!(!continues(StatusCode::ACCEPTED, &headers("false")));
        assert!(!continues(StatusCode::ACCEPTED, &HeaderMap::new()));
        assert!(!continues(StatusCode::OK, &headers("true")));
    }
}
