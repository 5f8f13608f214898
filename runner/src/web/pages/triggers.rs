//! Triggers and their connections, as pages and `/metrics` show them. What they do is in `trigger`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use runner_core::trigger::{TriggerDefinition, TriggerKind};
use runner_queue::BrokerResult;
use serde::Serialize;

use super::rows::ProblemRow;
use crate::trigger::{self, ConnectionStatus, FaultReport, InstanceReport, ListenState, SavedNames, TriggerReport};
use crate::web::app_state::AppState;
use crate::web::format::{self, InstantText, Locale};
use crate::web::urls;

/// How long the first page speaks of a message that could not become a task; it is kept longer.
const BAD_LATELY: Duration = Duration::from_secs(86_400);

/// What every instance says about its triggers, what could not become tasks lately, and the present by the broker's clock. This
/// process is asked itself.
#[derive(Default)]
pub(crate) struct AllTriggers {
    reports: Vec<InstanceReport>,
    bad: SavedNames,
    now: Timestamp,
}

impl AllTriggers {
    /// Asks for it.
    ///
    /// # Errors
    ///
    /// Those of the broker.
    pub(crate) async fn look(app: &AppState) -> BrokerResult<Self> {
        let own = InstanceReport::of(&app.board, &app.settings.instance);
        let (others, now) = tokio::try_join!(trigger::reports(&*app.broker), app.broker.now())?;
        let bad = SavedNames::of_last(&*app.broker, BAD_LATELY, now).await?;
        let others = others.into_iter().filter(|other| other.instance != own.instance);
        Ok(Self {
            reports: std::iter::once(own.clone()).chain(others).collect(),
            bad,
            now,
        })
    }

    /// What each instance says about the trigger of this id.
    fn of<'a>(&'a self, id: &'a str) -> impl Iterator<Item = (&'a InstanceReport, &'a TriggerReport)> {
        self.reports.iter().flat_map(move |instance| {
            let own = instance.triggers.iter().filter(move |report| report.id == id);
            own.map(move |report| (instance, report))
        })
    }

    /// The triggers that do not listen although they should: one problem for each and for each code; and those of which messages
    /// could not become tasks lately.
    pub(crate) fn problems(&self) -> Vec<ProblemRow> {
        let mut found = BTreeMap::new();
        for instance in self.reports.iter().filter(|one| one.silent_for(self.now).is_none()) {
            for report in &instance.triggers {
                if let Some(fault) = report.failure() {
                    let problem = || ProblemRow::of_trigger(&instance.instance, report, fault);
                    found.entry((&report.id, &fault.code)).or_insert_with(problem);
                }
            }
        }
        let bad = self.bad.by_trigger();
        found
            .into_values()
            .chain(bad.iter().map(ProblemRow::of_bad_messages))
            .collect()
    }

    /// A row for each instance of a trigger; one that says so if there is none.
    pub(crate) fn rows(&self, locale: &Locale, trigger: &TriggerDefinition) -> Vec<TriggerRow> {
        let of_instance = |(instance, report): (&InstanceReport, &TriggerReport)| TriggerRow {
            instance: instance.instance.clone(),
            silent: instance.silent_for(self.now).map(|silent| locale.span(silent)),
            kept_url: kept_url(trigger),
            ..TriggerRow::new(locale, report)
        };
        let rows: Vec<TriggerRow> = self.of(trigger.id.as_str()).map(of_instance).collect();
        match rows.is_empty() {
            true => vec![TriggerRow::unheard(trigger)],
            false => rows,
        }
    }
}

/// Why something does not work.
#[derive(Debug, Serialize)]
struct FaultRow {
    code: String,
    why: String,
    hint: String,
}

impl FaultRow {
    fn new(fault: &FaultReport) -> Self {
        Self {
            code: format::cut(&fault.code, format::IN_A_LIST),
            why: format::cut(&fault.why, format::IN_A_LIST * 4),
            hint: format::cut(&fault.hint, format::IN_A_LIST * 4),
        }
    }
}

/// One trigger of one instance.
#[derive(Debug, Serialize)]
pub(crate) struct TriggerRow {
    id: String,
    /// The page of its function.
    url: String,
    /// What it listens to.
    what: String,
    /// The instance, where those of several are shown.
    instance: String,
    /// For how long that instance has said nothing, if that is too long.
    silent: Option<String>,
    state: &'static str,
    icon: &'static str,
    tone: &'static str,
    since: Option<InstantText>,
    enqueued: u64,
    repeated: u64,
    bad: u64,
    unacked: u64,
    refused: u64,
    fault: Option<FaultRow>,
    /// Why the last message could not become a task, and when.
    last_bad: Option<(InstantText, String)>,
    /// Messages of it that could not become tasks and are kept, if it may have any.
    kept_url: Option<String>,
}

/// Where bad messages of a trigger are listed, if its kind has any.
fn kept_url(trigger: &TriggerDefinition) -> Option<String> {
    let has_messages = matches!(trigger.kind, TriggerKind::RabbitMq(_) | TriggerKind::RedisStream(_));
    has_messages.then(|| urls::bad_messages(Some(trigger.id.as_str())))
}

impl TriggerRow {
    /// All of this process.
    pub(crate) fn all(locale: &Locale, app: &AppState) -> Vec<Self> {
        let own = InstanceReport::of(&app.board, &app.settings.instance);
        let known = app.catalog.triggers();
        let row = |report: &TriggerReport| {
            let definition = known.iter().find(|trigger| trigger.id.as_str() == report.id);
            Self {
                kept_url: definition.and_then(|definition| kept_url(definition)),
                ..Self::new(locale, report)
            }
        };
        own.triggers.iter().map(row).collect()
    }

    /// One of which no instance says anything.
    fn unheard(trigger: &TriggerDefinition) -> Self {
        let (state, icon, tone) = match trigger.enabled {
            true => ("unheard", "warn", "warn"),
            false => ("disabled", "pause", "plain"),
        };
        Self {
            id: trigger.id.to_string(),
            url: urls::function(&trigger.function),
            what: format::cut(&trigger.describe(), format::IN_A_LIST),
            instance: String::new(),
            silent: None,
            state,
            icon,
            tone,
            since: None,
            enqueued: 0,
            repeated: 0,
            bad: 0,
            unacked: 0,
            refused: 0,
            fault: None,
            last_bad: None,
            kept_url: kept_url(trigger),
        }
    }

    fn new(locale: &Locale, report: &TriggerReport) -> Self {
        // Another version may know other words.
        let (state, icon, tone) = match report.state.as_str() {
            "listening" => ("listening", "check", "good"),
            "starting" => ("starting", "skip", "plain"),
            "waiting" => ("waiting", "skip", "plain"),
            "disabled" => ("disabled", "pause", "plain"),
            "holding" => ("holding", "warn", "warn"),
            "failing" => ("failing", "cross", "bad"),
            _ => ("unknown", "skip", "plain"),
        };
        let (function, _) = report.id.split_once(':').unwrap_or((&report.id, ""));
        Self {
            url: urls::function(function),
            id: format::cut(&report.id, format::IN_A_LIST),
            what: format::cut(&report.what, format::IN_A_LIST),
            instance: String::new(),
            silent: None,
            state,
            icon,
            tone,
            since: Some(locale.moment(report.since)),
            enqueued: report.enqueued,
            repeated: report.repeated,
            bad: report.bad,
            unacked: report.unacked,
            refused: report.refused,
            fault: report.fault.as_ref().map(FaultRow::new),
            last_bad: report
                .last_bad
                .as_ref()
                .map(|(at, why)| (locale.moment(*at), format::cut(why, format::IN_A_LIST * 4))),
            kept_url: None,
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
            fault: status.fault.as_ref().map(|fault| FaultRow::new(&fault.into())),
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
