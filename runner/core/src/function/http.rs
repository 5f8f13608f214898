//! The kind `http` as data: a call over HTTP.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The most redirects that a call follows: a server that needs more is in a circle.
pub const MAX_REDIRECTS: u32 = 3;

/// An HTTP call and the interpretation of its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSpec {
    /// `POST`, `GET`, …
    pub method: String,
    /// Absolute, `http` or `https`.
    pub url: String,
    /// Headers. Values may hold `${env:NAME}` and `${file:PATH}`, resolved when it runs.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: HttpBody,
    /// Statuses that mean "done": inclusive ranges.
    pub success: Vec<(u16, u16)>,
    /// Statuses that mean "try again": inclusive ranges.
    pub retry_on: Vec<(u16, u16)>,
    /// How many redirects are followed, at most [`MAX_REDIRECTS`]; to the same host only.
    pub redirects: u32,
    /// The secret that requests are signed with; may hold `${env:NAME}` and `${file:PATH}`.
    pub sign_secret: Option<String>,
    /// What is kept as the result.
    pub result: HttpResult,
    /// Certificates.
    pub tls: HttpTls,
    /// Whether the server may answer that the work continues, and report its end later.
    pub reports_end: bool,
}

impl HttpSpec {
    /// A `POST` of the payload to this address, with the defaults of a manifest.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            method: "POST".to_owned(),
            url: url.into(),
            headers: BTreeMap::new(),
            body: HttpBody::default(),
            success: vec![(200, 299)],
            retry_on: vec![(408, 408), (425, 425), (429, 429), (500, 599)],
            redirects: 0,
            sign_secret: None,
            result: HttpResult::default(),
            tls: HttpTls::default(),
            reports_end: false,
        }
    }

    /// Whether it sends the payload as JSON: it does unless `headers` have another `Content-Type`.
    #[must_use]
    pub fn sends_json(&self) -> bool {
        let has_body = !["GET", "HEAD"].iter().any(|m| self.method.eq_ignore_ascii_case(m));
        let mut headers = self.headers.iter();
        let stated = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        has_body && self.body == HttpBody::Payload && stated.is_none_or(|(_, value)| is_json_type(value))
    }
}

/// Whether a `Content-Type` means JSON: `application/json`, `application/cloudevents+json; charset=utf-8`.
#[must_use]
pub fn is_json_type(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

/// What is kept of an answer as the result of the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HttpResult {
    /// The body of a success.
    #[default]
    Body,
    /// Status, headers and body of any answer, as JSON.
    Response,
    /// Nothing.
    None,
}

/// Certificates of calls over TLS; files in PEM form, read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpTls {
    /// Whom to trust; `None`: whom the system trusts.
    pub ca_file: Option<PathBuf>,
    /// The certificate that this client shows.
    pub cert_file: Option<PathBuf>,
    /// Its key; `None`: it is in `cert_file`.
    pub key_file: Option<PathBuf>,
}

/// The body of an HTTP call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HttpBody {
    /// The payload.
    #[default]
    Payload,
    /// Nothing.
    None,
    /// This text.
    Text(String),
}
