//! The pages, one file each: a page is a serializable value with a template and a route.
//!
//! Pages only read. Changes are in `act`.

pub mod all_tasks;
pub mod audit;
pub mod bad_messages;
pub mod decisions;
mod failures;
pub mod find;
mod foreign;
pub mod function;
pub mod functions;
pub mod login;
mod needs;
pub mod notifications;
pub mod operations;
pub mod overview;
mod problem_groups;
pub mod raw;
pub mod row_editor;
pub mod rows;
pub mod run;
pub mod run_files;
pub mod schedule;
pub(crate) mod schedule_row;
pub mod schedules;
pub mod selected;
pub mod servers;
pub mod task;
pub mod tasks;
pub mod triggers;
pub mod workflows;

use axum::Router;
use axum::routing::{get, post};

use super::app_state::AppState;

/// The address of each page, and the forms of the login.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/queue", get(overview::show))
        .route("/queue/find", get(find::show))
        .route("/queue/queues/{queue}", get(tasks::enter))
        .route("/queue/queues/{queue}/{word}", get(tasks::show))
        .route("/queue/tasks", get(all_tasks::show))
        .route("/queue/tasks/selected", get(selected::show))
        .route("/queue/tasks/{queue}/{id}", get(task::show))
        .route("/queue/tasks/{queue}/{id}/payload", get(task::payload))
        .route("/queue/tasks/{queue}/{id}/output", get(run_files::output))
        .route(
            "/queue/tasks/{queue}/{id}/artifacts/{position}",
            get(run_files::download),
        )
        .route("/queue/schedules", get(schedules::show))
        .route("/queue/schedules/{id}", get(schedule::show))
        .route("/queue/functions", get(functions::show))
        .route("/queue/functions/{name}", get(function::show))
        .route("/queue/decisions", get(decisions::show))
        .route("/queue/servers", get(servers::show))
        .route("/queue/notifications", get(notifications::show))
        .route("/queue/bad-messages", get(bad_messages::show))
        .route("/queue/bad-messages/{name}/{stamp}", get(bad_messages::one))
        .route("/queue/bad-messages/{name}/{stamp}/body", get(bad_messages::body))
        .route("/queue/workflows", get(workflows::list))
        .route("/queue/workflows/{id}", get(workflows::show))
        .route("/queue/operations", get(operations::list))
        .route("/queue/operations/{id}", get(operations::show))
        .route("/queue/audit", get(audit::show))
        .route("/queue/audit.csv", get(audit::file))
        .route("/queue/login", get(login::show).post(login::enter))
        .route("/queue/logout", post(login::leave))
        .route("/queue/prefs", post(login::prefer))
}
