//! Who calls the API, and what that allows: a token, the session of a browser, or anyone where the dashboard is open.
//!
//! A session reads. To act it also needs the token of the dashboard's forms, which no other site knows. A credential that was
//! presented as a bearer token is always judged, even where none is needed; other schemes of `Authorization` are for proxies.

use axum::http::{HeaderMap, Method, StatusCode, Uri, header};

use super::problem::ApiProblem;
use crate::access::{ApiToken, Auth, TokenRight, UserRole, sign};
use crate::web::app_state::AppState;
use crate::web::guard::admit;
use crate::web::reached_by;
use crate::web::request_context::RequestContext;

/// The header in which a browser with a session brings the token of its forms.
pub const FORM_TOKEN: &str = "x-csrf-token";

/// The name under which all wrong tokens of an address are counted.
const COUNTED_AS: &str = "(token)";

/// Who calls.
pub struct ApiCaller {
    /// The context of actions; its name is in audit lines.
    pub cx: RequestContext,
    token: Option<ApiToken>,
}

impl ApiCaller {
    /// From the headers of a request.
    ///
    /// # Errors
    ///
    /// 401 for a credential that is wrong or over, or none where one is needed; 429 after too many wrong ones; 403 for an
    /// action of a browser without proof that it comes from the dashboard.
    pub fn of(app: &AppState, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Self, ApiProblem> {
        let (mut cx, _) = admit::cx(app, uri, headers);
        let presented = headers.get(header::AUTHORIZATION);
        let presented = presented.map(|value| value.to_str().unwrap_or_default());
        if let Some(value) = presented.filter(|value| !is_of_proxy(value)) {
            let token = judge(app, bearer(value), &cx)?;
            cx.user = Some(format!("token {}", token.name));
            // Only tokens say what this call may do.
            cx.role = None;
            return Ok(Self { cx, token: Some(token) });
        }
        if cx.role.is_none() {
            return Err(
                ApiProblem::new(StatusCode::UNAUTHORIZED, "api_no_token", "the call has no token")
                    .hint("Authorization: Bearer TOKEN; `runner token new NAME` makes one"),
            );
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            from_the_dashboard(app, &cx, headers)?;
        }
        Ok(Self { cx, token: None })
    }

    /// Requires a right to a resource, the first segment of a path.
    ///
    /// # Errors
    ///
    /// 403 without it.
    pub fn may(&self, right: TokenRight, resource: &str) -> Result<(), ApiProblem> {
        let allowed = match &self.token {
            Some(token) => token.allows(right, resource),
            None => self.cx.may(role_for(right)).is_ok(),
        };
        if allowed {
            return Ok(());
        }
        let what = right.as_str();
        let problem = |detail| ApiProblem::new(StatusCode::FORBIDDEN, "api_forbidden", detail);
        Err(match &self.token {
            Some(token) => problem(format!("token {:?} has no scope {what} for {resource}", token.name))
                .hint(format!("scopes: [{what}] or [{what}:{resource}] in auth.tokens")),
            None => problem(format!("this needs the role {}", role_for(right).as_str())),
        })
    }
}

fn role_for(right: TokenRight) -> UserRole {
    match right {
        TokenRight::Read => UserRole::Viewer,
        TokenRight::Act => UserRole::Operator,
        TokenRight::Delete => UserRole::Admin,
    }
}

/// Whether a value of `Authorization` has another scheme than `Bearer`, such as `Basic`, which a proxy asks for.
fn is_of_proxy(value: &str) -> bool {
    value
        .split_once(' ')
        .is_some_and(|(scheme, _)| !scheme.is_empty() && !scheme.eq_ignore_ascii_case("bearer"))
}

/// The token of `Bearer TOKEN`.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The token of the settings that was presented.
fn judge(app: &AppState, presented: Option<&str>, cx: &RequestContext) -> Result<ApiToken, ApiProblem> {
    let now = cx.locale.now;
    let unauthorized = |code, detail: &str| ApiProblem::new(StatusCode::UNAUTHORIZED, code, detail);
    // A right token passes, whatever others of its address have tried: all of them may be behind one proxy.
    let Some(token) = presented.and_then(|presented| app.settings.tokens.find(presented)) else {
        let from = reached_by::current().client;
        if let Err(rest) = app.attempts.count(from, COUNTED_AS, now) {
            let detail = "too many wrong tokens came from this address";
            return Err(
                ApiProblem::new(StatusCode::TOO_MANY_REQUESTS, "api_too_many", detail).retry_after(rest.as_secs())
            );
        }
        tracing::warn!(target: "audit", action = "api.token", actor = "(unknown)", addr = %from, outcome = "refused");
        return Err(unauthorized("api_wrong_token", "the token is not one of the settings")
            .hint("Authorization: Bearer TOKEN, with a token of auth.tokens"));
    };
    if token.is_over(now) {
        let (name, expires) = (&token.name, token.expires.unwrap_or(now));
        return Err(
            unauthorized("api_token_expired", &format!("token {name:?} expired at {expires}"))
                .hint("`runner token new NAME` makes another one"),
        );
    }
    Ok(token)
}

/// Requires proof that an action of a browser, or of anyone where no login is needed, was not sent by a page of another site.
fn from_the_dashboard(app: &AppState, cx: &RequestContext, headers: &HeaderMap) -> Result<(), ApiProblem> {
    admit::same_site(&app.settings, &reached_by::current(), headers)?;
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let by_form = sign::holds(&app.settings.key, "form", &cx.bound_to(), text(FORM_TOKEN));
    // No page of another site can send JSON without asking first, and it is answered no.
    let open = matches!(app.settings.auth, Auth::Open) && is_json(headers);
    if by_form || open {
        return Ok(());
    }
    Err(ApiProblem::new(
        StatusCode::FORBIDDEN,
        "api_form_token",
        "an action needs a token, or the token of the dashboard's forms",
    )
    .hint("Authorization: Bearer TOKEN; where no login is needed, content-type: application/json"))
}

/// Whether the body is said to be JSON.
pub fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_read_in_its_forms() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc "), Some("abc"));
        for odd in ["", "abc", "Bearer", "Bearer  ", "Basic abc"] {
            assert_eq!(bearer(odd), None, "{odd}");
        }
        assert!(is_of_proxy("Basic YTpi") && is_of_proxy("Digest a=b"));
        for own in ["", "abc", "Bearer", "bearer  ", "Bearer abc", " abc"] {
            assert!(!is_of_proxy(own), "{own}");
        }
    }

    #[test]
    fn json_is_known_by_its_media_type() {
        let of = |kind: &str| {
            let mut headers = HeaderMap::new();
            if let Ok(value) = kind.parse() {
                headers.insert(header::CONTENT_TYPE, value);
            }
            is_json(&headers)
        };
        assert!(of("application/json") && of("Application/JSON; charset=utf-8"));
        assert!(!of("text/plain") && !of("application/jsonx") && !of("text/plain; application/json"));
    }
}
