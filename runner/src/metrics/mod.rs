//! What the process counts: written by the worker and the scheduler, shown at `/metrics`.
//!
//! Only the process's own counters live here; the web room reads the broker's state (queue sizes, latency) at scrape
//! time. Label values come from configuration, never from payloads.

mod plain;
mod run_counters;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};
use runner_core::task::{AttemptOutcome, RunCounts, RunSeries};

use self::run_counters::{RunCell, RunCounters};

pub use self::plain::{label, plain};

/// Bucket bounds in seconds for lateness of fires and waits: 1 ms to 5 min.
const LATENESS_BUCKETS: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 60.0, 300.0];

/// Bucket bounds in seconds for run times: 5 ms to 1 h.
const DURATION_BUCKETS: [f64; 10] = [0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueOutcome {
    queue: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabel {
    queue: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeOutcome {
    r#type: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabel {
    r#type: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabel {
    decision: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutputLabel {
    output: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DamageLabel {
    damage: &'static str,
}

/// Queues with their own counters beyond those named by the configuration: about 60 kB of text. The rest share one
/// label.
const QUEUES: usize = 60;

/// The label of queues without their own counters.
pub const OTHER_QUEUES: &str = "_other";

/// Task types with their own label: about 60 kB of text. The rest share one.
const TYPES: usize = 60;

/// The label of task types without their own counters.
pub const OTHER_TYPES: &str = "_other";

/// Counts the successes of one queue or type, and the waits of a queue, without looking up its counters each time.
#[derive(Debug, Clone)]
pub struct Successes {
    processed: Counter,
    duration: Histogram,
    /// Of a queue.
    wait: Option<Histogram>,
    runs: Arc<RunCell>,
}

/// What is counted of a type.
#[derive(Debug)]
struct TypeCounters {
    successes: Successes,
    /// Its name, or that of the types without their own label.
    label: String,
}

impl Successes {
    /// An attempt succeeded.
    pub fn add(&self, took: Duration) {
        self.processed.inc();
        self.duration.observe(took.as_secs_f64());
        self.runs.success(took);
    }

    /// A run begins, of a task of this queue. `length`: how long the task was pending.
    pub fn waited(&self, length: Duration) {
        if let Some(wait) = &self.wait {
            wait.observe(length.as_secs_f64());
        }
        self.runs.waited(length);
    }
}

/// The process's counters. Cheap to write from many tasks at once.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Queues with their own counters, and how many of them the configuration did not name.
    queues: Mutex<(HashSet<String>, usize)>,
    processed: Family<QueueOutcome, Counter>,
    duration: Family<QueueLabel, Histogram, fn() -> Histogram>,
    wait: Family<QueueLabel, Histogram, fn() -> Histogram>,
    /// The counters of each type that has its own, and those that the rest share.
    types: RwLock<HashMap<String, TypeCounters>>,
    /// What was counted since it was last added to the store.
    runs: RunCounters,
    type_processed: Family<TypeOutcome, Counter>,
    type_duration: Family<TypeLabel, Histogram, fn() -> Histogram>,
    fires: Family<DecisionLabel, Counter>,
    lateness: Histogram,
    corrected: Counter,
    broker_errors: Family<CodeLabel, Counter>,
    broker_state_lost: Counter,
    lost: Family<QueueLabel, Counter>,
    aggregated: Family<QueueOutcome, Counter>,
    aggregated_tasks: Family<QueueLabel, Counter>,
    aggregators_failing: Family<QueueLabel, Counter>,
    lost_alive: Family<QueueLabel, Counter>,
    suspects_put_off: Family<QueueLabel, Counter>,
    poison: Family<QueueLabel, Counter>,
    repaired: Family<DamageLabel, Counter>,
    trimmed: Counter,
    log_lines_lost: Family<OutputLabel, Counter>,
    records_trimmed: Counter,
    events: Family<OutcomeLabel, Counter>,
    otlp_spans: Family<OutcomeLabel, Counter>,
    workflows_ended: Family<OutcomeLabel, Counter>,
    audit_entries_dropped: Counter,
    active: Gauge,
    leader: Gauge,
    unsafe_policy: Gauge,
}

impl Default for Metrics {
    /// Registers every metric with its name (the encoder adds `_total` to counters) and its help.
    fn default() -> Self {
        let mut shown = Shown(Registry::with_prefix("runner"));
        Self {
            processed: shown.plain("tasks_processed", "Attempts that ended, by queue and outcome"),
            duration: shown.seconds("task_duration", "Run time of attempts", durations()),
            wait: waits(&mut shown),
            types: RwLock::default(),
            runs: RunCounters::default(),
            type_processed: shown.plain("type_processed", "Attempts that ended, by task type and outcome"),
            type_duration: shown.seconds("type_duration", "Run time of attempts, by task type", durations()),
            fires: shown.plain("fires", "Decisions about occurrences"),
            lateness: lateness(&mut shown),
            corrected: shown.plain(
                "cursors_corrected",
                "Cursors of schedules that were ahead of the broker's clock and were set to the present",
            ),
            aggregated: shown.plain(
                "group_sets",
                "Sets of grouped tasks that were to become one, by queue and outcome",
            ),
            aggregated_tasks: shown.plain("group_tasks", "Grouped tasks that became one with others"),
            active: shown.plain("worker_active", "Tasks in work in this process"),
            leader: shown.plain("scheduler_leader", "1 while this process leads the schedulers"),
            broker_errors: shown.plain("broker_errors", "Calls to the broker that failed, by code"),
            broker_state_lost: shown.plain(
                "broker_state_lost",
                "Times that everything in the broker was found to be gone",
            ),
            lost: shown.plain("tasks_lost", "Runs whose worker fell silent, noticed by this process"),
            aggregators_failing: shown.plain(
                "group_repeated_failures",
                "Failures of the aggregator of a group that followed a failure of the same group",
            ),
            lost_alive: shown.plain(
                "tasks_lost_alive",
                "Lost runs whose worker said that it lives: no crashes",
            ),
            suspects_put_off: shown.plain(
                "suspects_put_off",
                "Times that a task whose last worker died had to wait for its turn",
            ),
            poison: shown.plain(
                "poison",
                "Tasks archived because their worker died repeatedly while they ran",
            ),
            trimmed: shown.plain(
                "archive_trimmed",
                "Archived tasks that were deleted because the archive is bounded",
            ),
            log_lines_lost: log_lines_lost(&mut shown),
            records_trimmed: records_trimmed(&mut shown),
            events: shown.plain("events", "Lifecycle events by outcome: sent or dropped"),
            otlp_spans: shown.plain("otlp_spans", "Spans for OpenTelemetry by outcome: sent or dropped"),
            workflows_ended: workflows_ended(&mut shown),
            audit_entries_dropped: audit_entries_dropped(&mut shown),
            repaired: shown.plain(
                "repaired",
                "Damaged tasks that this process repaired, by kind of damage",
            ),
            unsafe_policy: shown.plain(
                "broker_unsafe_policy",
                "1 while the broker is set up to delete keys when its memory is full",
            ),
            queues: Mutex::default(),
            registry: shown.0,
        }
    }
}

fn records_trimmed(shown: &mut Shown) -> Counter {
    shown.plain(
        "records_trimmed",
        "Decisions, locks and counters of days that this process deleted from its file because they are bounded",
    )
}

fn audit_entries_dropped(shown: &mut Shown) -> Counter {
    shown.plain(
        "audit_entries_dropped",
        "Entries of the audit list that were not written because the broker took none",
    )
}

/// From zero for each output, so that a scraper sees the first loss as an increase.
fn log_lines_lost(shown: &mut Shown) -> Family<OutputLabel, Counter> {
    let lost: Family<OutputLabel, Counter> = shown.plain(
        "log_lines_lost",
        "Log lines that did not reach an output: it was too slow or could not be written",
    );
    for output in ["console", "file"] {
        drop(lost.get_or_create(&OutputLabel { output }));
    }
    lost
}

/// From zero for each outcome, for the same reason.
fn workflows_ended(shown: &mut Shown) -> Family<OutcomeLabel, Counter> {
    let ended: Family<OutcomeLabel, Counter> = shown.plain(
        "workflows_ended",
        "Workflows that failed, were done or were cancelled, as this process wrote it down",
    );
    for outcome in ["failed", "done", "cancelled"] {
        drop(ended.get_or_create(&OutcomeLabel { outcome }));
    }
    ended
}

fn lateness(shown: &mut Shown) -> Histogram {
    shown.seconds(
        "schedule_lateness",
        "From the planned instant of a fire to its commit",
        Histogram::new(LATENESS_BUCKETS),
    )
}

fn waits(shown: &mut Shown) -> Family<QueueLabel, Histogram, fn() -> Histogram> {
    let of_queue: Family<_, _, fn() -> _> = Family::new_with_constructor(|| Histogram::new(LATENESS_BUCKETS));
    shown.seconds(
        "task_wait",
        "How long tasks were pending before they were claimed",
        of_queue,
    )
}

/// Histograms of run times.
fn durations<L: Clone + std::hash::Hash + Eq>() -> Family<L, Histogram, fn() -> Histogram> {
    Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS))
}

/// Creates and registers metrics in one step, so that none is created and never exposed.
struct Shown(Registry);

impl Shown {
    fn plain<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    /// A metric in seconds, with the unit in its name.
    fn seconds<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register_with_unit(name, help, Unit::Seconds, metric.clone());
        metric
    }
}

impl Metrics {
    /// An attempt ended.
    pub fn attempt(&self, queue: &str, outcome: AttemptOutcome, took: Duration) {
        let label = self.label(queue);
        let processed = self.processed.get_or_create(&QueueOutcome {
            queue: label.clone(),
            outcome: outcome.as_str(),
        });
        processed.inc();
        drop(processed);
        self.durations(label).observe(took.as_secs_f64());
        self.runs.queue(queue).ended(outcome, took);
    }

    /// A run begins, of a task of this queue. `length`: how long the task was pending.
    pub fn waited(&self, queue: &str, length: Duration) {
        self.waits(self.label(queue)).observe(length.as_secs_f64());
        self.runs.queue(queue).waited(length);
    }

    /// An attempt at a task of this type ended. A success, the usual case, takes one look and two additions.
    pub fn attempt_of(&self, kind: &str, outcome: AttemptOutcome, took: Duration) {
        let known = self.types.read().unwrap_or_else(PoisonError::into_inner);
        let shared = || known.get(OTHER_TYPES).filter(|_| known.len() > run_counters::TYPES);
        let Some(counters) = known.get(kind).or_else(shared) else {
            drop(known);
            let name = self.type_label(kind);
            return self.attempt_of(&name, outcome, took);
        };
        if outcome == AttemptOutcome::Success {
            return counters.successes.add(took);
        }
        counters.successes.duration.observe(took.as_secs_f64());
        counters.successes.runs.ended(outcome, took);
        let label = TypeOutcome {
            r#type: counters.label.clone(),
            outcome: outcome.as_str(),
        };
        self.type_processed.get_or_create(&label).inc();
    }

    /// The label of a type without counters so far, which has some afterwards.
    fn type_label(&self, kind: &str) -> String {
        let mut types = self.types.write().unwrap_or_else(PoisonError::into_inner);
        let own_if = |room: bool| if room { kind } else { OTHER_TYPES };
        let name = own_if(types.len() < run_counters::TYPES);
        if !types.contains_key(name) {
            let (label, outcome) = (own_if(types.len() < TYPES).to_owned(), AttemptOutcome::Success.as_str());
            let processed = TypeOutcome {
                r#type: label.clone(),
                outcome,
            };
            let successes = Successes {
                processed: self.type_processed.get_or_create(&processed).clone(),
                duration: self
                    .type_duration
                    .get_or_create(&TypeLabel { r#type: label.clone() })
                    .clone(),
                wait: None,
                runs: match name == kind {
                    true => self.runs.of_type(kind),
                    // In the counts of their queues.
                    false => Arc::default(),
                },
            };
            types.insert(name.to_owned(), TypeCounters { successes, label });
        }
        name.to_owned()
    }

    /// The label of a queue: its name, or a shared one for all after the first [`QUEUES`].
    fn label(&self, queue: &str) -> String {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, found) = &mut *queues;
        if !known.contains(queue) {
            if *found >= QUEUES {
                return OTHER_QUEUES.to_owned();
            }
            *found += 1;
            known.insert(queue.to_owned());
        }
        queue.to_owned()
    }

    /// The success counters of one queue, for callers that count many; the queue gets its own label.
    pub fn successes(&self, queue: &str) -> Successes {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.0.insert(queue.to_owned());
        drop(queues);
        let of = |outcome: AttemptOutcome| {
            let label = QueueOutcome {
                queue: queue.to_owned(),
                outcome: outcome.as_str(),
            };
            self.processed.get_or_create(&label).clone()
        };
        // From zero, so that a scraper sees the first of them as an increase.
        of(AttemptOutcome::Archived);
        let label = QueueLabel {
            queue: queue.to_owned(),
        };
        drop(self.lost.get_or_create(&label));
        Successes {
            processed: of(AttemptOutcome::Success),
            duration: self.durations(queue.to_owned()),
            wait: Some(self.waits(queue.to_owned())),
            runs: self.runs.queue(queue),
        }
    }

    fn durations(&self, queue: String) -> Histogram {
        self.duration.get_or_create(&QueueLabel { queue }).clone()
    }

    fn waits(&self, queue: String) -> Histogram {
        self.wait.get_or_create(&QueueLabel { queue }).clone()
    }

    /// An occurrence (or `count` of them) was decided.
    pub fn decided(&self, decision: &'static str, count: u64) {
        self.fires.get_or_create(&DecisionLabel { decision }).inc_by(count);
    }

    /// A fire was committed this long after its instant.
    pub fn lateness(&self, late: Duration) {
        self.lateness.observe(late.as_secs_f64());
    }

    /// Counts cursors that were ahead of the broker's clock.
    pub fn corrected(&self, cursors: usize) {
        self.corrected.inc_by(cursors as u64);
    }

    /// A run ended without a report; `poison` if that made the task poison.
    pub fn lost(&self, queue: &str, poison: bool) {
        let label = QueueLabel {
            queue: self.label(queue),
        };
        if poison {
            self.poison.get_or_create(&label).inc();
        }
        self.lost.get_or_create(&label).inc();
        self.runs.lost(queue);
    }

    /// Everything in the broker is gone.
    pub fn broker_state_lost(&self) {
        self.broker_state_lost.inc();
    }

    /// A lost run was not a crash: its worker is this process.
    pub fn lost_alive(&self, queue: &str) {
        let queue = self.label(queue);
        self.lost_alive.get_or_create(&QueueLabel { queue }).inc();
    }

    /// A suspect had to wait for its turn.
    pub fn suspect_put_off(&self, queue: &str) {
        let queue = self.label(queue);
        self.suspects_put_off.get_or_create(&QueueLabel { queue }).inc();
    }

    /// An aggregation ended with this outcome.
    pub fn aggregated(&self, queue: &str, outcome: &'static str) {
        self.aggregated
            .get_or_create(&QueueOutcome {
                queue: self.label(queue),
                outcome,
            })
            .inc();
    }

    /// The aggregator of a group failed again with the same error.
    pub fn aggregator_failed_again(&self, queue: &str) {
        let queue = self.label(queue);
        self.aggregators_failing.get_or_create(&QueueLabel { queue }).inc();
    }

    /// `tasks` tasks were aggregated into one.
    pub fn aggregated_tasks(&self, queue: &str, tasks: usize) {
        self.aggregated_tasks
            .get_or_create(&QueueLabel {
                queue: self.label(queue),
            })
            .inc_by(u64::try_from(tasks).unwrap_or(u64::MAX));
    }

    /// Archived tasks were deleted to keep the archive within its bounds.
    pub fn trimmed(&self, tasks: usize) {
        self.trimmed.inc_by(tasks as u64);
    }

    /// Log lines did not reach an output.
    pub fn log_lines_lost(&self, output: &'static str, lines: usize) {
        self.log_lines_lost
            .get_or_create(&OutputLabel { output })
            .inc_by(lines as u64);
    }

    /// Entries of the audit list were dropped.
    pub fn audit_entries_dropped(&self, count: usize) {
        self.audit_entries_dropped.inc_by(count as u64);
    }

    /// Lifecycle events reached their server.
    pub fn events_sent(&self, count: usize) {
        self.events_with("sent", count);
    }

    /// Lifecycle events will never be sent.
    pub fn events_dropped(&self, count: usize) {
        self.events_with("dropped", count);
    }

    fn events_with(&self, outcome: &'static str, count: usize) {
        self.events
            .get_or_create(&OutcomeLabel { outcome })
            .inc_by(count as u64);
    }

    /// A workflow has failed or ended.
    pub fn workflow_ended(&self, outcome: &'static str) {
        self.workflows_ended.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Spans reached their receiver.
    pub fn spans_sent(&self, count: usize) {
        self.spans_with("sent", count);
    }

    /// Spans will never be sent.
    pub fn spans_dropped(&self, count: usize) {
        self.spans_with("dropped", count);
    }

    fn spans_with(&self, outcome: &'static str, count: usize) {
        self.otlp_spans
            .get_or_create(&OutcomeLabel { outcome })
            .inc_by(count as u64);
    }

    /// Records were deleted to keep them within their bounds.
    pub fn records_trimmed(&self, records: u64) {
        self.records_trimmed.inc_by(records);
    }

    /// Repaired damage, counted by kind.
    pub fn repaired(&self, counts: &[(&'static str, usize)]) {
        for (damage, count) in counts.iter().filter(|(_, count)| *count > 0) {
            self.repaired
                .get_or_create(&DamageLabel { damage })
                .inc_by(*count as u64);
        }
    }

    /// A call to the broker failed.
    pub fn broker_error(&self, code: &'static str) {
        self.broker_errors.get_or_create(&CodeLabel { code }).inc();
    }

    /// Tasks in progress now.
    pub fn set_active(&self, tasks: usize) {
        self.active.set(i64::try_from(tasks).unwrap_or(i64::MAX));
    }

    /// Whether this process leads.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Whether this process leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leader.get() > 0
    }

    /// Whether the broker may delete keys by itself.
    pub fn set_unsafe_policy(&self, evicts: bool) {
        self.unsafe_policy.set(i64::from(evicts));
    }

    /// What was counted of runs since the last call, the total included. Nothing if none ended.
    #[must_use]
    pub fn take_run_counts(&self) -> Vec<(RunSeries, RunCounts)> {
        self.runs.take()
    }

    /// OpenMetrics text, without the closing `# EOF`.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            text.clear(); // writing to a String does not fail
        }
        text.trim_end_matches("# EOF\n").to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names that alerts of users depend on; changing one breaks them.
    const NAMES: [&str; 28] = [
        "runner_tasks_processed counter",
        "runner_task_duration_seconds histogram",
        "runner_task_wait_seconds histogram",
        "runner_type_processed counter",
        "runner_type_duration_seconds histogram",
        "runner_fires counter",
        "runner_schedule_lateness_seconds histogram",
        "runner_cursors_corrected counter",
        "runner_group_sets counter",
        "runner_group_tasks counter",
        "runner_worker_active gauge",
        "runner_scheduler_leader gauge",
        "runner_broker_errors counter",
        "runner_broker_state_lost counter",
        "runner_tasks_lost counter",
        "runner_group_repeated_failures counter",
        "runner_tasks_lost_alive counter",
        "runner_suspects_put_off counter",
        "runner_poison counter",
        "runner_archive_trimmed counter",
        "runner_log_lines_lost counter",
        "runner_records_trimmed counter",
        "runner_events counter",
        "runner_otlp_spans counter",
        "runner_workflows_ended counter",
        "runner_audit_entries_dropped counter",
        "runner_repaired counter",
        "runner_broker_unsafe_policy gauge",
    ];

    #[test]
    fn names_and_kinds_are_the_ones_that_alerts_know() {
        let metrics = Metrics::default();
        // A metric with labels is not exposed before its first value.
        metrics.attempt_of("fn:backup", AttemptOutcome::Success, Duration::from_millis(3));
        metrics.attempt("default", AttemptOutcome::Success, Duration::from_millis(3));
        metrics.decided("fired", 2);
        metrics.lost("default", true);
        metrics.lost_alive("default");
        metrics.suspect_put_off("default");
        metrics.aggregated("default", "success");
        metrics.aggregated_tasks("default", 3);
        metrics.aggregator_failed_again("default");
        metrics.broker_error("broker_full");
        metrics.waited("default", Duration::from_millis(2));
        metrics.log_lines_lost("file", 1);
        metrics.repaired(&[("ghost", 1)]);
        metrics.events_sent(1);
        metrics.spans_sent(1);
        let text = metrics.render();
        let found: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        assert_eq!(found, NAMES);
    }

    #[test]
    fn thousands_of_queues_do_not_make_thousands_of_series() {
        let metrics = Metrics::default();
        metrics.successes("named").add(Duration::from_millis(3));
        for n in 0..5000 {
            let queue = format!("tenant-{n}");
            metrics.waited(&queue, Duration::from_millis(3));
            metrics.attempt(&queue, AttemptOutcome::Success, Duration::from_millis(3));
        }
        metrics.attempt("named", AttemptOutcome::Success, Duration::from_millis(3));
        let text = metrics.render();
        assert!(text.len() < 160_000, "{}", text.len());
        let waits = text
            .lines()
            .filter(|line| line.starts_with("runner_task_wait_seconds_count"));
        assert_eq!(
            waits.count(),
            QUEUES + 2,
            "those of 60, of the named one, and of the others"
        );
        assert!(text.contains(r#"runner_tasks_processed_total{queue="named",outcome="success"} 2"#));
        let others = format!(
            r#"runner_tasks_processed_total{{queue="{OTHER_QUEUES}",outcome="success"}} {}"#,
            5000 - QUEUES
        );
        assert!(text.contains(&others), "{others}");
    }

    #[test]
    fn types_beyond_the_bound_share_a_label() {
        let metrics = Metrics::default();
        for n in 0..1000 {
            for outcome in [AttemptOutcome::Success, AttemptOutcome::Archived] {
                metrics.attempt_of(&format!("type-{n}"), outcome, Duration::from_millis(3));
            }
        }
        metrics.attempt_of("type-0", AttemptOutcome::Success, Duration::from_millis(3));
        let text = metrics.render();
        assert!(text.len() < 100_000, "{}", text.len());
        let others = 1000 - TYPES;
        for sample in [
            r#"runner_type_processed_total{type="type-0",outcome="success"} 2"#.to_owned(),
            r#"runner_type_processed_total{type="type-0",outcome="archived"} 1"#.to_owned(),
            r#"runner_type_duration_seconds_count{type="type-0"} 3"#.to_owned(),
            format!(r#"runner_type_processed_total{{type="{OTHER_TYPES}",outcome="success"}} {others}"#),
            format!(r#"runner_type_processed_total{{type="{OTHER_TYPES}",outcome="archived"}} {others}"#),
        ] {
            assert!(text.contains(&sample), "{sample}");
        }
    }

    #[test]
    fn values_carry_their_labels() {
        let metrics = Metrics::default();
        metrics.attempt("default", AttemptOutcome::Success, Duration::from_millis(3));
        metrics.decided("fired", 2);
        metrics.lateness(Duration::from_millis(2));
        metrics.lost("default", true);
        let text = metrics.render();
        assert!(
            text.contains(r#"runner_tasks_processed_total{queue="default",outcome="success"} 1"#),
            "{text}"
        );
        assert!(text.contains(r#"runner_poison_total{queue="default"} 1"#), "{text}");
        assert!(text.contains(r#"runner_fires_total{decision="fired"} 2"#), "{text}");
        assert!(text.contains("runner_schedule_lateness_seconds_count 1"), "{text}");
    }
}
