//! The API at `/queue/api/v1`: the facts and the actions of the dashboard for programs, in JSON, with tokens.
//!
//! Below `/queue` because that is what proxies of the dashboard pass on. Nothing here answers with a page or a login.
//! Facts are [`crate::objects`], as `--json` of commands prints them; actions are those of `act`.

mod audit;
mod bad_messages;
mod caller;
mod document;
mod endpoint;
mod enqueue;
mod functions;
mod groups;
mod limits;
mod notifications;
mod operations;
mod paging;
mod problem;
mod queues;
mod rows;
mod schedules;
mod tasks;
mod workers;
mod workflows;

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

use super::app_state::AppState;
use super::reached_by;
use endpoint::{Endpoint, ROOT};
pub use problem::ApiProblem;

/// All versions are below.
const ALL_VERSIONS: &str = "/queue/api";

/// Below it: how a server reports the end of a task, in another form.
const COMPLETE: &str = "/tasks/";

/// Whether a path is one of the API, whatever its version: refusals there are in JSON.
pub fn is_api(path: &str) -> bool {
    let of_api = |rest: &str| rest.is_empty() || rest.starts_with('/') && !rest.starts_with(COMPLETE);
    path.strip_prefix(ALL_VERSIONS).is_some_and(of_api)
}

/// All calls.
fn endpoints() -> Vec<Endpoint> {
    let all = [
        queues::endpoints(),
        groups::endpoints(),
        tasks::endpoints(),
        schedules::endpoints(),
        rows::endpoints(),
        functions::endpoints(),
        workers::endpoints(),
        limits::endpoints(),
        workflows::endpoints(),
        bad_messages::endpoints(),
        notifications::endpoints(),
        audit::endpoints(),
        operations::endpoints(),
    ];
    all.into_iter().flatten().collect()
}

/// The address of each call, and of the document.
pub fn routes() -> Router<AppState> {
    let endpoints = endpoints();
    let document = Arc::new(document::of(&endpoints));
    let mut routes = Router::new().route(
        &format!("{ROOT}/openapi.json"),
        get(move || {
            let document = Arc::clone(&document);
            async move { document_at(&document) }
        }),
    );
    for endpoint in endpoints {
        routes = routes.route(&format!("{ROOT}{}", endpoint.path), endpoint.route);
    }
    routes
}

/// The document, with the address at which the caller reached it. Needs no token: it is the same for everyone.
fn document_at(document: &serde_json::Value) -> impl IntoResponse + use<> {
    let mut document = document.clone();
    let root = format!("{}{ROOT}", reached_by::current().base);
    document["servers"] = serde_json::json!([{ "url": root }]);
    ([(header::CONTENT_TYPE, "application/json")], document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_the_api() {
        for path in [
            "/queue/api",
            "/queue/api/",
            ROOT,
            "/queue/api/v1/tasks/q/1",
            "/queue/api/v2/queues",
        ] {
            assert!(is_api(path), "{path}");
        }
        for path in ["/queue", "/queue/apis", "/queue/api/tasks/it/complete", "/queue/tasks"] {
            assert!(!is_api(path), "{path}");
        }
    }
}
