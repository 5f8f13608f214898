//! The meaning of an answer for the task: the table of statuses, and `Retry-After`.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use runner_core::function::HttpSpec;
use runner_sdk::{Outcome, TaskError};

use crate::MAX_RETRY_AFTER;

/// Maximum bytes of an answer that become part of an error text.
const ERROR_BODY_BYTES: usize = 2 * 1024;

/// The outcome of an answer.
pub(super) fn outcome(
    spec: &HttpSpec,
    status: StatusCode,
    headers: &HeaderMap,
    body: Vec<u8>,
) -> Result<Outcome, TaskError> {
    let within = |ranges: &[(u16, u16)]| {
        let code = status.as_u16();
        ranges.iter().any(|(from, to)| (*from..=*to).contains(&code))
    };
    if within(&spec.success) {
        return Ok(Outcome::Success((!body.is_empty()).then(|| body.into())));
    }
    let error = text(status, &body);
    if !within(&spec.retry_on) {
        return Err(TaskError::skip(error));
    }
    let may_set_delay = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
    match retry_after(headers).filter(|_| may_set_delay.contains(&status)) {
        Some(after) => Err(TaskError::retry_after(after, error)),
        None => Err(TaskError::retry(error)),
    }
}

/// The status, its meaning for people, and the beginning of the body.
fn text(status: StatusCode, body: &[u8]) -> String {
    let mut text = format!("status {status}");
    if status.is_redirection() {
        text.push_str(" (redirects are not followed)");
    } else if status == StatusCode::GONE {
        text.push_str(" (gone for good: disable this function)");
    }
    let body = String::from_utf8_lossy(&body[..body.len().min(ERROR_BODY_BYTES)]);
    if !body.trim().is_empty() {
        text.push_str(": ");
        text.push_str(body.trim());
    }
    text
}

/// The delay that the server asks for: seconds, or a date relative to the server's own clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = if value.bytes().all(|b| b.is_ascii_digit()) {
        // Too many digits for a number still mean "very long".
        value.parse().unwrap_or(u64::MAX)
    } else {
        let now = date(headers, DATE)?;
        let wait = date(headers, RETRY_AFTER)?.as_second() - now.as_second();
        u64::try_from(wait).unwrap_or(0)
    };
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

fn date(headers: &HeaderMap, name: HeaderName) -> Option<Timestamp> {
    let text = headers.get(name)?.to_str().ok()?;
    let zoned = jiff::fmt::rfc2822::parse(text.trim()).ok()?;
    Some(zoned.timestamp())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn answered(status: u16, headers: &[(&str, &str)]) -> Outcome {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.insert(name, value.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        let spec = HttpSpec::new("http://example.com/");
        let ended = outcome(&spec, status, &map, b"why".to_vec());
        ended.unwrap_or_else(TaskError::into_outcome)
    }

    #[test]
    fn the_table_of_statuses() {
        for status in [200, 201, 204, 299] {
            assert_eq!(answered(status, &[]), Outcome::success("why"), "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 599] {
            assert!(matches!(answered(status, &[]), Outcome::Retry(_)), "{status}");
        }
        for status in [301, 302, 304, 400, 401, 403, 404, 410, 422, 600] {
            assert!(matches!(answered(status, &[]), Outcome::Skip(_)), "{status}");
        }
        let Outcome::Skip(text) = answered(410, &[]) else {
            panic!("410 was not skipped")
        };
        assert_eq!(text, "status 410 Gone (gone for good: disable this function): why");
    }

    #[test]
    fn the_server_may_set_the_delay() {
        let waits = |status, headers: &[(&str, &str)]| match answered(status, headers) {
            Outcome::RetryAfter { after, .. } => Some(after.as_secs()),
            _ => None,
        };
        let at = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let until = ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT");
        assert_eq!(waits(429, &[("retry-after", "7")]), Some(7));
        assert_eq!(waits(503, &[at, until]), Some(30));
        assert_eq!(waits(503, &[("date", until.1), ("retry-after", at.1)]), Some(0));
        for forever in ["999999", "99999999999999999999999999"] {
            assert_eq!(waits(503, &[("retry-after", forever)]), Some(3600));
        }
        assert_eq!(waits(503, &[until]), None, "no clock to measure it by");
        for odd in ["soon", "-5", "1.5"] {
            assert_eq!(waits(429, &[("retry-after", odd)]), None, "{odd}");
        }
        assert_eq!(waits(500, &[("retry-after", "7")]), None);
        assert_eq!(waits(404, &[("retry-after", "7")]), None);
    }
}
