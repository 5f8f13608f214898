//! One call of the receiver, and what its answer means.

use std::time::Duration;

use prost::Message;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, StatusCode};
use runner_core::chain::chain;

use super::wire;
use crate::telemetry::OtlpSettings;

/// How long a call may take: a receiver is near, and only the outbox waits for it.
const CALL: Duration = Duration::from_secs(5);

const CONNECT: Duration = Duration::from_secs(3);

/// The longest pause that a receiver may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 64 * 1024;

/// Characters of an answer that are shown.
const SHOWN: usize = 200;

/// Why a call did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CallFault {
    /// A stable code.
    pub(super) code: &'static str,
    /// In one sentence.
    pub(super) why: String,
    /// What helps.
    pub(super) hint: &'static str,
    /// Whether the same call may work later, and after which pause at the earliest.
    pub(super) again: Option<Duration>,
}

impl CallFault {
    fn lasting(code: &'static str, why: String, hint: &'static str) -> Self {
        Self {
            code,
            why,
            hint,
            again: None,
        }
    }

    fn passing(code: &'static str, why: String, hint: &'static str) -> Self {
        Self {
            again: Some(Duration::ZERO),
            ..Self::lasting(code, why, hint)
        }
    }
}

/// Calls the receiver.
pub(super) struct OtlpCaller {
    client: Client,
    settings: OtlpSettings,
}

impl OtlpCaller {
    /// # Errors
    ///
    /// Why there can be no client.
    pub(super) fn new(settings: OtlpSettings) -> Result<Self, String> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Fails only if another thread was faster, which is as good.
            rustls::crypto::ring::default_provider().install_default().ok();
        }
        let client = Client::builder()
            .user_agent(concat!("runner/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .timeout(CALL)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| chain(&error))?;
        Ok(Self { client, settings })
    }

    pub(super) fn place(&self) -> &str {
        &self.settings.endpoint
    }

    /// Hands over a message, at `/v1/traces` for example. Returns how many parts of it the receiver has refused, and why.
    pub(super) async fn post(&self, path: &str, message: &impl Message) -> Result<Option<(u64, String)>, CallFault> {
        let headers = self.headers().await?;
        let url = format!("{}{path}", self.settings.endpoint);
        let call = self.client.post(url).headers(headers).body(message.encode_to_vec());
        let answer = call.send().await.map_err(|error| {
            // Without the address, which the caller names.
            let why = chain(&error.without_url());
            CallFault::passing(
                "otlp_unreachable",
                why,
                "is a receiver of OTLP over HTTP there? its usual port is 4318",
            )
        })?;
        let status = answer.status();
        let pause = answer.headers().get(RETRY_AFTER).and_then(seconds);
        let body = beginning(answer).await;
        if status.is_success() {
            let refused = wire::ExportResponse::decode(&body[..])
                .ok()
                .and_then(|answer| answer.partial_success);
            let refused = refused.filter(|part| part.rejected > 0);
            return Ok(refused.map(|part| (part.rejected.unsigned_abs(), shown(part.error_message.as_bytes()))));
        }
        Err(refused(status, &body, pause))
    }

    async fn headers(&self) -> Result<HeaderMap, CallFault> {
        const HINT: &str = "see telemetry.otlp.headers";
        let wrong = |why: String| CallFault::passing("otlp_headers", why, HINT);
        let given = self.settings.headers.clone();
        // Files may be read for them.
        let read = tokio::task::spawn_blocking(move || {
            let each = given.into_iter().map(|(name, text)| Ok((name, text.read()?)));
            each.collect::<Result<Vec<_>, String>>()
        });
        let texts = read.await.map_err(|error| wrong(error.to_string()))?.map_err(wrong)?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        for (name, text) in texts {
            let bad = || wrong(format!("the value of {name} cannot be a header"));
            let mut value = HeaderValue::from_str(text.trim_end_matches(['\r', '\n'])).map_err(|_| bad())?;
            value.set_sensitive(true);
            let name = HeaderName::try_from(name.as_str()).map_err(|_| bad())?;
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

fn refused(status: StatusCode, body: &[u8], pause: Option<Duration>) -> CallFault {
    let why = format!("it answered {status}: {}", shown(body));
    match status.as_u16() {
        // Those that OTLP says to repeat.
        429 | 502 | 503 | 504 => CallFault {
            again: Some(pause.unwrap_or_default().min(LONGEST_PAUSE)),
            ..CallFault::lasting("otlp_busy", why, "it takes no more at the moment")
        },
        401 | 403 => CallFault::lasting("otlp_denied", why, "see telemetry.otlp.headers"),
        404 | 405 => CallFault::lasting(
            "otlp_refused",
            why,
            "endpoint is the URL before /v1/traces, usually with port 4318",
        ),
        _ => CallFault::lasting("otlp_refused", why, "its log says why"),
    }
}

async fn beginning(mut answer: reqwest::Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(part)) = answer.chunk().await {
        body.extend_from_slice(&part);
        if body.len() > MAX_ANSWER {
            body.truncate(MAX_ANSWER);
            break;
        }
    }
    body
}

fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let plain = text.chars().map(|sign| if sign.is_control() { ' ' } else { sign });
    plain.take(SHOWN).collect::<String>().trim().to_owned()
}

fn seconds(value: &HeaderValue) -> Option<Duration> {
    value.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}
