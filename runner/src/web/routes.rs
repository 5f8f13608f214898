//! All addresses, and the guards around them. Those of pages are in `pages`, of actions in `act`, of programs in `api`.

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{any, get, post};
use tower_http::catch_panic::CatchPanicLayer;

use super::app_state::AppState;
use super::concurrency::{self, RequestLimits};
use super::error_page;
use super::guard::{admit, headers, host};
use super::hook_limits::is_hook;
use super::page_error::PageError;
use super::{act, api, assets, complete, hooks, light_answers, pages, probe, reached_by, scrape, urls};

/// How long a page may take; the broker has its own, shorter limits.
const PATIENCE: Duration = Duration::from_secs(15);

/// The whole site.
pub fn router(app: AppState) -> Router {
    let mut pages = Router::new()
        .route("/healthz", get(probe::alive))
        .route("/readyz", get(probe::ready))
        .route("/metrics", get(scrape::metrics))
        .route("/queue/api/tasks/{id}/complete", post(complete::complete));
    if app.settings.queue_dash {
        let guarded = dashboard().layer(middleware::from_fn_with_state(app.clone(), admit::admit));
        pages = pages
            .merge(guarded)
            .merge(api::routes())
            .route("/", get(|| async { Redirect::to(&urls::root()) }))
            .route("/queue/", get(|| async { Redirect::to(&urls::root()) }));
    }
    if app.settings.hooks {
        app.hooks.serve();
        pages = pages
            .route("/hooks/{function}", any(hooks::one))
            .route("/hooks/{function}/{trigger}", any(hooks::one));
    }
    let pages = pages
        .fallback(|| async { PageError::NoPage })
        .method_not_allowed_fallback(|| async { PageError::Method })
        .layer(DefaultBodyLimit::max(admit::ROW_LIMIT))
        .layer(middleware::from_fn(patience))
        .layer(middleware::from_fn_with_state(
            RequestLimits::default(),
            concurrency::pass,
        ))
        .layer(middleware::from_fn_with_state(app.clone(), host::check))
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            tracing::error!("a page panicked");
            PageError::Internal.into_response()
        }))
        .layer(middleware::from_fn_with_state(app.clone(), error_page::add_error_page))
        .layer(middleware::from_fn(headers::add))
        .layer(middleware::from_fn(light_answers::lighten))
        .with_state(app.clone());
    // Outside the routes, because it changes the path that they match.
    Router::new()
        .fallback_service(pages)
        .layer(middleware::from_fn_with_state(app, enter))
}

/// Pages, actions, and what pages load.
fn dashboard() -> Router<AppState> {
    pages::routes()
        .merge(act::routes())
        .route("/queue/assets/{name}", get(assets::show))
}

async fn enter(State(app): State<AppState>, request: Request, next: Next) -> Response {
    reached_by::enter(&app.settings, request, next).await
}

async fn patience(request: Request, next: Next) -> Response {
    // A hook may wait for a result; each of its steps has a limit.
    if is_hook(request.uri().path()) {
        return next.run(request).await;
    }
    match tokio::time::timeout(PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => PageError::Slow.into_response(),
    }
}
