//! `/metrics`: the process's counters and the broker's gauges, in the format that the scraper accepts.
//!
//! Not here: what is counted (`metrics`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use runner_core::task::{QueueName, TaskState};
use runner_queue::{Broker, BrokerResult, QueueInfo, Unclaimed, UnclaimedTypes, WorkflowState};

use super::app_state::AppState;
use super::format;
use super::guard::session;
use super::page_error::PageError;
use super::pages::triggers;
use crate::access::Auth;
use crate::metrics::{label, plain};

/// How long the broker may take to answer a scrape.
const PATIENCE: Duration = Duration::from_secs(2);
/// Maximum bytes without the unclaimed types; with them, at most 200 kB. Figures of functions and schedules come on top, at most 120 kB. Queues that do not fit are counted.
const LONGEST: usize = 140_000;
/// Queues queried in one call.
const CHUNK: usize = 100;
/// Characters of a task type in a label.
const LABEL: usize = 200;

/// The two formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// OpenMetrics 1.0.
    Open,
    /// Prometheus' text format 0.0.4.
    Plain,
}

impl Form {
    fn content_type(self) -> &'static str {
        match self {
            Self::Open => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// OpenMetrics for clients that name it and do not prefer plain text; plain text, which every scraper reads, for
    /// all others.
    fn negotiate(headers: &HeaderMap) -> Self {
        let (mut open, mut plain) = (0, 0);
        for value in headers.get_all(header::ACCEPT) {
            for range in value.to_str().unwrap_or_default().split(',') {
                let (kind, version, weight) = media_range(range);
                match (kind.as_str(), version) {
                    ("application/openmetrics-text", None | Some("1.0.0" | "0.0.1")) => open = open.max(weight),
                    ("text/plain", None | Some("0.0.4")) => plain = plain.max(weight),
                    _ => {}
                }
            }
        }
        if open > 0 && open >= plain {
            Self::Open
        } else {
            Self::Plain
        }
    }
}

/// Type, version and weight (thousandths) of one part of an `Accept` header. A malformed part has weight 0.
fn media_range(range: &str) -> (String, Option<&str>, u32) {
    let mut parts = range.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
    let (mut version, mut weight) = (None, 1000);
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "version" => version = Some(value),
            "q" => weight = thousandths(value).unwrap_or(0),
            _ => {}
        }
    }
    (kind, version, weight)
}

/// `0.5` is 500; at most three digits, as HTTP specifies.
fn thousandths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let whole: u32 = whole.parse().ok()?;
    let digits = part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit());
    let part: u32 = digits.then(|| format!("{part:0<3}").parse().ok())??;
    Some((whole * 1000 + part).min(1000)).filter(|_| whole <= 1)
}

/// `GET /metrics`: the process's counters and the broker's gauges. If the broker does not answer, its gauges are
/// missing and `runner_broker_up` is 0, as while it refuses writes; the counters are always there.
pub async fn metrics(State(app): State<AppState>, headers: HeaderMap) -> Result<Response, PageError> {
    if !app.settings.metrics_open && matches!(app.settings.auth, Auth::Login { .. }) {
        session::of(&app, &headers).ok_or(PageError::LoginNeeded)?;
    }
    let mut text = app.metrics.render();
    let query = async {
        // Limits the scrapers that query the broker at once; the semaphore is never closed.
        let _turn = app.scrapes.acquire().await;
        figures(&app, LONGEST.saturating_sub(text.len())).await.ok()
    };
    let figures = tokio::time::timeout(PATIENCE, query).await.ok().flatten();
    let up = figures.is_some() && app.health.fault().is_none();
    text.push_str(&up_or_down(up));
    text.push_str(&triggers::figures(&app, label));
    if let Some(figures) = figures {
        let found = app.unclaimed.look(&*app.broker, &figures.shown).await;
        text.push_str(&app.run_figures.text(&*app.broker, &app.catalog, app.clock.now()).await);
        text.push_str(&limits(&*app.broker, &figures.shown).await);
        text.push_str(&workflows(&*app.broker).await);
        text.push_str(&figures.text());
        waiting(&mut text, &found, app.clock.now());
    }
    let form = Form::negotiate(&headers);
    let text = match form {
        Form::Open => text + "# EOF\n",
        Form::Plain => plain(&text),
    };
    let kind: [(HeaderName, &str); 2] = [(header::CONTENT_TYPE, form.content_type()), (header::VARY, "accept")];
    Ok((kind, text).into_response())
}

/// The broker's figures of the queues, as far as they fit.
#[derive(Default)]
struct Figures {
    tasks: String,
    latency: String,
    paused: String,
    /// All queues, and those without figures.
    queues: usize,
    left_out: usize,
    /// Queues with figures.
    shown: Vec<QueueInfo>,
}

/// Queries the queues that the worker's settings name, then the others by name, until the text is `room` bytes long.
async fn figures(app: &AppState, room: usize) -> BrokerResult<Figures> {
    let names = app.broker.queue_names().await?;
    let (mut first, others): (Vec<QueueName>, Vec<QueueName>) =
        names.into_iter().partition(|name| app.settings.queues.contains(name));
    first.extend(others);
    let mut figures = Figures {
        queues: first.len(),
        left_out: first.len(),
        ..Figures::default()
    };
    for chunk in first.chunks(CHUNK) {
        for queue in app.broker.queues_of(chunk).await? {
            if !figures.add(&queue, room) {
                return Ok(figures);
            }
            figures.shown.push(queue);
        }
    }
    // A queue that was removed meanwhile is not counted as left out.
    figures.left_out = 0;
    Ok(figures)
}

impl Figures {
    /// Returns `false` if there is no room for the queue.
    fn add(&mut self, queue: &QueueInfo, room: usize) -> bool {
        let name = label(queue.name.as_str());
        let mut tasks = String::new();
        for (state, n) in &queue.counts {
            // Writing to a String cannot fail.
            let _infallible = writeln!(tasks, "runner_tasks{{queue=\"{name}\",state=\"{state}\"}} {n}");
        }
        let seconds = queue.latency.as_secs_f64();
        let latency = format!("runner_queue_latency_seconds{{queue=\"{name}\"}} {seconds}\n");
        let paused = format!("runner_queue_paused{{queue=\"{name}\"}} {}\n", u8::from(queue.paused));
        let so_far = self.tasks.len() + self.latency.len() + self.paused.len();
        if so_far + tasks.len() + latency.len() + paused.len() > room {
            return false;
        }
        self.tasks += &tasks;
        self.latency += &latency;
        self.paused += &paused;
        self.left_out = self.left_out.saturating_sub(1);
        true
    }

    fn text(self) -> String {
        let mut out = String::new();
        for (name, help, samples) in [
            ("runner_tasks", "Tasks by queue and state.", self.tasks),
            (
                "runner_queue_latency_seconds",
                "How long the oldest pending task has waited.",
                self.latency,
            ),
            (
                "runner_queue_paused",
                "Whether an operator paused the queue.",
                self.paused,
            ),
            (
                "runner_queues",
                "Queues in the store.",
                format!("runner_queues {}\n", self.queues),
            ),
            (
                "runner_queues_omitted",
                "Queues whose tasks, latency and pause are left out because there are too many queues.",
                format!("runner_queues_omitted {}\n", self.left_out),
            ),
        ] {
            out += &format!("# HELP {name} {help}\n# TYPE {name} gauge\n{samples}");
        }
        out
    }
}

/// Queues whose limits are read for one scrape, each in two round trips at most.
const LIMITED_QUEUES: usize = 50;

/// How many tasks run under each limit, and how many wait for it, over all values of its key. Left out for queues where no task
/// does either, and for those whose limits cannot be read in time.
async fn limits(broker: &dyn Broker, queues: &[QueueInfo]) -> String {
    let (mut running, mut waiting) = (String::new(), String::new());
    let states = [TaskState::Active, TaskState::Scheduled];
    let in_use = |queue: &&QueueInfo| {
        states
            .iter()
            .any(|state| queue.counts.get(state).is_some_and(|n| *n > 0))
    };
    let until = tokio::time::Instant::now() + PATIENCE;
    for queue in queues.iter().filter(in_use).take(LIMITED_QUEUES) {
        let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let found = tokio::time::timeout_at(until, broker.limits_in_use(&queue.name)).await;
        for limit in found.ok().and_then(Result::ok).unwrap_or_default() {
            let sum = sums.entry(limit.name).or_default();
            *sum = (sum.0 + limit.running, sum.1 + limit.waiting);
        }
        for (name, (run, wait)) in sums {
            let (queue, limit) = (label(queue.name.as_str()), label(&format::cut(&name, LABEL)));
            // Writing to a String cannot fail.
            let _infallible = writeln!(
                running,
                "runner_limit_running{{queue=\"{queue}\",limit=\"{limit}\"}} {run}"
            );
            let _infallible = writeln!(
                waiting,
                "runner_limit_waiting{{queue=\"{queue}\",limit=\"{limit}\"}} {wait}"
            );
        }
    }
    let mut out = String::new();
    for (name, help, samples) in [
        (
            "runner_limit_running",
            "Tasks that run under a limit, or keep their place in its order; 0 for a rate.",
            running,
        ),
        ("runner_limit_waiting", "Tasks that wait for a limit.", waiting),
    ] {
        out += &format!("# HELP {name} {help}\n# TYPE {name} gauge\n{samples}");
    }
    out
}

/// Open workflows whose states are read for one scrape.
const WORKFLOWS: usize = 1000;

/// Open workflows by state. Left out if they cannot be read in time.
async fn workflows(broker: &dyn Broker) -> String {
    let asked = broker.workflow_states(WORKFLOWS);
    let Ok(Ok(states)) = tokio::time::timeout(PATIENCE, asked).await else {
        return String::new();
    };
    let mut out = format!(
        "# HELP runner_workflows Workflows that are neither done nor cancelled, by state, among the newest {WORKFLOWS}.\n# TYPE runner_workflows gauge\n"
    );
    for state in [WorkflowState::Running, WorkflowState::Failed, WorkflowState::Cancelling] {
        let count = states.iter().filter(|other| **other == state).count();
        // Writing to a String cannot fail.
        let _infallible = writeln!(out, "runner_workflows{{state=\"{}\"}} {count}", state.as_str());
    }
    out
}

/// Unclaimed task types: at most a hundred, the oldest, and how many more there are.
fn waiting(out: &mut String, found: &UnclaimedTypes, now: Timestamp) {
    for (name, help, of) in [
        (
            "runner_unclaimed_tasks",
            "Pending tasks of a type that no worker has taken for over a minute, among the oldest 1,000 of the queue.",
            (|one: &Unclaimed, _| one.count.to_string()) as fn(&Unclaimed, Timestamp) -> String,
        ),
        (
            "runner_unclaimed_age_seconds",
            "How long the oldest of these tasks has waited.",
            |one, now| now.duration_since(one.oldest).as_secs().max(0).to_string(),
        ),
    ] {
        let _infallible = write!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n");
        for one in &found.types {
            let (queue, kind) = (label(one.queue.as_str()), label(&format::cut(&one.kind, LABEL)));
            let value = of(one, now);
            let _infallible = writeln!(out, "{name}{{queue=\"{queue}\",type=\"{kind}\"}} {value}");
        }
    }
    for (name, help, left_out) in [
        (
            "runner_unclaimed_types_omitted",
            "Further types of such tasks, left out because there are more than 100.",
            found.types_left_out,
        ),
        (
            "runner_unclaimed_queues_omitted",
            "Queues whose oldest task has waited for over a minute and whose types were not read because there are more than 50.",
            found.queues_left_out,
        ),
    ] {
        let _infallible = write!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {left_out}\n");
    }
}

/// Whether the broker answered and takes writes.
fn up_or_down(up: bool) -> String {
    format!(
        "# HELP runner_broker_up Whether the broker answered this scrape and takes writes.\n# TYPE runner_broker_up gauge\nrunner_broker_up {}\n",
        u8::from(up)
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn negotiate(accept: &str) -> Form {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        Form::negotiate(&headers)
    }

    #[test]
    fn what_the_bounds_of_unclaimed_types_leave_out_is_counted() {
        let oldest = Timestamp::from_second(100).unwrap();
        let unclaimed = Unclaimed {
            queue: QueueName::new("low").unwrap(),
            kind: "a\"b".to_owned(),
            count: 3,
            oldest,
        };
        let found = UnclaimedTypes {
            types: vec![unclaimed],
            types_left_out: 7,
            queues_left_out: 2,
        };
        let mut text = String::new();
        waiting(&mut text, &found, Timestamp::from_second(190).unwrap());
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = [
            r#"runner_unclaimed_tasks{queue="low",type="a\"b"} 3"#,
            r#"runner_unclaimed_age_seconds{queue="low",type="a\"b"} 90"#,
            "runner_unclaimed_types_omitted 7",
            "runner_unclaimed_queues_omitted 2",
        ];
        assert_eq!(samples, expected);
    }

    #[test]
    fn scrapers_get_the_format_that_they_accept() {
        // Prometheus 2 and 3, VictoriaMetrics' agent.
        for open in [
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            "application/openmetrics-text",
            "text/plain, Application/OpenMetrics-Text; Version=\"1.0.0\"",
        ] {
            assert_eq!(negotiate(open), Form::Open, "{open}");
        }
        for plain in [
            "text/plain;version=0.0.4",
            "text/plain;version=0.0.4;q=0.9,application/openmetrics-text;q=0.5",
            "*/*",
            "",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=x",
            "application/openmetrics-text;q=9",
            "application/openmetrics-text;version=2.0.0",
            ";;;=,,q=;",
        ] {
            assert_eq!(negotiate(plain), Form::Plain, "{plain}");
        }
        assert_eq!(Form::negotiate(&HeaderMap::new()), Form::Plain);
    }
}
