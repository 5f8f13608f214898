//! The style sheet, the script and the icon.

use axum::extract::{Path, State};
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};

use super::desk::Desk;
use super::fault::Fault;

/// A file of `templates/assets`, under the program's version in its address.
pub async fn show(State(desk): State<Desk>, Path(name): Path<String>) -> Result<Response, Fault> {
    let kind = match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => return Err(Fault::NoPage),
    };
    let file = desk.painter.asset(&name).ok_or(Fault::NoPage)?;
    // Short, because the address does not change with the content; long enough for a visit.
    let headers: [(HeaderName, &str); 2] = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "public, max-age=300"),
    ];
    Ok((headers, file.into_owned()).into_response())
}
