//! For machines: is the process alive, is it ready, what do its figures say.

use std::fmt::Write as _;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use runner_queue::QueueInfo;
use serde::Serialize;

use super::desk::Desk;
use super::fault::Fault;
use super::guard::session;
use super::settings::Auth;
use super::text;
use crate::source::{SourceState, SourceStatus};

/// How long the broker has for an answer to a probe.
const PATIENCE: Duration = Duration::from_secs(2);
/// Characters of a note, at most.
const NOTE: usize = 300;
/// Queues in the figures; each makes nine lines.
const QUEUES: usize = 1000;

/// The answer of [`alive`].
#[derive(Serialize)]
pub struct Alive {
    status: &'static str,
}

/// `GET /healthz`: the process runs and answers, whatever the broker does.
pub async fn alive() -> Json<Alive> {
    Json(Alive { status: "alive" })
}

#[derive(Serialize)]
struct Check {
    name: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// More about the reason, or what is not as it might be and yet no reason to send nobody here.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    checks: Vec<Check>,
}

/// `GET /readyz`: 200 when the broker answers and every source that exists was read once, else 503 with the
/// reasons. A source that was read and is gone now leaves its last known schedules in force: a note.
pub async fn ready(State(desk): State<Desk>) -> Response {
    let (broker, note) = match tokio::time::timeout(PATIENCE, desk.broker.now()).await {
        Ok(Ok(_)) => (None, caveats(&desk)),
        Ok(Err(error)) => (Some(error.code()), tells(&desk).then(|| crate::log::chain(&error))),
        Err(_) => (Some("broker_slow"), None),
    };
    let mut checks = vec![Check {
        note: note.map(|note| text::cut(&note, NOTE)),
        ..check("broker", broker)
    }];
    for source in desk.catalog.statuses() {
        checks.push(of_source(&source, tells(&desk)));
    }
    let stopping = desk.stopping.is_cancelled().then_some("stopping");
    checks.push(check("process", stopping));
    let ready = checks.iter().all(|c| c.ok);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Ready { ready, checks })).into_response()
}

/// What endangers tasks although the broker answers.
fn caveats(desk: &Desk) -> Option<String> {
    let found = desk.caveats.borrow();
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

/// Whether strangers may read why a source cannot be read: such a text may name hosts and people.
fn tells(desk: &Desk) -> bool {
    desk.settings.metrics_open || matches!(desk.settings.auth, Auth::Open)
}

fn of_source(source: &SourceStatus, tells: bool) -> Check {
    let (reason, note) = match &source.state {
        SourceState::Loaded => (None, None),
        SourceState::Loading => (Some("loading"), None),
        SourceState::Stale { reason, .. } if tells => (None, Some(format!("stale: {}", text::cut(reason, NOTE)))),
        SourceState::Stale { .. } => (None, Some("stale".to_owned())),
        SourceState::Unavailable { .. } if source.is_absent() => (None, Some("not there yet".to_owned())),
        SourceState::Unavailable { .. } => (Some("unavailable"), None),
    };
    Check {
        note,
        ..check(source.source.as_str(), reason)
    }
}

/// `GET /metrics`: the process's counters and the broker's gauges. A broker that does not answer leaves its
/// gauges out and `runner_broker_up` at 0; the counters are there all the same.
pub async fn metrics(State(desk): State<Desk>, headers: HeaderMap) -> Result<Response, Fault> {
    if !desk.settings.metrics_open && matches!(desk.settings.auth, Auth::Login { .. }) {
        session::of(&desk, &headers).ok_or(Fault::LoginNeeded)?;
    }
    let queues = match tokio::time::timeout(PATIENCE, desk.broker.queues()).await {
        Ok(Ok(queues)) => Some(queues),
        Ok(Err(_)) | Err(_) => None,
    };
    let mut text = desk.metrics.render();
    gauges(&mut text, queues.as_deref());
    text.push_str("# EOF\n");
    let kind: [(HeaderName, &str); 1] = [(
        header::CONTENT_TYPE,
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    )];
    Ok((kind, text).into_response())
}

fn gauges(out: &mut String, queues: Option<&[QueueInfo]>) {
    let mut line = |text: std::fmt::Arguments<'_>| {
        // Writing to a String cannot fail.
        let _infallible = out.write_fmt(text);
    };
    line(format_args!(
        "# HELP runner_broker_up Whether the broker answered this scrape.\n# TYPE runner_broker_up gauge\nrunner_broker_up {}\n",
        u8::from(queues.is_some())
    ));
    let Some(queues) = queues else { return };
    let queues = &queues[..queues.len().min(QUEUES)];
    line(format_args!(
        "# HELP runner_tasks Tasks by queue and state.\n# TYPE runner_tasks gauge\n"
    ));
    for queue in queues {
        let name = label(queue.name.as_str());
        for (state, n) in &queue.counts {
            line(format_args!("runner_tasks{{queue=\"{name}\",state=\"{state}\"}} {n}\n"));
        }
    }
    line(format_args!(
        "# HELP runner_queue_latency_seconds How long the oldest pending task has waited.\n# TYPE runner_queue_latency_seconds gauge\n"
    ));
    for queue in queues {
        let (name, seconds) = (label(queue.name.as_str()), queue.latency.as_secs_f64());
        line(format_args!(
            "runner_queue_latency_seconds{{queue=\"{name}\"}} {seconds}\n"
        ));
    }
    line(format_args!(
        "# HELP runner_queue_paused Whether an operator paused the queue.\n# TYPE runner_queue_paused gauge\n"
    ));
    for queue in queues {
        let (name, paused) = (label(queue.name.as_str()), u8::from(queue.paused));
        line(format_args!("runner_queue_paused{{queue=\"{name}\"}} {paused}\n"));
    }
}

/// A label value with the three characters escaped that the format asks for.
fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
