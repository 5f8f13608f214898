//! Authenticates and authorises requests: cookies become a [`RequestContext`], and every change must prove that it
//! comes from one of our forms and from a user with the right to it.
//!
//! Closed by default: a route that is not listed as open requires an operator.

use std::sync::Arc;

use axum::extract::{FromRequest, MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use super::{cookies, session};
use crate::access::public_url::HttpOrigin;
use crate::access::sign;
use crate::access::{Auth, UserRole, WebSettings};
use crate::web::app_state::AppState;
use crate::web::format::{Locale, cut};
use crate::web::page_error::PageError;
use crate::web::reached_by::{self, ReachedBy};
use crate::web::request_context::{Form, Notice, RequestContext, Theme};
use crate::web::translations::Lang;
use crate::web::urls;

/// Changes open to everyone: they concern only the browser that sends them.
const OPEN_POSTS: [&str; 3] = ["/queue/login", "/queue/logout", "/queue/prefs"];

/// The largest form in bytes. Most have a few hundred; a page of ticked tasks with the longest names has about 50,000.
pub const FORM_LIMIT: usize = 64 * 1024;

/// The largest form, or body of the API, that has a row of the table with its payload: 64 KiB of it may be three times that
/// in a form.
pub const ROW_LIMIT: usize = 256 * 1024;

/// The most bytes that the body of a request to this path may have.
#[must_use]
pub fn body_limit(path: &str) -> usize {
    let schedule = ["/queue/schedules/", "/queue/api/v1/schedules/"];
    let inside = schedule.iter().find_map(|root| path.strip_prefix(root));
    let row = match inside {
        // `ID/edit`, `ID` or `new`.
        Some(rest) => rest.split_once('/').is_none_or(|(_, verb)| verb == "edit"),
        None => path == "/queue/api/v1/schedules",
    };
    if row { ROW_LIMIT } else { FORM_LIMIT }
}

/// Characters of a header shown on pages and in the log.
const SHOWN: usize = 100;

/// The middleware.
pub async fn admit(State(app): State<AppState>, mut request: Request, next: Next) -> Response {
    let (cx, fresh_guest) = cx(&app, request.uri(), request.headers());
    let cx = Arc::new(cx);
    request.extensions_mut().insert(cx.clone());
    let mut response = match pass(&app, &cx, request).await {
        Ok(request) => next.run(request).await,
        Err(refused) => refused,
    };
    if fresh_guest {
        let lasts = session::SESSION_TTL.as_secs();
        cookies::set(response.headers_mut(), cookies::GUEST, &cx.guest, lasts);
    }
    response.extensions_mut().insert(cx);
    response
}

async fn pass(app: &AppState, cx: &RequestContext, request: Request) -> Result<Request, Response> {
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| request.uri().path().to_owned(), |p| p.as_str().to_owned());
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let before_login = path == "/queue/login" || path.starts_with("/queue/assets/");
    let open = before_login || (!reads && OPEN_POSTS.contains(&path.as_str()));
    if cx.role.is_none() && !open {
        return Err(if reads {
            Redirect::to(&urls::login(&cx.here)).into_response()
        } else {
            PageError::LoginNeeded.into_response()
        });
    }
    if reads {
        return Ok(request);
    }
    let headers = request.headers().clone();
    let request = proven(app, cx, request).await.map_err(|fault| {
        note(app, &reached_by::current(), &headers, &fault);
        fault.into_response()
    })?;
    if !OPEN_POSTS.contains(&path.as_str()) {
        cx.may(UserRole::Operator).map_err(IntoResponse::into_response)?;
    }
    Ok(request)
}

/// Reads the form and checks that it is one of our forms.
async fn proven(app: &AppState, cx: &RequestContext, request: Request) -> Result<Request, PageError> {
    same_site(&app.settings, &reached_by::current(), request.headers())?;
    let kind = request.headers().get(header::CONTENT_TYPE);
    let is_form = kind.is_some_and(|k| k.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    if !is_form {
        return Err(PageError::WrongMedia);
    }
    let (parts, body) = request.into_parts();
    let whole = Request::from_parts(parts.clone(), body);
    let axum::Form(pairs) = axum::Form::<Vec<(String, String)>>::from_request(whole, &())
        .await
        .map_err(|refused| match refused.into_response().status() {
            StatusCode::PAYLOAD_TOO_LARGE => PageError::TooLarge,
            _ => PageError::BadForm,
        })?;
    let form = Form::new(pairs)?;
    let token = form.get("token").unwrap_or_default();
    if !sign::holds(&app.settings.key, "form", &cx.bound_to(), token) {
        let known = cookies::get(&parts.headers, cookies::GUEST).is_some();
        return Err(if known { PageError::Forged } else { PageError::NoCookie });
    }
    let mut request = Request::from_parts(parts, axum::body::Body::empty());
    request.extensions_mut().insert(Arc::new(form));
    Ok(request)
}

/// Checks the headers in which browsers report the origin of a form.
pub fn same_site(settings: &WebSettings, site: &ReachedBy, headers: &HeaderMap) -> Result<(), PageError> {
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or("?"));
    if let Some(place) = headers.get("sec-fetch-site")
        && !matches!(place.as_bytes(), b"same-origin" | b"none")
    {
        return Err(PageError::CrossSite(cut(origin.unwrap_or("another site"), SHOWN)));
    }
    let Some(origin) = origin else { return Ok(()) };
    if HttpOrigin::parse(origin).is_some_and(|from| is_ours(settings, site, &from)) {
        return Ok(());
    }
    Err(PageError::OtherOrigin {
        origin: cut(origin, SHOWN),
        host: cut(site.browser_host(), SHOWN),
    })
}

/// Whether this origin is the dashboard's: by the name of the request, by the one that a trusted proxy forwards, or by
/// the one in the settings.
fn is_ours(settings: &WebSettings, site: &ReachedBy, origin: &HttpOrigin) -> bool {
    let public = settings.public_url.as_ref().map(|url| &url.origin);
    origin.is_at(&site.host) || origin.is_at(site.browser_host()) || public == Some(origin)
}

/// Logs a refused form: the operator of a proxy reads the log, not the page.
fn note(app: &AppState, site: &ReachedBy, headers: &HeaderMap, fault: &PageError) {
    let Some(left_out) = app.refusals.line(app.clock.now()) else {
        return;
    };
    let said = |name: &str| cut(headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("-"), SHOWN);
    let hint = match fault {
        PageError::OtherOrigin { .. } if !site.proxied && headers.contains_key("x-forwarded-host") => {
            "X-Forwarded-Host was ignored: it came from an address that is not in server.trusted_proxies"
        }
        PageError::OtherOrigin { .. } => {
            "behind a proxy: pass on X-Forwarded-Host, or set server.public_url; see docs/proxy.md"
        }
        PageError::NoCookie => "cookies may be blocked, or be meant for another path or scheme; see docs/proxy.md",
        _ => "",
    };
    tracing::warn!(
        code = "form_refused", reason = %fault, origin = %said("origin"), host = %cut(&site.host, SHOWN),
        forwarded_host = %said("x-forwarded-host"), peer = %site.client, left_out, hint, "a form was refused"
    );
}

/// The context of a request, and whether its browser just got its random name.
pub fn cx(app: &AppState, uri: &Uri, headers: &HeaderMap) -> (RequestContext, bool) {
    let settings = &app.settings;
    let now = app.clock.now();
    let known = cookies::get(headers, cookies::GUEST)
        .filter(|guest| guest.len() == 32 && guest.bytes().all(|b| b.is_ascii_hexdigit()));
    let guest = known.map_or_else(|| uuid::Uuid::new_v4().simple().to_string(), str::to_owned);
    let (user, role) = match &settings.auth {
        Auth::Open => (None, Some(UserRole::Admin)),
        Auth::Login { .. } => session::of(app, headers).map_or((None, None), |(user, role)| (Some(user), Some(role))),
    };
    let lang = language(headers);
    let here = uri.path_and_query().map_or("", |p| p.as_str());
    let mut cx = RequestContext {
        locale: Locale {
            lang,
            zone: settings.zone.clone(),
            now,
        },
        theme: cookies::get(headers, cookies::THEME)
            .and_then(Theme::from_word)
            .unwrap_or_default(),
        guest,
        user,
        role,
        here: urls::inside(here),
        token: String::new(),
        notice: cookies::get(headers, cookies::NOTICE).and_then(|cookie| Notice::open(&settings.key, cookie)),
        audit: app.audit.clone(),
    };
    cx.token = sign::signature(&settings.key, "form", &cx.bound_to());
    (cx, known.is_none())
}

/// The language chosen on the dashboard, else the browser's, else English.
pub fn language(headers: &HeaderMap) -> Lang {
    let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|v| v.to_str().ok());
    cookies::get(headers, cookies::LANG)
        .and_then(Lang::from_word)
        .or_else(|| accepted.and_then(Lang::from_accept))
        .unwrap_or_default()
}
