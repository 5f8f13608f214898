//! A trigger that is called over HTTP: `POST /hooks/<function>`.
//!
//! Secrets are references (`${env:NAME}`, `${file:PATH}`) here; who serves the calls reads them.

use std::time::Duration;

use crate::template::{JsonTemplate, Template};

/// The values of a call that templates can name: `request.body`. Those inside of `body`, `headers` and `query` as well.
pub const REQUEST_VALUES: [&str; 6] = ["body", "headers", "query", "method", "id", "client"];

/// How far the clock of a sender may be from ours, where a signature contains a time and the trigger says nothing.
pub const DEFAULT_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// One task for each call.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookTrigger {
    /// What proves that a caller may call.
    pub credential: HookCredential,
    /// The methods that are accepted.
    pub methods: Vec<HookMethod>,
    /// How long a call waits for the result of its task; `None`: it is answered when the task is durable.
    pub wait: Option<Duration>,
    /// What identifies a call; `None`: what the form of signature or the header `Idempotency-Key` says.
    pub dedupe: Option<Template>,
    /// How long a call is known by that; a repetition within this time gets the same task.
    pub remember: Duration,
    /// What bodies must be.
    pub format: HookBody,
    /// The payload; `None`: the body.
    pub payload: Option<JsonTemplate>,
    /// The longest body in bytes.
    pub max_bytes: usize,
}

/// What proves that a caller may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookCredential {
    /// The caller sends a secret.
    Token {
        /// The header that carries it; `None`: `Authorization: Bearer`.
        header: Option<String>,
        /// The secrets that are accepted, as references.
        secrets: Vec<String>,
    },
    /// The caller signs the body with a secret.
    Signature {
        /// Whose way of signing it is.
        form: SignatureForm,
        /// The secrets that are accepted, as references.
        secrets: Vec<String>,
        /// How far the time in a signature may be from ours.
        tolerance: Duration,
    },
}

impl HookCredential {
    /// The references to the secrets that are accepted.
    #[must_use]
    pub fn secrets(&self) -> &[String] {
        match self {
            Self::Token { secrets, .. } | Self::Signature { secrets, .. } => secrets,
        }
    }
}

/// Whose way of signing a body it is. All are HMAC-SHA256 in hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureForm {
    /// `X-Hub-Signature-256: sha256=…` of the body; no time.
    GitHub,
    /// `Stripe-Signature: t=…,v1=…` of time, dot and body.
    Stripe,
    /// `X-Slack-Signature: v0=…` of `v0:`, the time of another header, colon and body.
    Slack,
    /// `X-Runner-Signature: t=…,v1=…`, as Stripe.
    Runner,
}

impl SignatureForm {
    /// All of them, by their words.
    pub const WORDS: [(&'static str, Self); 4] = [
        ("github", Self::GitHub),
        ("stripe", Self::Stripe),
        ("slack", Self::Slack),
        ("runner", Self::Runner),
    ];
}

/// A method of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookMethod {
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
    /// `DELETE`
    Delete,
    /// `GET`
    Get,
}

impl HookMethod {
    /// All of them, by their words.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("POST", Self::Post),
        ("PUT", Self::Put),
        ("PATCH", Self::Patch),
        ("DELETE", Self::Delete),
        ("GET", Self::Get),
    ];

    /// As HTTP writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Get => "GET",
        }
    }
}

/// What the body of a call must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HookBody {
    /// JSON text.
    #[default]
    Json,
    /// A form, which becomes a JSON object.
    Form,
    /// Any bytes.
    Bytes,
}

impl HookBody {
    /// All of them, by their words.
    pub const WORDS: [(&'static str, Self); 3] = [("json", Self::Json), ("form", Self::Form), ("bytes", Self::Bytes)];
}
