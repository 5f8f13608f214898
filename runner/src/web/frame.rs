//! What stands around every page: who looks, where they are, what the last action did.

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::desk::Desk;
use super::fault::Fault;
use super::guard::cookies;
use super::paint::{Page, TemplateFault};
use super::settings::{Auth, Role};
use super::text::Moment;
use super::urls;
use super::visitor::{Notice, Visitor};

/// The entry of the navigation that a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// `/queue`
    Overview,
    /// `/queue/queues/…` and `/queue/tasks/…`
    Queues,
    /// `/queue/schedules…`
    Schedules,
    /// `/queue/servers`
    Servers,
    /// None of them.
    None,
}

/// What a service is called until it is given a name.
const PRODUCT: &str = "runner";

#[derive(Serialize)]
struct May {
    view: bool,
    operate: bool,
    admin: bool,
}

#[derive(Serialize)]
struct Frame<'a> {
    lang: &'static str,
    theme: &'static str,
    section: Section,
    /// The first page; every fixed address of a template begins with it.
    root: String,
    here: &'a str,
    stamp: &'a str,
    user: Option<&'a str>,
    role: &'static str,
    may: May,
    login: bool,
    token: &'a str,
    notice: Option<&'a Notice>,
    now: Moment,
    zone: &'a str,
    service: &'a str,
    version: &'a str,
    instance: &'a str,
    broker: String,
}

/// The text of a page.
///
/// # Errors
///
/// When its template fails: a fault of ours.
pub fn html<P: Page>(desk: &Desk, visitor: &Visitor, section: Section, page: &P) -> Result<String, TemplateFault> {
    let can = |role| visitor.role.is_some_and(|own| own >= role);
    let inside = can(Role::Viewer);
    let frame = Frame {
        lang: visitor.lens.lang.tag(),
        theme: visitor.theme.as_str(),
        section,
        root: urls::root(),
        here: &visitor.here,
        stamp: desk.painter.stamp(),
        user: visitor.user.as_deref(),
        role: visitor.role.map_or("", Role::as_str),
        may: May {
            view: inside,
            operate: can(Role::Operator),
            admin: can(Role::Admin),
        },
        login: matches!(desk.settings.auth, Auth::Login { .. }),
        token: &visitor.token,
        notice: visitor.notice.as_ref(),
        now: visitor.lens.moment(visitor.lens.now),
        zone: &desk.settings.zone_name,
        // Strangers learn neither name nor version nor place.
        service: if inside { &desk.settings.name } else { PRODUCT },
        version: if inside { desk.settings.version } else { "" },
        instance: if inside { &desk.settings.instance } else { "" },
        broker: if inside { desk.broker.describe() } else { String::new() },
    };
    desk.painter.page(visitor.lens.lang, &frame, page)
}

/// A page as an answer. A notice that it shows is taken back from the browser.
///
/// # Errors
///
/// As [`html`].
pub fn show<P: Page>(desk: &Desk, visitor: &Visitor, section: Section, page: &P) -> Result<Response, Fault> {
    let text = html(desk, visitor, section, page)?;
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    if visitor.notice.is_some() {
        cookies::set(&mut headers, cookies::NOTICE, "", 0);
    }
    Ok((headers, text).into_response())
}
