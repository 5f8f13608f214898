//! `/hooks/<function>`: calls of webhook triggers. Reads requests within limits of their own, and answers in JSON.
//!
//! Not here: who may call, and what a call means (`trigger::webhook`).

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};

use super::app_state::AppState;
use super::connections::ConnectionState;
use super::format::cut;
use super::hook_limits::SMALL_BODY;
use super::reached_by;
use crate::trigger::{AcceptedCall, HookAnswer, HookCall, HookRefusal, HookResult};

/// How long a client may take to send a body.
const BODY_TIME: Duration = Duration::from_secs(10);
/// How long a call waits for others of its address. Senders give up after about ten seconds.
const SHARE_TIME: Duration = Duration::from_secs(5);
/// When a sender that was refused for lack of room should try again.
const TRY_AGAIN: HeaderValue = HeaderValue::from_static("1");
/// Characters of an address in the log.
const SHOWN: usize = 100;

/// Any method; `/hooks/<function>` or `/hooks/<function>/<trigger>`.
pub async fn one(
    State(app): State<AppState>,
    Path(path): Path<Vec<String>>,
    request: Request,
) -> Result<Response, HookFailure> {
    let (function, trigger) = (path.first(), path.get(1));
    let (parts, body) = request.into_parts();
    let connection = parts.extensions.get::<Arc<ConnectionState>>();
    let announced = parts.headers.get(header::CONTENT_LENGTH);
    let (body, large) = read_body(&app, connection, announced, body).await?;
    let site = reached_by::current();
    // From here to the answer the client waits for us.
    let _active = connection.map(ConnectionState::answering);
    let answer = {
        let _of_share = match connection {
            None => None,
            Some(state) => match timeout(SHARE_TIME, state.share().hooks.acquire()).await {
                Ok(place) => Some(place),
                Err(_) => return Err(busy()),
            },
        };
        let _place = app.hook_limits.active.try_acquire().map_err(|_| busy())?;
        let call = HookCall {
            function: function.map(String::as_str).unwrap_or_default(),
            trigger: trigger.map(String::as_str),
            method: parts.method.as_str(),
            query: parts.uri.query().unwrap_or_default(),
            headers: &parts.headers,
            client: site.client.to_string(),
            body,
        };
        app.hooks.receive(call).await
    };
    drop(large);
    match answer {
        Ok(HookAnswer::Accepted(accepted)) => Ok(answer_of(&app, connection, accepted).await),
        Ok(HookAnswer::Challenge(text)) => Ok(text.into_response()),
        Err(refusal) => {
            note(&app, parts.uri.path(), &refusal);
            Err(HookFailure(refusal))
        }
    }
}

/// Reads the whole body. While it is small, no permit is needed: the connection may be closed for another one like any
/// that waits for its client.
async fn read_body<'a>(
    app: &'a AppState,
    connection: Option<&'a Arc<ConnectionState>>,
    announced: Option<&HeaderValue>,
    body: Body,
) -> Result<(Bytes, Option<LargeBody<'a>>), HookFailure> {
    let most = app.hooks.longest_body();
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > most as u64) {
        return Err(too_large(most));
    }
    let until = Instant::now() + BODY_TIME;
    let (mut read, mut large) = (BytesMut::new(), None);
    let mut rest = body.into_data_stream();
    loop {
        let chunk = match timeout_at(until, rest.next()).await {
            Ok(None) => return Ok((read.freeze(), large)),
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(_))) => return Err(failure(StatusCode::BAD_REQUEST, "hook_body", "the body broke off")),
            Err(_) => return Err(slow()),
        };
        let length = read.len() + chunk.len();
        if length > most {
            return Err(too_large(most));
        }
        if length > SMALL_BODY && large.is_none() {
            let permits = timeout_at(until, large_body(app, connection)).await;
            large = Some(permits.ok().flatten().ok_or_else(busy)?);
        }
        read.extend_from_slice(&chunk);
    }
}

/// The permits of a long body: that of its address, and one of all.
type LargeBody<'a> = (Option<SemaphorePermit<'a>>, SemaphorePermit<'a>);

/// That of the address first: one address must not queue for more than its share of all.
async fn large_body<'a>(app: &'a AppState, connection: Option<&'a Arc<ConnectionState>>) -> Option<LargeBody<'a>> {
    let own = match connection {
        Some(state) => Some(state.share().large_bodies.acquire().await.ok()?),
        None => None,
    };
    Some((own, app.hook_limits.large_bodies.acquire().await.ok()?))
}

/// What the answer says about a task.
#[derive(Serialize)]
struct TaskAnswer<'a> {
    id: &'a str,
    queue: &'a str,
    /// Whether the call is a repetition.
    repeated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
}

async fn answer_of(app: &AppState, connection: Option<&Arc<ConnectionState>>, accepted: AcceptedCall) -> Response {
    let result = match accepted.wait {
        Some(patience) => wait(app, connection, &accepted, patience).await,
        None => None,
    };
    let (status, state, result) = match result {
        Some(HookResult::Completed(bytes)) => (StatusCode::OK, Some("completed"), Some(as_json(&bytes))),
        Some(HookResult::Failed) => {
            let message = "the task failed; its history says why";
            let failed = HookRefusal::new(StatusCode::INTERNAL_SERVER_ERROR, "task_failed", message);
            let named = HeaderValue::from_str(accepted.id.as_str()).ok();
            let mut response = HookFailure(failed).into_response();
            if let Some(id) = named {
                response.headers_mut().insert("x-runner-task-id", id);
            }
            return response;
        }
        Some(HookResult::NotYet(state)) => (StatusCode::ACCEPTED, Some(state.as_str()), None),
        Some(HookResult::Gone | HookResult::Unknown) | None => (StatusCode::ACCEPTED, None, None),
    };
    let answer = TaskAnswer {
        id: accepted.id.as_str(),
        queue: accepted.queue.as_str(),
        repeated: accepted.repeated,
        state,
        result,
    };
    (status, axum::Json(answer)).into_response()
}

/// The result, unless too many calls wait already or the process stops.
async fn wait(
    app: &AppState,
    connection: Option<&Arc<ConnectionState>>,
    accepted: &AcceptedCall,
    patience: Duration,
) -> Option<HookResult> {
    let _of_share = match connection {
        Some(state) => Some(state.share().waiting.try_acquire().ok()?),
        None => None,
    };
    let _place = app.hook_limits.waiting.try_acquire().ok()?;
    tokio::select! {
        result = app.hooks.result(accepted, patience) => Some(result),
        () = app.stopping.cancelled() => None,
    }
}

/// JSON as it is, other results as a text, none as `null`.
fn as_json(bytes: &[u8]) -> Box<RawValue> {
    let text = String::from_utf8_lossy(bytes);
    let given = serde_json::from_slice::<Box<RawValue>>(bytes).ok();
    let written = || match bytes.is_empty() {
        true => serde_json::value::to_raw_value(&()),
        false => serde_json::value::to_raw_value(&text),
    };
    given
        .or_else(|| written().ok())
        .unwrap_or_else(|| RawValue::NULL.to_owned())
}

/// A refused call.
#[derive(Debug)]
pub struct HookFailure(HookRefusal);

#[derive(Serialize)]
struct FailureAnswer<'a> {
    code: &'static str,
    message: &'a str,
}

impl IntoResponse for HookFailure {
    fn into_response(self) -> Response {
        let Self(refusal) = self;
        let body = FailureAnswer {
            code: refusal.code,
            message: &refusal.message,
        };
        let mut response = (refusal.status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        match refusal.status {
            StatusCode::UNAUTHORIZED => drop(headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"hooks\""),
            )),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, TRY_AGAIN);
            }
            _ => {}
        }
        if let Some(allow) = refusal.allow.and_then(|allow| HeaderValue::from_str(&allow).ok()) {
            headers.insert(header::ALLOW, allow);
        }
        response
    }
}

fn failure(status: StatusCode, code: &'static str, message: impl Into<String>) -> HookFailure {
    HookFailure(HookRefusal::new(status, code, message))
}

fn busy() -> HookFailure {
    failure(
        StatusCode::TOO_MANY_REQUESTS,
        "hook_busy",
        "too many calls at once; repeat the call",
    )
}

fn slow() -> HookFailure {
    let message = format!("the body did not arrive within {} seconds", BODY_TIME.as_secs());
    failure(StatusCode::REQUEST_TIMEOUT, "hook_slow_body", message)
}

fn too_large(most: usize) -> HookFailure {
    let message = format!("the body is longer than {most} bytes");
    failure(StatusCode::PAYLOAD_TOO_LARGE, "hook_body_too_large", message)
}

/// Logs a refused call, a few a minute: the operator of the sender sees the answer, the operator here sees this.
fn note(app: &AppState, path: &str, refusal: &HookRefusal) {
    let Some(left_out) = app.refusals.line(app.clock.now()) else {
        return;
    };
    tracing::warn!(
        code = refusal.code, error = %refusal.message, path = %cut(path, SHOWN), client = %reached_by::current().client,
        left_out, "a call of a hook was refused"
    );
}
