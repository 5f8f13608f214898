//! Makes an HTTP call for a task: the request, and the meaning of the answer.
//!
//! No redirects, no proxy, no cookies. Addresses inside the network are refused (see `guard`): the right to edit a manifest
//! must not imply access to everything that this machine reaches.

mod answer;
mod guard;
mod request;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::{Client, Response};
use runner_core::function::HttpSpec;
use runner_sdk::{Ctx, Outcome, TaskError};

use crate::exhausted;
use crate::secret::Secrets;
use crate::stopped::stopped;

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
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            allow_private: false,
            allowed_hosts: Vec::new(),
            user_agent: concat!("runner/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// The settings, and the one client for all calls, made at the first call.
pub(crate) struct Caller {
    settings: Arc<HttpSettings>,
    client: OnceLock<Client>,
}

impl Caller {
    pub(crate) fn new(settings: HttpSettings) -> Self {
        Self {
            settings: Arc::new(settings),
            client: OnceLock::new(),
        }
    }

    fn client(&self) -> Result<Client, TaskError> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Fails only if another thread was faster, which is as good.
            rustls::crypto::ring::default_provider().install_default().ok();
        }
        let client = Client::builder()
            .user_agent(self.settings.user_agent.as_str())
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            // A proxy would resolve names itself, bypassing the guard.
            .no_proxy()
            .dns_resolver(guard::Resolver::new(Arc::clone(&self.settings)))
            .build()?;
        Ok(self.client.get_or_init(|| client).clone())
    }
}

/// Makes the call.
pub(crate) async fn run(spec: &HttpSpec, function: &str, caller: &Caller, cx: &Ctx) -> Result<Outcome, TaskError> {
    let mut secrets = Secrets::default();
    let request = request::build(spec, function, &caller.settings, &mut secrets, cx)?;
    let limit = cx.time_limit().unwrap_or(DEFAULT_TIMEOUT);
    let host = request.url().host_str().unwrap_or_default().to_owned();
    let call = async {
        let answer = caller.client()?.execute(request).await;
        let answer = answer.map_err(|e| failed(&host, e, cx))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = body(answer).await.map_err(|e| failed(&host, e, cx))?;
        let body = secrets.redact(&body).into_owned();
        cx.log()
            .push("log", &format!("{host} answered {status} with {} bytes", body.len()));
        answer::outcome(spec, status, &headers, body)
    };
    tokio::select! {
        reason = cx.cancelled() => Err(stopped(reason, cx)),
        outcome = tokio::time::timeout(limit, call) => {
            outcome.unwrap_or_else(|_| Err(TaskError::retry(format!("timeout after {limit:?}"))))
        }
    }
}

/// The beginning of the body; if there is more, the connection is dropped.
async fn body(mut answer: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        let room = MAX_BODY_BYTES - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() >= room {
            break;
        }
    }
    Ok(body)
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
