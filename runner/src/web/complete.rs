//! `POST /queue/api/tasks/{id}/complete`: the server that does the work of a task reports its end. The right to do so is the
//! token that the run gave away, so no login and no form is asked for.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use runner_core::chain::chain;
use runner_queue::{MAX_ERROR_BYTES, ReportedOutcome, WorkReport, awaited_task, report};
use serde::Deserialize;
use serde_json::{Value, json};

use super::app_state::AppState;

/// Longest token that is looked up; ours have 64 characters.
const MAX_TOKEN: usize = 128;

/// A report as it is sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SentReport {
    outcome: ReportedOutcome,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    error: String,
}

/// The handler.
pub async fn complete(
    State(app): State<AppState>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(token) = token_of(&headers) else {
        return refused(StatusCode::UNAUTHORIZED, "send the token: Authorization: Bearer TOKEN");
    };
    let sent = match parse(&body) {
        Ok(sent) => sent,
        Err(why) => return refused(StatusCode::BAD_REQUEST, &why),
    };
    let awaited = match awaited_task(&*app.broker, token).await {
        Ok(Some(awaited)) if awaited.task.as_str() == id => awaited,
        Ok(_) => {
            return refused(
                StatusCode::NOT_FOUND,
                "no report of this task is awaited with this token",
            );
        }
        Err(error) => return failed(&error),
    };
    let counts = match report(&*app.broker, token, &sent).await {
        Ok(counts) => counts,
        Err(error) => return failed(&error),
    };
    tracing::info!(
        target: "audit", action = "task.complete", on = %format!("{}/{}", awaited.queue, awaited.task),
        actor = "token", reported = ?sent.outcome, outcome = if counts { "done" } else { "refused" }
    );
    match counts {
        true => (StatusCode::OK, Json(json!({"status": "accepted"}))).into_response(),
        false => refused(
            StatusCode::CONFLICT,
            "the attempt stopped waiting, or another end was reported before",
        ),
    }
}

fn token_of(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= MAX_TOKEN).then_some(token)
}

/// Without a body it is a success.
fn parse(body: &[u8]) -> Result<WorkReport, String> {
    let mut sent = SentReport {
        outcome: ReportedOutcome::Success,
        result: Value::Null,
        error: String::new(),
    };
    if !body.is_empty() {
        sent = serde_json::from_slice(body).map_err(|e| {
            format!("the body must be JSON such as {{\"outcome\": \"success\", \"result\": …}}; outcome is success, retry or fatal: {e}")
        })?;
    }
    let SentReport {
        outcome,
        result,
        mut error,
    } = sent;
    error.truncate(error.floor_char_boundary(MAX_ERROR_BYTES));
    if error.is_empty() && outcome != ReportedOutcome::Success {
        "reported without a reason".clone_into(&mut error);
    }
    let result = match result {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    };
    Ok(WorkReport { outcome, result, error })
}

fn refused(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({"error": why}))).into_response()
}

fn failed(error: &runner_queue::BrokerError) -> Response {
    tracing::warn!(error = %chain(error), "a report could not be taken");
    refused(StatusCode::SERVICE_UNAVAILABLE, "the broker cannot be asked; try again")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_report_is_read_within_its_form() {
        let read = |text: &str| parse(text.as_bytes());
        assert_eq!(read("").unwrap().outcome, ReportedOutcome::Success);
        let done = read(r#"{"outcome": "success", "result": {"n": 1}}"#).unwrap();
        assert_eq!(done.result.as_deref(), Some(r#"{"n":1}"#));
        assert_eq!(
            read(r#"{"outcome": "success", "result": "x"}"#)
                .unwrap()
                .result
                .as_deref(),
            Some("x")
        );
        let failed = read(r#"{"outcome": "fatal", "error": "no such order"}"#).unwrap();
        assert_eq!(
            (failed.outcome, failed.error.as_str()),
            (ReportedOutcome::Fatal, "no such order")
        );
        assert_eq!(
            read(r#"{"outcome": "retry"}"#).unwrap().error,
            "reported without a reason"
        );
        for bad in [
            "{}",
            "[]",
            "x",
            r#"{"outcome": "done"}"#,
            r#"{"outcome": "success", "x": 1}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
