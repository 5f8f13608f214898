//! The proxy of HTTP calls, as a setting. Its URL may hold a password, so it is read when it is used and never shown.

use std::fmt;
use std::sync::Arc;

use reqwest::Url;

/// A proxy, and the hosts that are reached without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProxy {
    /// Where it is.
    pub url: ProxyUrl,
    /// Hosts, domains (`.example.com`) and networks (`10.0.0.0/8`).
    pub except: Vec<String>,
}

impl HttpProxy {
    /// Whether the proxy itself has this name.
    pub(super) fn is_at(&self, host: &str) -> bool {
        let url = self.url.read().ok().and_then(|url| Url::parse(&url).ok());
        url.is_some_and(|url| url.host_str().is_some_and(|own| own.eq_ignore_ascii_case(host)))
    }
}

/// The URL of a proxy, read again for each client.
#[derive(Clone)]
pub struct ProxyUrl(Arc<dyn Fn() -> Result<String, String> + Send + Sync>);

impl ProxyUrl {
    /// A URL that this function returns, or why it cannot be read.
    pub fn read_from(read: impl Fn() -> Result<String, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The URL.
    pub(super) fn read(&self) -> Result<String, String> {
        (self.0)()
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyUrl(***)")
    }
}

impl PartialEq for ProxyUrl {
    fn eq(&self, other: &Self) -> bool {
        self.read() == other.read()
    }
}

impl Eq for ProxyUrl {}
