//! The style sheet, the script and the icon.

use axum::extract::{Path, State};
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};

use super::app_state::AppState;
use super::page_error::PageError;

/// A file of `templates/assets`, with the program's version in its address.
pub async fn show(State(app): State<AppState>, Path(name): Path<String>) -> Result<Response, PageError> {
    let kind = match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => return Err(PageError::NoPage),
    };
    let file = app.renderer.asset(&name).ok_or(PageError::NoPage)?;
    // Short, because the address does not change with the content in development; long enough for one visit.
    let headers: [(HeaderName, &str); 2] = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "public, max-age=300"),
    ];
    Ok((headers, file.into_owned()).into_response())
}
