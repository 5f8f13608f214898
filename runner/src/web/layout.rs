//! The frame of every page: user, navigation, notice of the last action.

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::app_state::AppState;
use super::format::InstantText;
use super::guard::cookies;
use super::page_error::PageError;
use super::render::{PageTemplate, TemplateError};
use super::request_context::{Notice, RequestContext};
use super::urls;
use crate::access::{Auth, UserRole};

/// The navigation entry of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NavSection {
    /// `/queue`
    Overview,
    /// `/queue/queues/…` and `/queue/tasks/…`
    Queues,
    /// `/queue/tasks`
    Tasks,
    /// `/queue/schedules…`
    Schedules,
    /// `/queue/servers`
    Servers,
    /// `/queue/notifications`
    Notifications,
    /// `/queue/workflows…`
    Workflows,
    /// `/queue/audit`
    Audit,
    /// None of them.
    None,
}

/// The default name of a service.
const PRODUCT: &str = "runner";

#[derive(Serialize)]
struct Rights {
    view: bool,
    operate: bool,
    admin: bool,
}

#[derive(Serialize)]
struct Layout<'a> {
    lang: &'static str,
    theme: &'static str,
    section: NavSection,
    /// The overview; every fixed address in a template begins with it.
    root: String,
    here: &'a str,
    stamp: &'a str,
    user: Option<&'a str>,
    role: &'static str,
    may: Rights,
    login: bool,
    token: &'a str,
    notice: Option<&'a Notice>,
    /// Failing schedules, for the title of the window.
    failing: usize,
    /// Something is wrong, for the icon of the window.
    trouble: bool,
    now: InstantText,
    zone: &'a str,
    service: &'a str,
    version: &'a str,
    instance: &'a str,
    broker: String,
}

/// The HTML of a page.
///
/// # Errors
///
/// If its template fails: an internal error.
pub fn html<P: PageTemplate>(
    app: &AppState,
    cx: &RequestContext,
    section: NavSection,
    page: &P,
) -> Result<String, TemplateError> {
    let can = |role| cx.role.is_some_and(|own| own >= role);
    let inside = can(UserRole::Viewer);
    let failing = if inside { app.schedule_health.failing() } else { 0 };
    let frame = Layout {
        failing,
        trouble: failing > 0 || (inside && app.health.fault().is_some()),
        lang: cx.locale.lang.tag(),
        theme: cx.theme.as_str(),
        section,
        root: urls::root(),
        here: &cx.here,
        stamp: app.renderer.stamp(),
        user: cx.user.as_deref(),
        role: cx.role.map_or("", UserRole::as_str),
        may: Rights {
            view: inside,
            operate: can(UserRole::Operator),
            admin: can(UserRole::Admin),
        },
        login: matches!(app.settings.auth, Auth::Login { .. }),
        token: &cx.token,
        notice: cx.notice.as_ref(),
        now: cx.locale.moment(cx.locale.now),
        zone: &app.settings.zone_name,
        // Without a login, reveal neither name, version nor broker.
        service: if inside { &app.settings.name } else { PRODUCT },
        version: if inside { app.settings.version } else { "" },
        instance: if inside { &app.settings.instance } else { "" },
        broker: if inside { app.broker.describe() } else { String::new() },
    };
    app.renderer.page(cx.locale.lang, &frame, page)
}

/// A page as an answer. Removes the cookie of a notice that it shows.
///
/// # Errors
///
/// As [`html`].
pub fn show<P: PageTemplate>(
    app: &AppState,
    cx: &RequestContext,
    section: NavSection,
    page: &P,
) -> Result<Response, PageError> {
    let text = html(app, cx, section, page)?;
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    if cx.notice.is_some() {
        cookies::set(&mut headers, cookies::NOTICE, "", 0);
    }
    Ok((headers, text).into_response())
}
