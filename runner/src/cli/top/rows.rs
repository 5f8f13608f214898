//! What was read as rows of text: a table for each pane, and what can be done to each of its rows.
//!
//! Pure. Texts of tasks and manifests are shown with signs for characters that would steer the terminal.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use runner_core::schedule::ScheduleId;
use runner_core::task::{QueueName, RunCounts, TaskId, TaskState};
use runner_queue::{QueueInfo, ServerStatus, ServerView, TaskInfo, Working};

use super::snapshot::{LATELY, ScheduleSnapshot, TopSnapshot};
use crate::diagnose::{Fate, fate};
use crate::text::signs;

/// A pending task that has waited this long is worth a colour.
const LONG_WAIT: Duration = Duration::from_secs(60);

/// Characters of a cell; longer texts are of no use in a row.
const WIDEST: usize = 200;

/// One of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Pane {
    Queues,
    Running,
    Schedules,
    Workers,
    Failed,
}

impl Pane {
    pub const ALL: [Self; 5] = [
        Self::Queues,
        Self::Running,
        Self::Schedules,
        Self::Workers,
        Self::Failed,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Self::Queues => "Queues",
            Self::Running => "Running",
            Self::Schedules => "Schedules",
            Self::Workers => "Workers",
            Self::Failed => "Failed",
        }
    }

    /// Its columns.
    pub fn columns(self) -> &'static [ScreenColumn] {
        match self {
            Self::Queues => &QUEUES,
            Self::Running => &RUNNING,
            Self::Schedules => &SCHEDULES,
            Self::Workers => &WORKERS,
            Self::Failed => &FAILED,
        }
    }
}

/// A column of a table.
#[derive(Debug)]
pub(super) struct ScreenColumn {
    pub title: &'static str,
    /// Characters; the share of what is left if `grows`.
    pub width: u16,
    pub grows: bool,
    pub is_number: bool,
}

const fn text(title: &'static str, width: u16) -> ScreenColumn {
    ScreenColumn {
        title,
        width,
        grows: false,
        is_number: false,
    }
}

const fn growing(title: &'static str, width: u16) -> ScreenColumn {
    ScreenColumn {
        grows: true,
        ..text(title, width)
    }
}

const fn number(title: &'static str, width: u16) -> ScreenColumn {
    ScreenColumn {
        is_number: true,
        ..text(title, width)
    }
}

const QUEUES: [ScreenColumn; 12] = [
    growing("QUEUE", 12),
    number("PENDING", 9),
    number("ACTIVE", 7),
    number("SCHED", 8),
    number("RETRY", 8),
    number("ARCHIVED", 9),
    number("OLDEST", 8),
    number("A MIN", 8),
    number("FAILED", 7),
    number("RAN P95", 8),
    number("WAITED", 8),
    text("STATE", 7),
];

const RUNNING: [ScreenColumn; 6] = [
    growing("TYPE", 3),
    growing("TASK", 3),
    growing("QUEUE", 2),
    growing("WORKER", 2),
    number("RUNS", 8),
    number("ENDS BY", 8),
];

const SCHEDULES: [ScreenColumn; 7] = [
    growing("SCHEDULE", 4),
    growing("RULE", 3),
    number("NEXT", 10),
    number("LAST", 10),
    text("RUNS", 12),
    number("TOOK", 9),
    text("STATE", 20),
];

const WORKERS: [ScreenColumn; 6] = [
    growing("WORKER", 3),
    text("STATUS", 8),
    number("BUSY", 9),
    growing("QUEUES", 4),
    text("LANGUAGE", 8),
    number("SINCE", 8),
];

const FAILED: [ScreenColumn; 6] = [
    number("AGO", 7),
    growing("TYPE", 2),
    growing("TASK", 2),
    growing("QUEUE", 1),
    number("TRIES", 6),
    growing("ERROR", 5),
];

/// How a cell is to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    /// Less important.
    Quiet,
    /// Worth a look.
    Warning,
    /// Broken.
    Bad,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ScreenCell {
    pub text: String,
    pub tone: Tone,
}

impl ScreenCell {
    fn of(text: impl AsRef<str>, tone: Tone) -> Self {
        let text: String = signs::line(text.as_ref()).chars().take(WIDEST).collect();
        Self { text, tone }
    }
}

fn plain(text: impl AsRef<str>) -> ScreenCell {
    ScreenCell::of(text, Tone::Plain)
}

fn quiet(text: impl AsRef<str>) -> ScreenCell {
    ScreenCell::of(text, Tone::Quiet)
}

/// Nothing where there is nothing.
fn count(n: u64, tone: Tone) -> ScreenCell {
    match n {
        0 => quiet("·"),
        n => ScreenCell::of(n.to_string(), tone),
    }
}

/// What a row stands for, with what has to be known to act on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    Queue {
        name: QueueName,
        is_paused: bool,
    },
    Running {
        queue: QueueName,
        id: TaskId,
    },
    Schedule {
        id: ScheduleId,
        is_paused: bool,
    },
    Worker {
        id: String,
        name: String,
        is_paused: bool,
        concurrency: u32,
        is_go: bool,
    },
    Failed {
        queue: QueueName,
        id: TaskId,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// The same for the same thing at each look.
    pub key: String,
    pub cells: Vec<ScreenCell>,
    pub subject: Subject,
}

impl Row {
    fn contains(&self, needle: &str) -> bool {
        needle.is_empty() || self.cells.iter().any(|cell| cell.text.to_lowercase().contains(needle))
    }
}

/// The rows of a pane, those that contain `filter` in any cell, whatever its case.
pub(super) fn rows(look: &TopSnapshot, pane: Pane, filter: &str, zone: &TimeZone) -> Vec<Row> {
    let needle = filter.to_lowercase();
    let mut rows: Vec<Row> = match pane {
        Pane::Queues => look
            .queues
            .iter()
            .map(|(queue, counts)| of_queue(queue, counts.as_ref()))
            .collect(),
        Pane::Running => {
            let each = look.servers.iter();
            let mut all: Vec<(&ServerView, &Working)> = each
                .flat_map(|server| server.working.iter().map(move |task| (server, task)))
                .collect();
            all.sort_by(|a, b| (a.1.started_at, &a.1.id).cmp(&(b.1.started_at, &b.1.id)));
            all.into_iter()
                .map(|(server, task)| of_running(server, task, look.at))
                .collect()
        }
        Pane::Schedules => {
            let each = look.schedules.schedules.iter();
            each.map(|one| of_schedule(one, look.at, zone)).collect()
        }
        Pane::Workers => look.servers.iter().map(|server| of_worker(server, look.at)).collect(),
        Pane::Failed => look.failed.iter().map(|task| of_failed(task, look.at)).collect(),
    };
    rows.retain(|row| row.contains(&needle));
    rows
}

fn of_queue(queue: &QueueInfo, counts: Option<&RunCounts>) -> Row {
    let of = |state| queue.counts.get(&state).copied().unwrap_or(0);
    let waits = !queue.latency.is_zero();
    let long = queue.latency >= LONG_WAIT;
    let oldest = match waits {
        true => ScreenCell::of(span(queue.latency), if long { Tone::Warning } else { Tone::Plain }),
        false => quiet("·"),
    };
    let ended = counts.map_or(0, RunCounts::ended);
    let failed = counts.map_or(0, |counts| counts.failed);
    let lately = u64::try_from(LATELY).unwrap_or(1);
    let rate = match (ended, ended / lately) {
        (0, _) => quiet("·"),
        (_, 0) => plain("<1"),
        (_, rate) => plain(rate.to_string()),
    };
    let share = match (failed, failed.saturating_mul(100) / ended.max(1)) {
        (0, _) => quiet("·"),
        (_, 0) => plain("<1%"),
        (_, share) => ScreenCell::of(format!("{share}%"), if share >= 5 { Tone::Bad } else { Tone::Plain }),
    };
    let p95 = counts.and_then(|counts| counts.took_within(95));
    let waited = counts.and_then(|counts| counts.waited_within(95));
    let state = match (queue.paused, of(TaskState::Pending)) {
        (true, 0) => plain("paused"),
        (true, _) => ScreenCell::of("paused", Tone::Warning),
        (false, _) => plain(""),
    };
    Row {
        key: queue.name.to_string(),
        cells: vec![
            plain(queue.name.as_str()),
            count(of(TaskState::Pending), Tone::Plain),
            count(of(TaskState::Active), Tone::Plain),
            count(of(TaskState::Scheduled), Tone::Plain),
            count(of(TaskState::Retry), Tone::Plain),
            count(of(TaskState::Archived), Tone::Plain),
            oldest,
            rate,
            share,
            p95.map_or_else(|| quiet("·"), |took| plain(short(took))),
            waited.map_or_else(|| quiet("·"), |waited| plain(short(waited))),
            state,
        ],
        subject: Subject::Queue {
            name: queue.name.clone(),
            is_paused: queue.paused,
        },
    }
}

fn of_running(server: &ServerView, task: &Working, now: Timestamp) -> Row {
    let left = between(now, task.deadline);
    let ends = match left {
        Some(left) => plain(span(left)),
        None => ScreenCell::of("over", Tone::Bad),
    };
    Row {
        key: format!("{}/{}", task.queue, task.id),
        cells: vec![
            plain(&task.kind),
            plain(task.id.as_str()),
            plain(task.queue.as_str()),
            quiet(server.info.name()),
            plain(between(task.started_at, now).map_or_else(String::new, span)),
            ends,
        ],
        subject: Subject::Running {
            queue: task.queue.clone(),
            id: task.id.clone(),
        },
    }
}

fn of_schedule(one: &ScheduleSnapshot, now: Timestamp, zone: &TimeZone) -> Row {
    let definition = &one.definition;
    let next = match one.next {
        None => quiet("·"),
        Some(at) => match between(now, at) {
            None => plain("due"),
            Some(left) if left < Duration::from_secs(86_400) => plain(format!("in {}", span(left))),
            Some(_) => plain(at.to_zoned(zone.clone()).strftime("%Y-%m-%d").to_string()),
        },
    };
    let fates: Vec<Fate> = one.decisions.iter().filter_map(fate).collect();
    let strip: String = fates.iter().rev().map(|fate| sign(*fate)).collect();
    let last = one.decisions.iter().find_map(|decision| decision.end);
    let ago = last.and_then(|end| between(end.ended_at, now));
    let took = last.and_then(|end| between(end.started_at, end.ended_at));
    let state = match (definition.enabled, one.is_paused(), one.failed_in_a_row()) {
        (false, ..) => quiet("disabled"),
        (true, true, _) => ScreenCell::of("paused", Tone::Warning),
        (true, false, 0) => plain(""),
        (true, false, 1) => ScreenCell::of("the last run failed", Tone::Bad),
        (true, false, n) => ScreenCell::of(format!("failed {n} in a row"), Tone::Bad),
    };
    let tone = if state.tone == Tone::Bad {
        Tone::Bad
    } else {
        Tone::Plain
    };
    Row {
        key: definition.id.to_string(),
        cells: vec![
            plain(definition.id.as_str()),
            quiet(&definition.timing.text),
            next,
            ago.map_or_else(|| quiet("·"), |ago| plain(format!("{} ago", span(ago)))),
            ScreenCell::of(strip, tone),
            took.map_or_else(|| quiet("·"), |took| plain(short(took))),
            state,
        ],
        subject: Subject::Schedule {
            id: definition.id.clone(),
            is_paused: one.is_paused(),
        },
    }
}

/// The end of a run as one character; shapes differ, since colours may be missing.
fn sign(fate: Fate) -> char {
    match fate {
        Fate::Good => '+',
        Fate::Bad => 'x',
        Fate::Again => '~',
        Fate::Open => '.',
        Fate::Missed => '-',
    }
}

fn of_worker(server: &ServerView, now: Timestamp) -> Row {
    let info = &server.info;
    let queues: Vec<&str> = info.queues.keys().map(String::as_str).collect();
    let is_go = info.handlers.is_empty();
    let status = match info.status {
        ServerStatus::Active => plain("active"),
        ServerStatus::Stopped => ScreenCell::of("paused", Tone::Warning),
        ServerStatus::Closed => quiet("stopping"),
    };
    Row {
        key: info.id.clone(),
        cells: vec![
            plain(info.name()),
            status,
            plain(format!("{}/{}", info.active, info.concurrency)),
            plain(queues.join(" ")),
            quiet(if is_go { "Go" } else { "Rust" }),
            plain(between(info.started_at, now).map_or_else(String::new, span)),
        ],
        subject: Subject::Worker {
            id: info.id.clone(),
            name: info.name(),
            is_paused: info.status == ServerStatus::Stopped,
            concurrency: info.concurrency,
            is_go,
        },
    }
}

fn of_failed(task: &TaskInfo, now: Timestamp) -> Row {
    let record = &task.record;
    let at = record.last_failed_at.or(task.filed_at);
    let error = match record.last_error.is_empty() {
        true => quiet("archived by hand"),
        false => plain(&record.last_error),
    };
    Row {
        key: format!("{}/{}", record.queue, record.id),
        cells: vec![
            plain(at.and_then(|at| between(at, now)).map_or_else(String::new, span)),
            plain(&record.kind),
            plain(record.id.as_str()),
            plain(record.queue.as_str()),
            plain(format!("{}/{}", record.retried, record.max_retry)),
            error,
        ],
        subject: Subject::Failed {
            queue: record.queue.clone(),
            id: record.id.clone(),
        },
    }
}

/// The time from one instant to a later one.
fn between(from: Timestamp, to: Timestamp) -> Option<Duration> {
    Duration::try_from(to.duration_since(from)).ok()
}

/// A length of time in its largest unit.
pub(super) fn span(length: Duration) -> String {
    match length.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// A run time.
fn short(took: Duration) -> String {
    match took.as_millis() {
        millis @ 0..1_000 => format!("{millis} ms"),
        millis @ 1_000..10_000 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        _ => span(took),
    }
}
