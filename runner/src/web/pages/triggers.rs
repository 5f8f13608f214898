//! Triggers and their connections, as the first page and `/metrics` show them. What they do is in `trigger`.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use serde::Serialize;

use crate::messaging::ConnectionFault;
use crate::trigger::{ConnectionStatus, ListenState, TriggerStatus};
use crate::web::app_state::AppState;
use crate::web::format::{self, InstantText, Locale};

/// Why something does not work.
#[derive(Debug, Serialize)]
struct FaultRow {
    code: &'static str,
    why: String,
    hint: &'static str,
}

impl FaultRow {
    fn new(fault: &ConnectionFault) -> Self {
        Self {
            code: fault.code,
            why: format::cut(&fault.why, format::IN_A_LIST * 4),
            hint: fault.hint,
        }
    }
}

/// One trigger.
#[derive(Debug, Serialize)]
pub(crate) struct TriggerRow {
    id: String,
    /// What it listens to.
    what: String,
    state: &'static str,
    icon: &'static str,
    tone: &'static str,
    since: InstantText,
    enqueued: u64,
    repeated: u64,
    bad: u64,
    unacked: u64,
    refused: u64,
    fault: Option<FaultRow>,
    /// Why the last message could not become a task, and when.
    last_bad: Option<(InstantText, String)>,
}

impl TriggerRow {
    /// All of this process.
    pub(crate) fn all(locale: &Locale, app: &AppState) -> Vec<Self> {
        app.board.triggers().iter().map(|one| Self::new(locale, one)).collect()
    }

    fn new(locale: &Locale, status: &TriggerStatus) -> Self {
        let (icon, tone) = match &status.state {
            ListenState::Listening => ("check", "good"),
            ListenState::Starting => ("skip", "plain"),
            ListenState::Disabled => ("pause", "plain"),
            ListenState::Holding(_) => ("warn", "warn"),
            ListenState::Failing(_) => ("cross", "bad"),
        };
        let counts = &status.counts;
        Self {
            id: status.trigger.id.to_string(),
            what: format::cut(&status.trigger.describe(), format::IN_A_LIST),
            state: status.state.as_str(),
            icon,
            tone,
            since: locale.moment(status.since),
            enqueued: counts.enqueued.load(Ordering::Relaxed),
            repeated: counts.repeated.load(Ordering::Relaxed),
            bad: counts.bad.load(Ordering::Relaxed),
            unacked: counts.unacked.load(Ordering::Relaxed),
            refused: counts.refused.load(Ordering::Relaxed),
            fault: match &status.state {
                ListenState::Failing(fault) => Some(FaultRow::new(fault)),
                _ => None,
            },
            last_bad: status
                .last_bad
                .as_ref()
                .map(|(at, why)| (locale.moment(*at), format::cut(why, format::IN_A_LIST * 4))),
        }
    }
}

/// One connection that triggers use.
#[derive(Debug, Serialize)]
pub(crate) struct ConnectionRow {
    name: String,
    server: String,
    connected: bool,
    blocked: Option<String>,
    since: InstantText,
    fault: Option<FaultRow>,
}

impl ConnectionRow {
    /// All of this process.
    pub(crate) fn all(locale: &Locale, app: &AppState) -> Vec<Self> {
        let new = |status: &ConnectionStatus| Self {
            name: status.name.clone(),
            server: format::cut(&status.server, format::IN_A_LIST),
            connected: status.connected,
            blocked: status.blocked.as_deref().map(|why| format::cut(why, format::IN_A_LIST)),
            since: locale.moment(status.since),
            fault: status.fault.as_ref().map(FaultRow::new),
        };
        app.board.connections().iter().map(new).collect()
    }
}

/// The figures of triggers and connections; nothing without triggers. `label` escapes a label value.
pub(crate) fn figures(app: &AppState, label: fn(&str) -> String) -> String {
    let (triggers, connections) = (app.board.triggers(), app.board.connections());
    let mut text = String::new();
    if triggers.is_empty() && connections.is_empty() {
        return text;
    }
    // Writing to a String cannot fail.
    let head = |text: &mut String, name: &str, kind: &str, help: &str| {
        let _infallible = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    };
    head(
        &mut text,
        "runner_trigger_messages",
        "counter",
        "Messages of triggers by result.",
    );
    for status in &triggers {
        let id = label(status.trigger.id.as_str());
        let counts = &status.counts;
        for (outcome, count) in [
            ("enqueued", &counts.enqueued),
            ("repeated", &counts.repeated),
            ("bad", &counts.bad),
            ("refused", &counts.refused),
        ] {
            let count = count.load(Ordering::Relaxed);
            let _infallible = writeln!(
                text,
                "runner_trigger_messages_total{{trigger=\"{id}\",outcome=\"{outcome}\"}} {count}"
            );
        }
    }
    head(
        &mut text,
        "runner_trigger_unacked",
        "gauge",
        "Messages that are becoming tasks and not acknowledged yet.",
    );
    for status in &triggers {
        let (id, count) = (
            label(status.trigger.id.as_str()),
            status.counts.unacked.load(Ordering::Relaxed),
        );
        let _infallible = writeln!(text, "runner_trigger_unacked{{trigger=\"{id}\"}} {count}");
    }
    head(
        &mut text,
        "runner_trigger_listening",
        "gauge",
        "Whether the trigger takes messages.",
    );
    for status in &triggers {
        let (id, up) = (
            label(status.trigger.id.as_str()),
            status.state == ListenState::Listening,
        );
        let _infallible = writeln!(text, "runner_trigger_listening{{trigger=\"{id}\"}} {}", u8::from(up));
    }
    head(
        &mut text,
        "runner_amqp_connected",
        "gauge",
        "Whether the connection to RabbitMQ is there.",
    );
    for status in &connections {
        let (name, up) = (label(&status.name), status.connected);
        let _infallible = writeln!(text, "runner_amqp_connected{{connection=\"{name}\"}} {}", u8::from(up));
    }
    text
}
