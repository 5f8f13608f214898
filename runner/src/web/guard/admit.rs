//! Who asks, and may they: cookies become a [`Visitor`], every request that changes something must prove
//! that it comes from one of our own forms and from somebody with the right to it.
//!
//! A route needs to do nothing for this: whatever is not listed as open asks for an operator.

use std::sync::Arc;

use axum::extract::{FromRequest, MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use super::{cookies, session, sign};
use crate::web::desk::Desk;
use crate::web::fault::Fault;
use crate::web::public::Origin;
use crate::web::settings::{Auth, Role, Settings};
use crate::web::site::{self, Site};
use crate::web::text::{Lens, cut};
use crate::web::urls;
use crate::web::visitor::{Form, Notice, Theme, Visitor};
use crate::web::words::Lang;

/// Changes that anybody may make: they concern the browser that asks and nothing else.
const OPEN_POSTS: [&str; 3] = ["/queue/login", "/queue/logout", "/queue/prefs"];

/// The largest form, bytes; ours have a few hundred.
pub const FORM_LIMIT: usize = 16 * 1024;

/// What pages and log say of a header, characters.
const SHOWN: usize = 100;

/// The whole guard.
pub async fn admit(State(desk): State<Desk>, mut request: Request, next: Next) -> Response {
    let (visitor, fresh_guest) = visitor(&desk, &request);
    let visitor = Arc::new(visitor);
    request.extensions_mut().insert(visitor.clone());
    let mut response = match pass(&desk, &visitor, request).await {
        Ok(request) => next.run(request).await,
        Err(refused) => refused,
    };
    if fresh_guest {
        let lasts = session::LASTS.as_secs();
        cookies::set(response.headers_mut(), cookies::GUEST, &visitor.guest, lasts);
    }
    response.extensions_mut().insert(visitor);
    response
}

async fn pass(desk: &Desk, visitor: &Visitor, request: Request) -> Result<Request, Response> {
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| request.uri().path().to_owned(), |p| p.as_str().to_owned());
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let for_strangers = path == "/queue/login" || path.starts_with("/queue/assets/");
    let open = for_strangers || (!reads && OPEN_POSTS.contains(&path.as_str()));
    if visitor.role.is_none() && !open {
        return Err(if reads {
            Redirect::to(&urls::login(&visitor.here)).into_response()
        } else {
            Fault::LoginNeeded.into_response()
        });
    }
    if reads {
        return Ok(request);
    }
    let headers = request.headers().clone();
    let request = proven(desk, visitor, request).await.map_err(|fault| {
        note(desk, &site::current(), &headers, &fault);
        fault.into_response()
    })?;
    if !OPEN_POSTS.contains(&path.as_str()) {
        visitor.may(Role::Operator).map_err(IntoResponse::into_response)?;
    }
    Ok(request)
}

/// Reads the form and checks that it is one of ours.
async fn proven(desk: &Desk, visitor: &Visitor, request: Request) -> Result<Request, Fault> {
    same_site(&desk.settings, &site::current(), request.headers())?;
    let kind = request.headers().get(header::CONTENT_TYPE);
    let is_form = kind.is_some_and(|k| k.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    if !is_form {
        return Err(Fault::WrongMedia);
    }
    let (parts, body) = request.into_parts();
    let whole = Request::from_parts(parts.clone(), body);
    let axum::Form(pairs) = axum::Form::<Vec<(String, String)>>::from_request(whole, &())
        .await
        .map_err(|refused| match refused.into_response().status() {
            StatusCode::PAYLOAD_TOO_LARGE => Fault::TooLarge,
            _ => Fault::BadForm,
        })?;
    let form = Form::new(pairs)?;
    let token = form.get("token").unwrap_or_default();
    if !sign::holds(&desk.settings.key, "form", &visitor.bound_to(), token) {
        let known = cookies::get(&parts.headers, cookies::GUEST).is_some();
        return Err(if known { Fault::Forged } else { Fault::NoCookie });
    }
    let mut request = Request::from_parts(parts, axum::body::Body::empty());
    request.extensions_mut().insert(Arc::new(form));
    Ok(request)
}

/// What browsers say of themselves about where a form was sent from.
fn same_site(settings: &Settings, site: &Site, headers: &HeaderMap) -> Result<(), Fault> {
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or("?"));
    if let Some(place) = headers.get("sec-fetch-site")
        && !matches!(place.as_bytes(), b"same-origin" | b"none")
    {
        return Err(Fault::CrossSite(cut(origin.unwrap_or("another site"), SHOWN)));
    }
    let Some(origin) = origin else { return Ok(()) };
    if Origin::parse(origin).is_some_and(|from| is_ours(settings, site, &from)) {
        return Ok(());
    }
    Err(Fault::OtherOrigin {
        origin: cut(origin, SHOWN),
        host: cut(site.seen_host(), SHOWN),
    })
}

/// Whether pages of this origin are pages of this dashboard: by the name that the request is for, by the one that the
/// browser asked a trusted proxy for, or by the one in the settings.
fn is_ours(settings: &Settings, site: &Site, origin: &Origin) -> bool {
    let public = settings.public_url.as_ref().map(|url| &url.origin);
    origin.is_at(&site.host) || origin.is_at(site.seen_host()) || public == Some(origin)
}

/// Logs why a form was refused: the operator of a proxy reads the log, not the page.
fn note(desk: &Desk, site: &Site, headers: &HeaderMap, fault: &Fault) {
    let Some(left_out) = desk.refusals.line(desk.clock.now()) else {
        return;
    };
    let said = |name: &str| cut(headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("-"), SHOWN);
    let hint = match fault {
        Fault::OtherOrigin { .. } if !site.proxied && headers.contains_key("x-forwarded-host") => {
            "X-Forwarded-Host was ignored: it came from an address that is not in server.trusted_proxies"
        }
        Fault::OtherOrigin { .. } => {
            "behind a proxy: pass on X-Forwarded-Host, or set server.public_url; see docs/proxy.md"
        }
        Fault::NoCookie => "cookies may be blocked, or be meant for another path or scheme; see docs/proxy.md",
        _ => "",
    };
    tracing::warn!(
        code = "form_refused", reason = %fault, origin = %said("origin"), host = %cut(&site.host, SHOWN),
        forwarded_host = %said("x-forwarded-host"), peer = %site.client, left_out, hint, "a form was refused"
    );
}

/// Who asks, and whether their browser got its random name just now.
fn visitor(desk: &Desk, request: &Request) -> (Visitor, bool) {
    let headers = request.headers();
    let settings = &desk.settings;
    let now = desk.clock.now();
    let known = cookies::get(headers, cookies::GUEST)
        .filter(|guest| guest.len() == 32 && guest.bytes().all(|b| b.is_ascii_hexdigit()));
    let guest = known.map_or_else(|| uuid::Uuid::new_v4().simple().to_string(), str::to_owned);
    let (user, role) = match &settings.auth {
        Auth::Open => (None, Some(Role::Admin)),
        Auth::Login { .. } => session::of(desk, headers).map_or((None, None), |(user, role)| (Some(user), Some(role))),
    };
    let lang = language(headers);
    let here = request.uri().path_and_query().map_or("", |p| p.as_str());
    let mut visitor = Visitor {
        lens: Lens {
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
    };
    visitor.token = sign::signature(&settings.key, "form", &visitor.bound_to());
    (visitor, known.is_none())
}

/// The language chosen on the dashboard, else the browser's, else English.
pub fn language(headers: &HeaderMap) -> Lang {
    let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|v| v.to_str().ok());
    cookies::get(headers, cookies::LANG)
        .and_then(Lang::from_word)
        .or_else(|| accepted.and_then(Lang::from_accept))
        .unwrap_or_default()
}
