//! The style sheet, the script and the icon.

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};

use super::app_state::AppState;
use super::page_error::PageError;

/// For addresses that change with the content.
const FOREVER: &str = "public, max-age=31536000, immutable";
/// For others: long enough for one visit.
const A_VISIT: &str = "public, max-age=300";

/// A file of `templates/assets`; pages name it with a hash of all of them.
pub async fn show(
    State(app): State<AppState>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, PageError> {
    let kind = match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => return Err(PageError::NoPage),
    };
    let file = app.renderer.asset(&name).ok_or(PageError::NoPage)?;
    // The address of a file has a hash of its content in it, except in development.
    let forever = query.as_deref() == Some(app.renderer.stamp()) && app.settings.templates.is_none();
    let kept = if forever { FOREVER } else { A_VISIT };
    let headers: [(HeaderName, &str); 2] = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, kept)];
    Ok((headers, file.into_owned()).into_response())
}
