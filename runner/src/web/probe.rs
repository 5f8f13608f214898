//! Probes: is the process alive, is it ready. Its figures are in `scrape`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use runner_core::schedule::{Problem, Severity};
use serde::Serialize;

use super::app_state::AppState;
use super::broker_answer::BrokerAnswer;
use super::format;
use crate::access::Auth;
use crate::source::{SourceState, SourceStatus};

/// Maximum characters of a note.
const NOTE: usize = 300;

/// The answer of [`alive`].
#[derive(Serialize)]
pub struct Alive {
    status: &'static str,
}

/// `GET /healthz`: the process runs and answers, whatever the state of the broker.
pub async fn alive() -> Json<Alive> {
    Json(Alive { status: "alive" })
}

#[derive(Serialize)]
struct Check {
    name: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Details of the reason, or a caveat that does not make the process unready.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    checks: Vec<Check>,
}

/// `GET /readyz`: 200 if the broker answers and takes writes and every existing source was read once, else 503 with the
/// reasons; also 503 while the process stops or does not claim. If a source was read and is gone now, its last known
/// schedules stay in force: a note.
pub async fn ready(State(app): State<AppState>) -> Response {
    let broker = Arc::clone(&app.broker);
    let (broker, note) = match app.broker_answer.get(async move { broker.now().await }).await {
        BrokerAnswer::Given => match app.health.fault() {
            None => (None, caveats(&app)),
            Some(fault) => (Some(fault.code), shows_reasons(&app).then_some(fault.why)),
        },
        BrokerAnswer::Failed { code, why } => (Some(code), shows_reasons(&app).then_some(why)),
        BrokerAnswer::Late => (Some("broker_slow"), None),
    };
    let mut checks = vec![Check {
        note: note.map(|note| format::cut(&note, NOTE)),
        ..check("broker", broker)
    }];
    for source in app.catalog.statuses() {
        checks.push(of_source(&source, &app));
    }
    let process = if app.stopping.is_cancelled() {
        Some("stopping")
    } else {
        app.quiet.is_on().then_some("quiet")
    };
    checks.push(check("process", process));
    let ready = checks.iter().all(|c| c.ok);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Ready { ready, checks })).into_response()
}

/// Caveats that endanger tasks although the broker answers.
fn caveats(app: &AppState) -> Option<String> {
    let found = app.caveats.borrow();
    let notes: Vec<String> = found.iter().map(|c| format!("{}: {}", c.code, c.message)).collect();
    (!notes.is_empty()).then(|| notes.join("; "))
}

fn check(name: &str, reason: Option<&'static str>) -> Check {
    Check {
        name: name.to_owned(),
        ok: reason.is_none(),
        reason,
        note: None,
    }
}

/// Whether reasons may be shown without a login: such a text may name hosts and people.
fn shows_reasons(app: &AppState) -> bool {
    app.settings.metrics_open || matches!(app.settings.auth, Auth::Open)
}

/// The problems in a source that was read. The rest of it is in force, so this instance stays ready.
fn errors(source: &SourceStatus, detailed: Option<&AppState>) -> Option<String> {
    let count = match source.errors {
        0 => return None,
        1 => "1 error".to_owned(),
        more => format!("{more} errors"),
    };
    let Some(app) = detailed else { return Some(count) };
    let plan = app.catalog.plan();
    let is_error = |p: &&Problem| p.severity == Severity::Error && p.source == Some(source.source);
    let first = plan.problems.iter().find(is_error);
    Some(first.map_or(count.clone(), |first| format!("{count}: {}", first.one_line())))
}

fn of_source(source: &SourceStatus, app: &AppState) -> Check {
    let shows_reasons = shows_reasons(app);
    let (reason, note) = match &source.state {
        SourceState::Loaded => (None, errors(source, shows_reasons.then_some(app))),
        SourceState::Loading => (Some("loading"), None),
        SourceState::Stale { reason, .. } if shows_reasons => {
            (None, Some(format!("stale: {}", format::cut(reason, NOTE))))
        }
        SourceState::Stale { .. } => (None, Some("stale".to_owned())),
        SourceState::Unavailable { .. } if source.is_absent() => (None, Some("not there yet".to_owned())),
        SourceState::Unavailable { .. } => (Some("unavailable"), None),
    };
    Check {
        note,
        ..check(source.source.as_str(), reason)
    }
}
