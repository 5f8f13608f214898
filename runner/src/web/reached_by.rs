//! How a request reached the dashboard: name, path, client, TLS. Determined once per request and used by everything
//! that writes an address or a cookie.
//!
//! Not here: rights (`guard`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::Request;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::Response;

use super::hook_limits::is_hook;
use crate::access::WebSettings;
use crate::access::public_url::{base_path, name_and_port};
use crate::access::sign;

tokio::task_local! {
    /// The request that this task answers. Addresses are made deep inside pages, by functions that know a task or a
    /// schedule but no request.
    static CURRENT: Arc<ReachedBy>;
}

/// The remote address of the connection, which the server adds to each request.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub SocketAddr);

/// How one request reached the dashboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachedBy {
    /// The path before `/queue` in the browser's address bar, empty or such as `/ops`.
    pub base: String,
    /// The `Host` header.
    pub host: String,
    /// The host that the browser requested, if a trusted proxy forwards it.
    pub forwarded_host: Option<String>,
    /// Whether the browser uses TLS.
    pub secure: bool,
    /// Whether the connection comes from a trusted proxy.
    pub proxied: bool,
    /// The client's address; the proxy's own if no trusted proxy forwards one.
    pub client: IpAddr,
    /// The suffix of cookie names: it differs between instances with other ports, paths or keys.
    pub mark: String,
}

impl Default for ReachedBy {
    fn default() -> Self {
        Self {
            base: String::new(),
            host: String::new(),
            forwarded_host: None,
            secure: false,
            proxied: false,
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            mark: String::new(),
        }
    }
}

impl ReachedBy {
    /// From the remote address and the headers.
    #[must_use]
    pub fn of(settings: &WebSettings, peer: IpAddr, headers: &HeaderMap) -> Self {
        let proxied = settings.trusted_proxies.covers(peer);
        let forwarded = |name: &str| first(headers, name).filter(|_| proxied);
        let public = settings.public_url.as_ref();
        let forwarded_host = forwarded("x-forwarded-host").map(str::to_owned);
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.unwrap_or_default().to_owned();
        let prefix = proxied.then(|| prefix(headers)).flatten();
        let base = prefix
            .or_else(|| public.map(|url| url.base.clone()))
            .unwrap_or_default();
        let secure = match forwarded("x-forwarded-proto") {
            Some(scheme) => scheme.eq_ignore_ascii_case("https"),
            None => public.is_some_and(|url| url.origin.https),
        };
        let seen = name_and_port(forwarded_host.as_deref().unwrap_or(&host));
        let port = seen.and_then(|(_, port)| port).unwrap_or_default();
        let mut mark = sign::signature(&settings.key, "cookies", &format!("{port}|{base}"));
        mark.truncate(8);
        Self {
            base,
            host,
            forwarded_host,
            secure,
            proxied,
            client: settings.trusted_proxies.client(peer, headers),
            mark,
        }
    }

    /// The host that the browser requested, as far as known.
    #[must_use]
    pub fn browser_host(&self) -> &str {
        self.forwarded_host.as_deref().unwrap_or(&self.host)
    }

    /// `uri` without the base, for proxies that forward it. A path that is valid as it is stays unchanged, even below a
    /// base that is itself named `/queue`.
    fn routed(&self, uri: &Uri) -> Option<Uri> {
        let whole = uri.path_and_query()?.as_str();
        let rest = whole
            .strip_prefix(self.base.as_str())
            .filter(|_| !self.base.is_empty())?;
        let path = rest.split('?').next().unwrap_or_default();
        let known = matches!(path, "" | "/" | "/queue" | "/healthz" | "/readyz" | "/metrics")
            || path.starts_with("/queue/")
            || is_hook(path);
        let rest = match rest.strip_prefix('?') {
            Some(query) => format!("/?{query}"),
            None if rest.is_empty() => "/".to_owned(),
            None => rest.to_owned(),
        };
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(rest).ok().filter(|_| known)?);
        Uri::from_parts(parts).ok()
    }
}

/// The first value of a header that a chain of proxies may have extended: the value of the browser's own proxy.
fn first<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get(name)?.to_str().ok()?;
    let value = value.split(',').next().unwrap_or_default().trim();
    (!value.is_empty()).then_some(value)
}

/// The path that proxies removed, outermost first. `None` if no proxy reports one, or if it is not a valid path.
fn prefix(headers: &HeaderMap) -> Option<String> {
    let mut base = String::new();
    for line in headers.get_all("x-forwarded-prefix") {
        for part in line.to_str().ok()?.split(',') {
            base.push_str(&base_path(part)?);
        }
    }
    base_path(&base).filter(|base| !base.is_empty())
}

/// The request being answered; a neutral value outside of any.
#[must_use]
pub fn current() -> Arc<ReachedBy> {
    CURRENT.try_with(Arc::clone).unwrap_or_default()
}

/// Answers a request in the context that its headers describe.
pub async fn enter(settings: &WebSettings, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<PeerAddress>();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |PeerAddress(at)| at.ip());
    let site = ReachedBy::of(settings, peer, request.headers());
    if let Some(uri) = site.routed(request.uri()) {
        *request.uri_mut() = uri;
    }
    CURRENT.scope(Arc::new(site), next.run(request)).await
}

/// Runs `work` in the context of such a request.
#[cfg(test)]
pub fn within<T>(site: ReachedBy, work: impl FnOnce() -> T) -> T {
    CURRENT.sync_scope(Arc::new(site), work)
}
