//! The meaning of an answer for the task: the table of statuses, and `Retry-After`.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use runner_core::function::HttpSpec;
use runner_sdk::{Bytes, Outcome, TaskError};
use serde_json::{Value, json};

use crate::MAX_RETRY_AFTER;

/// Maximum bytes of an answer that become part of an error text.
const ERROR_BODY_BYTES: usize = 2 * 1024;

/// Headers that are kept with a result: what people look for, and nothing that could be a credential.
const KEPT_HEADERS: [&str; 10] = [
    "content-type",
    "content-length",
    "date",
    "etag",
    "last-modified",
    "location",
    "retry-after",
    "server",
    "x-request-id",
    "x-correlation-id",
];

/// An answer, with its body as far as it was read.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// Whether there was no more.
    pub(super) whole: bool,
    /// Why it is an unfollowed redirect, if it is one.
    pub(super) not_followed: Option<&'static str>,
}

impl Answer {
    /// The outcome; `kept` is the result of a success.
    pub(super) fn outcome(self, spec: &HttpSpec, kept: Option<Bytes>) -> Result<Outcome, TaskError> {
        let within = |ranges: &[(u16, u16)]| {
            let code = self.status.as_u16();
            ranges.iter().any(|(from, to)| (*from..=*to).contains(&code))
        };
        if within(&spec.success) {
            return Ok(Outcome::Success(kept));
        }
        let error = self.text();
        if !within(&spec.retry_on) {
            return Err(TaskError::skip(error));
        }
        let may_set_delay = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
        match retry_after(&self.headers).filter(|_| may_set_delay.contains(&self.status)) {
            Some(after) => Err(TaskError::retry_after(after, error)),
            None => Err(TaskError::retry(error)),
        }
    }

    /// The status, its meaning for people, and the beginning of the body.
    fn text(&self) -> String {
        let mut text = format!("status {}", self.status);
        if let Some(why) = self.not_followed {
            text.push_str(&format!(" ({why})"));
        } else if self.status == StatusCode::GONE {
            text.push_str(" (gone for good: disable this function)");
        }
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(ERROR_BODY_BYTES)]);
        if !body.trim().is_empty() {
            text.push_str(": ");
            text.push_str(body.trim());
        }
        text
    }

    /// Status, headers and body; a body that is JSON as JSON, otherwise as text.
    pub(super) fn as_json(&self) -> Vec<u8> {
        let kept = |name: &&str| Some(((*name).to_owned(), self.headers.get(*name)?.to_str().ok()?.into()));
        let headers: serde_json::Map<String, Value> = KEPT_HEADERS.iter().filter_map(kept).collect();
        let body = match serde_json::from_slice(&self.body) {
            Ok(json) if self.whole => json,
            _ => Value::from(String::from_utf8_lossy(&self.body)),
        };
        let mut all = json!({"status": self.status.as_u16(), "headers": headers, "body": body});
        if !self.whole {
            all["truncated"] = true.into();
        }
        all.to_string().into_bytes()
    }
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
        let answer = Answer {
            status,
            headers: map,
            body: b"why".to_vec(),
            whole: true,
            not_followed: None,
        };
        let ended = answer.outcome(&spec, Some("why".into()));
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
