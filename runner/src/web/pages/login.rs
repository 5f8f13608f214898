//! Login and logout, and the settings of one browser: language and theme.

use argon2::{Argon2, PasswordHash, PasswordVerifier};
use axum::Extension;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use runner_queue::AuditEntry;
use serde::{Deserialize, Serialize};

use crate::access::Auth;
use crate::web::app_state::AppState;
use crate::web::guard::{cookies, session};
use crate::web::layout::{self, NavSection};
use crate::web::page_error::PageError;
use crate::web::render::PageTemplate;
use crate::web::request_context::{Form, RequestContext, SharedContext, Theme};
use crate::web::translations::Lang;
use crate::web::{reached_by, urls};

/// The longest password that is checked, in bytes: hashing time grows with length.
const LONGEST_PASSWORD: usize = 1024;

/// The hash of an unused password, so that an unknown name takes as long as a wrong password.
const DUMMY_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5LW5vYm9keQ$\
dMV9Qm0kVvIGEmJvGvIGmMzJOxRqWGNJcPzAD3rRlWo";

/// The page.
#[derive(Debug, Serialize)]
struct LoginPage {
    next: String,
    wrong: bool,
    name: String,
}

impl PageTemplate for LoginPage {
    const TEMPLATE: &'static str = "login.html";
}

/// The query of the page.
#[derive(Debug, Deserialize)]
pub struct LoginQuery {
    next: Option<String>,
}

/// `GET /queue/login`
pub async fn show(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Query(query): Query<LoginQuery>,
) -> Result<Response, PageError> {
    let next = urls::inside(query.next.as_deref().unwrap_or_default());
    if cx.role.is_some() {
        return Ok(Redirect::to(&next).into_response());
    }
    page(&app, &cx, &next, None)
}

fn page(app: &AppState, cx: &RequestContext, next: &str, wrong: Option<&str>) -> Result<Response, PageError> {
    let page = LoginPage {
        next: next.to_owned(),
        wrong: wrong.is_some(),
        name: wrong.unwrap_or_default().to_owned(),
    };
    layout::show(app, cx, NavSection::None, &page)
}

/// `POST /queue/login`
pub async fn enter(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Extension(form): Extension<std::sync::Arc<Form>>,
) -> Result<Response, PageError> {
    if matches!(app.settings.auth, Auth::Open) {
        return Ok(Redirect::to(&urls::root()).into_response());
    }
    let name = form.get("name").unwrap_or_default().to_owned();
    let password = form.get("password").unwrap_or_default().to_owned();
    let from = reached_by::current().client;
    app.attempts
        .count(from, &name, cx.locale.now)
        .map_err(PageError::TooMany)?;
    let user = app.settings.user(&name);
    let hash = user
        .as_ref()
        .map_or(DUMMY_HASH, |u| u.password_hash.as_str())
        .to_owned();
    let right = matches(&app, password, hash).await?;
    let next = urls::inside(form.get("next").unwrap_or_default());
    match user.filter(|_| right) {
        Some(user) => {
            app.attempts.forgive(from, &name);
            tracing::info!(target: "audit", action = "login", actor = %user.name, addr = %from, outcome = "done");
            app.audit.put(login_entry(&cx, &user.name, "login"));
            let cookie = session::issue(&app.settings, &user, cx.locale.now);
            let mut headers = HeaderMap::new();
            cookies::set(&mut headers, cookies::SESSION, &cookie, session::SESSION_TTL.as_secs());
            // A new random name: one planted before the login is worthless after it.
            let guest = uuid::Uuid::new_v4().simple().to_string();
            cookies::set(&mut headers, cookies::GUEST, &guest, session::SESSION_TTL.as_secs());
            Ok((headers, Redirect::to(&next)).into_response())
        }
        None => {
            tracing::warn!(target: "audit", action = "login", actor = %name.escape_debug(), addr = %from, outcome = "refused");
            // Not in the audit list, which a stranger could fill with these.
            let page = page(&app, &cx, &next, Some(&name))?;
            Ok((StatusCode::UNAUTHORIZED, page).into_response())
        }
    }
}

/// A login or logout in the audit list.
fn login_entry(cx: &RequestContext, user: &str, action: &str) -> AuditEntry {
    AuditEntry {
        at: cx.locale.now,
        by: user.to_owned(),
        from: Some(reached_by::current().client.to_string()),
        action: action.to_owned(),
        outcome: "done".to_owned(),
        ..AuditEntry::default()
    }
}

/// Whether the password has this hash. Limits parallel computations and keeps them off the event loop.
async fn matches(app: &AppState, password: String, hash: String) -> Result<bool, PageError> {
    if password.len() > LONGEST_PASSWORD {
        return Ok(false);
    }
    let _turn = app.hashing.acquire().await.map_err(|_| PageError::Internal)?;
    tokio::task::spawn_blocking(move || {
        PasswordHash::new(&hash).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
    })
    .await
    .map_err(|_| PageError::Internal)
}

/// `POST /queue/logout`
pub async fn leave(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    request_headers: HeaderMap,
) -> Response {
    if let Some(cookie) = cookies::get(&request_headers, cookies::SESSION).filter(|_| cx.user.is_some()) {
        app.logouts.add(cookie, session::end(cx.locale.now), cx.locale.now);
    }
    if let Some(user) = &cx.user {
        tracing::info!(target: "audit", action = "logout", actor = %user, addr = %reached_by::current().client, outcome = "done");
        app.audit.put(login_entry(&cx, user, "logout"));
    }
    let mut headers = HeaderMap::new();
    cookies::set(&mut headers, cookies::SESSION, "", 0);
    cookies::set(&mut headers, cookies::GUEST, "", 0);
    (headers, Redirect::to(&urls::login(&urls::root()))).into_response()
}

/// `POST /queue/prefs`: language and theme, stored in cookies.
pub async fn prefer(Extension(form): Extension<std::sync::Arc<Form>>) -> Response {
    let mut headers = HeaderMap::new();
    if let Some(lang) = form.get("lang").and_then(Lang::from_word) {
        let word = if lang == Lang::Zh { "zh" } else { "en" };
        cookies::set(&mut headers, cookies::LANG, word, cookies::A_YEAR);
    }
    if let Some(theme) = form.get("theme").and_then(Theme::from_word) {
        cookies::set(&mut headers, cookies::THEME, theme.as_str(), cookies::A_YEAR);
    }
    (headers, Redirect::to(&form.back())).into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_unknown_name_costs_as_much_as_a_wrong_password() {
        let dummy = PasswordHash::new(DUMMY_HASH).unwrap();
        let usual = argon2::Params::try_from(&dummy).unwrap();
        let default = argon2::Params::default();
        assert_eq!((usual.m_cost(), usual.t_cost()), (default.m_cost(), default.t_cost()));
        assert!(Argon2::default().verify_password(b"", &dummy).is_err());
    }
}
