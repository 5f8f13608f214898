//! Makes an HTTP call for a task: the request, and the meaning of the answer.
//!
//! Redirects only within a host and if the manifest allows them, a proxy only of the settings, no cookies. Addresses inside
//! the network are refused (see `guard`): the right to edit a manifest must not imply access to everything that this machine
//! reaches.

mod answer;
mod client;
mod follow;
mod guard;
mod later;
mod ping;
mod proxy;
mod request;
mod sign;

use std::time::Duration;

use reqwest::Response;
use runner_core::function::{HttpResult, HttpSpec};
use runner_sdk::{Bytes, Ctx, Outcome, TaskError};

use crate::exhausted;
use crate::misconfigured::misconfigured;
use crate::secret::Secrets;
use crate::stopped::stopped;
use answer::Answer;
pub(crate) use client::Caller;
pub(crate) use ping::{Ping, Pinger};
pub use proxy::{HttpProxy, ProxyUrl};

/// How long connecting may take: a server that does not answer for longer is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limit of a call whose task has none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Maximum bytes of an answer that are read and stored as the result.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Which hosts HTTP functions may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// Allow every address, including loopback, private and link-local ones.
    pub allow_private: bool,
    /// Hosts that may be called (with wildcards `*` and `?`); `None`: all. A host that a pattern names (not `*` alone) may have a
    /// private or loopback address, but never a link-local one, where clouds serve credentials.
    pub allowed_hosts: Vec<String>,
    /// The user agent of the calls.
    pub user_agent: String,
    /// The proxy that calls go through. It resolves names itself, so only `allowed_hosts` and the check of addresses in URLs
    /// confine calls then.
    pub proxy: Option<HttpProxy>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            allow_private: false,
            allowed_hosts: Vec::new(),
            proxy: None,
            user_agent: concat!("runner/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Makes the call.
pub(crate) async fn run(spec: &HttpSpec, function: &str, caller: &Caller, cx: &Ctx) -> Result<Outcome, TaskError> {
    call(spec, function, caller, Secrets::default(), cx).await
}

/// The same, where more must not be shown than what the definition refers to.
pub(crate) async fn call(
    spec: &HttpSpec,
    function: &str,
    caller: &Caller,
    mut secrets: Secrets,
    cx: &Ctx,
) -> Result<Outcome, TaskError> {
    let mut request = request::build(spec, function, &caller.settings, &mut secrets, cx)?;
    let callback = match spec.reports_end {
        true => Some(cx.await_report().await?),
        false => None,
    };
    if let Some(callback) = &callback {
        later::announce(&mut request, callback, cx);
    }
    let limit = cx.time_limit().unwrap_or(DEFAULT_TIMEOUT);
    let host = request.url().host_str().unwrap_or_default().to_owned();
    let client = caller.client(&spec.tls).map_err(|why| misconfigured(why, cx))?;
    let call = async {
        let answer = follow::send(&client, request, spec, &caller.settings, cx).await?;
        let (status, headers) = (answer.response.status(), answer.response.headers().clone());
        if let Some(callback) = callback.as_ref().filter(|_| later::continues(status, &headers)) {
            return later::wait(callback, &host, cx).await;
        }
        let (body, whole) = body(answer.response).await.map_err(|e| failed(&host, e, cx))?;
        let body = secrets.redact(&body).into_owned();
        cx.log()
            .push("log", &format!("{host} answered {status} with {} bytes", body.len()));
        let answer = Answer {
            status,
            headers,
            body,
            whole,
            not_followed: answer.not_followed,
        };
        let kept: Option<Bytes> = match spec.result {
            HttpResult::Body => (!answer.body.is_empty()).then(|| answer.body.clone().into()),
            HttpResult::Response => Some(secrets.redact(&answer.as_json()).into_owned().into()),
            HttpResult::None => None,
        };
        if let (HttpResult::Response, Some(kept)) = (spec.result, &kept) {
            // Also with a task that failed.
            cx.keep_result(kept.clone());
        }
        answer.outcome(spec, kept)
    };
    let outcome = tokio::select! {
        reason = cx.cancelled() => Err(stopped(reason, cx)),
        outcome = tokio::time::timeout(limit, call) => {
            outcome.unwrap_or_else(|_| Err(TaskError::retry(format!("timeout after {limit:?}"))))
        }
    };
    match callback {
        // A report that arrived in the last moment counts.
        Some(callback) => match callback.close().await {
            Some(reported) if outcome.is_err() => Ok(reported),
            _ => outcome,
        },
        None => outcome,
    }
}

/// The beginning of the body, and whether that is all; if there is more, the connection is dropped.
async fn body(mut answer: Response) -> Result<(Vec<u8>, bool), reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        let room = MAX_BODY_BYTES - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok((body, false));
        }
    }
    Ok((body, true))
}

/// Failures of connecting, TLS and reading are temporary; a refused address fails the same way on every attempt. The text
/// names only the host: the rest of the URL may hold a token.
fn failed(host: &str, error: reqwest::Error, cx: &Ctx) -> TaskError {
    let refused = guard::is_refusal(&error);
    if let Some(cause) = exhausted::cause(&error) {
        return exhausted::put_off(&format!("{host}: {cause}"), cx);
    }
    let error = TaskError::from(error.without_url());
    if refused {
        return TaskError::skip(format!("{host}: {error}"));
    }
    TaskError::retry(format!("{host}: {error}"))
}
