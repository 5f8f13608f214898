//! The host names that requests may use: the guard against DNS rebinding. Without a login, also the guard against a
//! proxy that forwards other machines.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::access::public_url::{is_loopback_name, name_and_port};
use crate::access::trusted_proxies;
use crate::access::{Auth, WebSettings};
use crate::web::app_state::AppState;
use crate::web::format::cut;
use crate::web::hook_limits::is_hook;
use crate::web::page_error::PageError;
use crate::web::reached_by::{self, ReachedBy};

/// Paths of probes, which reveal nothing worth protecting and are requested by address.
const FOR_ANY_NAME: [&str; 2] = ["/healthz", "/readyz"];

/// Characters of a name shown on a page.
const SHOWN: usize = 100;

/// Refuses requests for other names, and those that a dashboard without a login must not answer.
pub async fn check(State(app): State<AppState>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    // Callers of hooks are programs with a credential of their own, for which a name proves nothing.
    let open = FOR_ANY_NAME.contains(&path) || is_hook(path) || (path == "/metrics" && app.settings.metrics_open);
    if open {
        return next.run(request).await;
    }
    let site = reached_by::current();
    let refused = wrong_host(&app.settings, &site, request.headers(), request.uri())
        .map(PageError::WrongHost)
        .or_else(|| passed_on(&app.settings, request.headers()).map(PageError::PassedOn));
    match refused {
        None => next.run(request).await,
        Some(fault) => {
            if let Some(left_out) = app.refusals.line(app.clock.now()) {
                tracing::warn!(
                    code = "request_refused", reason = %fault, host = %cut(&site.host, SHOWN),
                    forwarded_host = %cut(site.forwarded_host.as_deref().unwrap_or("-"), SHOWN), peer = %site.client,
                    left_out, "a request was refused; see docs/proxy.md if it came through a proxy of yours"
                );
            }
            fault.into_response()
        }
    }
}

/// The name in the request that is not this server's.
fn wrong_host(settings: &WebSettings, site: &ReachedBy, headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let one = headers.get_all(header::HOST).iter().count() == 1;
    // An absolute request target must not name another host than the header.
    let same = uri.authority().is_none_or(|a| a.as_str() == site.host);
    if !one || !same || !allowed(settings, &site.host) {
        return Some(cut(&site.host, SHOWN));
    }
    // The forwarded name too, or a proxy that answers for every name would bypass this check.
    let forwarded = site.forwarded_host.as_deref()?;
    (!allowed(settings, forwarded)).then(|| cut(forwarded, SHOWN))
}

fn allowed(settings: &WebSettings, host: &str) -> bool {
    let Some((name, _)) = name_and_port(host) else {
        return false;
    };
    if is_loopback_name(name) {
        return true;
    }
    if matches!(settings.auth, Auth::Login { .. }) && settings.allowed_hosts.is_empty() {
        return true;
    }
    let listed = settings
        .allowed_hosts
        .iter()
        .filter_map(|allowed| name_and_port(allowed));
    let public = settings.public_url.iter().map(|url| url.origin.name());
    listed
        .map(|(allowed, _)| allowed)
        .chain(public)
        .any(|allowed| allowed.eq_ignore_ascii_case(name))
}

/// The other machine for which a request was forwarded, if there is no login and no proxy is configured.
fn passed_on(settings: &WebSettings, headers: &HeaderMap) -> Option<String> {
    let expected = settings.public_url.is_some()
        || settings.trusted_proxies.is_listed()
        || !settings.allowed_hosts.is_empty()
        || matches!(settings.auth, Auth::Login { .. });
    if expected {
        return None;
    }
    if headers.contains_key("forwarded") {
        return Some("another machine".to_owned());
    }
    let real = headers
        .get_all("x-real-ip")
        .iter()
        .map(|ip| trusted_proxies::address(ip.to_str().unwrap_or("?")));
    let far = trusted_proxies::forwarded_for(headers)
        .chain(real)
        .find(|address| !address.is_some_and(|ip| ip.is_loopback()))?;
    Some(far.map_or_else(|| "another machine".to_owned(), |ip| ip.to_string()))
}
