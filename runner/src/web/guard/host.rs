//! Which host names a request may be for: the guard against pages elsewhere that rebind their name to us.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::web::desk::Desk;
use crate::web::fault::Fault;
use crate::web::settings::{Auth, Settings};

/// Paths that say nothing worth protecting and are asked for by address: probes.
const FOR_ANY_NAME: [&str; 2] = ["/healthz", "/readyz"];

/// Refuses requests for other names.
pub async fn check(State(desk): State<Desk>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let open = FOR_ANY_NAME.contains(&path) || (path == "/metrics" && desk.settings.metrics_open);
    if open || allowed(&desk.settings, request.headers(), request.uri()) {
        return next.run(request).await;
    }
    Fault::WrongHost.into_response()
}

fn allowed(settings: &Settings, headers: &HeaderMap, uri: &Uri) -> bool {
    let mut named = headers.get_all(header::HOST).iter();
    let host = match (named.next(), named.next()) {
        (Some(host), None) => host.to_str().unwrap_or_default(),
        _ => return false,
    };
    // An absolute request target must not name anybody else than the header does.
    if uri.authority().is_some_and(|a| a.as_str() != host) {
        return false;
    }
    let Some(name) = name_of(host) else {
        return false;
    };
    if matches!(name, "localhost" | "127.0.0.1" | "[::1]") {
        return true;
    }
    match &settings.auth {
        Auth::Login { .. } if settings.allowed_hosts.is_empty() => true,
        _ => settings
            .allowed_hosts
            .iter()
            .filter_map(|allowed| name_of(allowed))
            .any(|allowed| allowed.eq_ignore_ascii_case(name)),
    }
}

/// The name without its port; `None` if there is more to it than that.
fn name_of(host: &str) -> Option<&str> {
    let (name, port) = match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => (&host[..colon], &host[colon + 1..]),
        _ => (host, "0"),
    };
    let numeric = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let clean = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_[]:".contains(&b));
    (numeric && clean).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_set_aside_and_nothing_else() {
        assert_eq!(name_of("localhost:8080"), Some("localhost"));
        assert_eq!(name_of("[::1]:80"), Some("[::1]"));
        assert_eq!(name_of("[::1]"), Some("[::1]"));
        for odd in ["", ":80", "a:b", "a@localhost", "localhost/", "localhost:"] {
            assert_eq!(name_of(odd), None, "{odd}");
        }
    }
}
