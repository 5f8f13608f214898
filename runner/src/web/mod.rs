//! The dashboard at `/queue`, and the endpoints for machines: health, readiness, metrics.
//!
//! Reads and forwards, decides nothing: data comes from the broker and the sources, actions go to the broker. Every
//! page works without scripts.

mod act;
mod api;
mod app_state;
mod assets;
mod backlog;
mod broker_answer;
mod complete;
mod concurrency;
mod connections;
mod csv;
mod decision_reason;
mod error_page;
mod format;
mod guard;
mod hook_limits;
mod hooks;
mod layout;
mod light_answers;
mod page_error;
mod pages;
mod payload;
mod preview;
mod probe;
mod queue_figures;
mod reached_by;
mod reasons;
mod recent_decisions;
mod render;
mod request_context;
mod routes;
mod run_chart;
mod run_figures;
mod run_strip;
mod run_views;
mod schedule_health;
mod scrape;
mod serve;
mod timeline;
mod translations;
mod unclaimed;
mod urls;
mod write_deadline;

pub use crate::access::{
    ApiToken, Auth, PublicUrl, TokenList, TokenScope, TrustedProxies, User, UserList, UserRole, WebSettings, digest_of,
};
pub use app_state::{AppState, AppStateParts};
pub use render::TemplateError;
pub use routes::router;
pub use serve::serve;
