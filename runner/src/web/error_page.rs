//! The page of a fault: what failed and what to do, in the user's language; for the API, JSON instead. The faults are in `page_error`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::api;
use super::app_state::AppState;
use super::guard::admit;
use super::layout;
use super::page_error::PageError;
use super::render::PageTemplate;
use super::request_context::{RequestContext, SharedContext};

/// The page of a fault.
#[derive(Debug, Serialize)]
struct ErrorPage {
    status: u16,
    word: &'static str,
    what: String,
    other: String,
    trouble: Option<&'static str>,
}

impl PageTemplate for ErrorPage {
    const TEMPLATE: &'static str = "fault.html";
}

/// Turns empty answers that carry a fault into pages, in the user's language.
pub async fn add_error_page(State(app): State<AppState>, request: Request, next: Next) -> Response {
    let bodiless = *request.method() == Method::HEAD;
    let of_api = api::is_api(request.uri().path());
    let lang = admit::language(request.headers());
    let response = next.run(request).await;
    let Some(fault) = response.extensions().get::<Arc<PageError>>().cloned() else {
        return response;
    };
    if of_api {
        return problem(response, &fault);
    }
    let anonymous = || Arc::new(RequestContext::unknown(lang, app.clock.now()));
    let cx = response
        .extensions()
        .get::<SharedContext>()
        .cloned()
        .unwrap_or_else(anonymous);
    let page = ErrorPage {
        status: response.status().as_u16(),
        word: fault.word(),
        what: fault.what(),
        other: fault.other(),
        trouble: fault.trouble(),
    };
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    let body = match layout::html(&app, &cx, layout::NavSection::None, &page) {
        Ok(text) if !bodiless => text,
        Ok(_) => String::new(),
        // The fault's own page failed: a bare word is better than nothing.
        Err(_) => fault.to_string(),
    };
    parts.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    Response::from_parts(parts, body.into())
}

/// The same for programs. Headers of the answer stay: what may be called instead, when to call again.
fn problem(response: Response, fault: &PageError) -> Response {
    let (parts, _) = response.into_parts();
    let mut response = api::ApiProblem::of_page(fault).into_response();
    for name in [header::ALLOW, header::RETRY_AFTER] {
        if let Some(value) = parts.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}
