//! The options of schedules and tasks that are the same in manifests, rows and code: policies, queue, limits.

use std::time::Duration;

use runner_core::function::FunctionOptions;
use runner_core::limit::LimitKey;
use runner_core::schedule::{
    CatchUp, CatchUpPolicy, DEFAULT_CATCH_UP_MAX, DEFAULT_CATCH_UP_WINDOW, Definition, Overlap, Timing,
};
use runner_core::task::{OnConflict, QueueName, Unique, UniqueKey, UniqueScope};

use jiff::Timestamp;

use crate::text::yaml::Value;
use crate::text::{Field, Fields, Report};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// The longest time limit of an attempt; its lease must be renewed all that time.
const MAX_TIMEOUT: Duration = Duration::from_secs(7 * 86_400);
/// The longest retention of a finished task; each one takes space in the broker.
const MAX_RETENTION: Duration = Duration::from_secs(90 * 86_400);
/// The longest lifetime of a uniqueness lock.
const MAX_UNIQUE: Duration = Duration::from_secs(366 * 86_400);
/// How far back late occurrences are considered.
const MAX_WINDOW: Duration = Duration::from_secs(30 * 86_400);
/// The most retries; asynq's delay reaches weeks long before.
const MAX_RETRY: u32 = 1000;
/// The most late occurrences that one decision runs.
const MAX_CATCH_UP: u32 = 1000;

const CATCH_UP_WORDS: [(&str, CatchUpPolicy); 3] = [
    ("none", CatchUpPolicy::None),
    ("last", CatchUpPolicy::Last),
    ("all", CatchUpPolicy::All),
];

/// The keys of the task options, wherever a task is defined.
pub const TASK_OPTIONS: &[&str] = &["queue", "retry", "timeout", "retention", "unique"];

/// The keys of a schedule that say when it occurs.
pub const TIMING: &[&str] = &["cron", "every", "at", "timezone"];

/// The keys of [`Policies`], the same in manifests, rows and code.
pub const POLICIES: &[&str] = &["overlap", "catch_up", "jitter"];

/// Reads `queue`, `retry`, `timeout`, `retention` and `unique`.
pub fn read_task_options(fields: &Fields<'_>, report: &mut Report<'_>) -> FunctionOptions {
    let mut options = FunctionOptions::default();
    if let Some(field) = fields.get("queue", report)
        && let Some(name) = field.text("E166", report)
        && let Ok(name) = QueueName::new(name)
    {
        options.queue = Some(name);
    }
    if let Some(field) = fields.get("retry", report)
        && let Some(times) = field.whole("E160", 0..=MAX_RETRY, report)
    {
        options.max_retry = Some(times);
    }
    if let Some(field) = fields.get("timeout", report) {
        options.timeout = field.seconds("E161", SECOND..=MAX_TIMEOUT, report);
    }
    if let Some(field) = fields.get("retention", report)
        && let Some(keep) = field.seconds("E162", Duration::ZERO..=MAX_RETENTION, report)
    {
        options.retention = Some(keep);
    }
    if let Some(field) = fields.get("unique", report) {
        options.unique = read_unique(field, report);
    }
    options
}

/// Reads `unique`: a duration, or a map with what makes two tasks the same and what happens to the second one.
fn read_unique(field: &Field<'_>, report: &mut Report<'_>) -> Option<Unique> {
    const CODE: &str = "E167";
    if !matches!(field.node.value, Value::Map(_)) {
        return field.seconds(CODE, SECOND..=MAX_UNIQUE, report).map(Unique::new);
    }
    let map = Fields::read(field.node, &field.path, &["ttl", "key", "scope", "on_conflict"], report)?;
    let mut unique = Unique::new(SECOND);
    match map.get("ttl", report) {
        Some(ttl) => unique.ttl = ttl.seconds(CODE, SECOND..=MAX_UNIQUE, report)?,
        None => {
            if map.peek("ttl").is_none() {
                report
                    .error(CODE, map.mark, format!("{}.ttl is required", field.path))
                    .hint = Some("for example ttl: 1h".to_owned());
            }
            return None;
        }
    }
    if let Some(key) = map.get("key", report) {
        let path = LimitKey::new(key.text(CODE, report)?);
        match path {
            Ok(path) => unique.key = Some(UniqueKey::Payload(path.as_str().to_owned())),
            Err(why) => {
                report.error(CODE, key.node.mark, format!("{}: {why}", key.path));
                return None;
            }
        }
    }
    if let Some(scope) = map.get("scope", report) {
        unique.scope = scope.word(CODE, &UniqueScope::WORDS, report)?;
    }
    if let Some(conflict) = map.get("on_conflict", report) {
        unique.on_conflict = conflict.word(CODE, &OnConflict::WORDS, report)?;
    }
    Some(unique)
}

/// The policies for overlapping, late and simultaneous occurrences; `None` where nothing is stated.
#[derive(Debug, Clone, Copy, Default)]
pub struct Policies {
    /// While the previous task is unfinished.
    pub overlap: Option<Overlap>,
    /// After a time when no instance was up.
    pub catch_up: Option<CatchUp>,
    /// To spread simultaneous occurrences.
    pub jitter: Duration,
}

impl Policies {
    /// The definition with these policies; `overlap` is the default of its source.
    #[must_use]
    pub fn of(self, overlap: Overlap, definition: Definition) -> Definition {
        Definition {
            overlap: self.overlap.unwrap_or(overlap),
            catch_up: self.catch_up.unwrap_or_default(),
            jitter: self.jitter,
            ..definition
        }
    }
}

/// Reads `overlap`, `catch_up` and `jitter`; `overlap` is the default of the first.
pub fn read_policies(fields: &Fields<'_>, overlap: Overlap, report: &mut Report<'_>) -> Policies {
    let mut policies = Policies::default();
    if let Some(field) = fields.get("overlap", report) {
        policies.overlap = read_overlap(field, report);
    }
    if let Some(field) = fields.get("catch_up", report) {
        policies.catch_up = read_catch_up(field, report);
    }
    if let Some(field) = fields.get("jitter", report)
        && let Some(jitter) = field.seconds("E223", Duration::ZERO..=DAY, report)
    {
        policies.jitter = jitter;
    }
    if policies.overlap.unwrap_or(overlap).skips()
        && policies.catch_up.is_some_and(|c| c.policy == CatchUpPolicy::All)
        && let Some(field) = fields.peek("catch_up")
    {
        // The first of them is unfinished when the next ones are decided, a moment later.
        let text = "catch_up all with overlap skip runs only the newest of the late occurrences";
        report.warning("W224", field.node.mark, text).hint = Some("add overlap: allow".to_owned());
    }
    policies
}

fn read_overlap(field: &Field<'_>, report: &mut Report<'_>) -> Option<Overlap> {
    if !matches!(field.node.value, Value::Map(_)) {
        return read_overlap_word(field, report);
    }
    let map = Fields::read(field.node, &field.path, &["policy", "retries"], report)?;
    let policy = match map.get("policy", report) {
        Some(policy) => read_overlap_word(policy, report)?,
        None => Overlap::default(),
    };
    let Some(retries) = map.get("retries", report) else {
        return Some(policy);
    };
    let counted = retries.word("E217", &[("count", true), ("ignore", false)], report)?;
    match (policy, counted) {
        (Overlap::Allow, _) => {
            let text = format!("{} has no effect where {} is allow", retries.path, field.path);
            report.error("E217", retries.node.mark, text).hint =
                Some("remove retries, or write policy: skip".to_owned());
            None
        }
        (_, true) => Some(Overlap::Skip),
        (_, false) => Some(Overlap::SkipIgnoringRetries),
    }
}

fn read_overlap_word(field: &Field<'_>, report: &mut Report<'_>) -> Option<Overlap> {
    let words = [("skip", Overlap::Skip), ("allow", Overlap::Allow)];
    let read = field.word("E217", &words, report);
    if read.is_none()
        && let Value::Text(text) = &field.node.value
    {
        match text.to_lowercase().as_str() {
            "forbid" | "false" => report.hint_last("Forbid of Kubernetes is \"skip\" here"),
            "replace" => report.hint_last("a running task is never ended by its schedule"),
            _ => (),
        }
    }
    read
}

fn read_catch_up(field: &Field<'_>, report: &mut Report<'_>) -> Option<CatchUp> {
    if !matches!(field.node.value, Value::Map(_)) {
        let policy = field.word("E218", &CATCH_UP_WORDS, report)?;
        return Some(CatchUp {
            policy,
            ..CatchUp::default()
        });
    }
    let known = ["policy", "window", "max"];
    let map = Fields::read(field.node, &field.path, &known, report)?;
    let policy = map
        .get("policy", report)
        .and_then(|f| f.word("E218", &CATCH_UP_WORDS, report));
    let window = map
        .get("window", report)
        .and_then(|f| f.seconds("E218", SECOND..=MAX_WINDOW, report));
    let max = map
        .get("max", report)
        .and_then(|f| f.whole("E218", 1..=MAX_CATCH_UP, report));
    Some(CatchUp {
        policy: policy.unwrap_or_default(),
        window: window.unwrap_or(DEFAULT_CATCH_UP_WINDOW),
        max: max.unwrap_or(DEFAULT_CATCH_UP_MAX),
    })
}

/// Half of the shortest gap between the first occurrences after a fixed instant, if `jitter` is longer.
#[must_use]
pub fn clipped_jitter(timing: &Timing, jitter: Duration) -> Option<(Duration, Duration)> {
    /// Occurrences that are considered: enough for the pattern of any realistic expression.
    const LOOK: usize = 16;
    if jitter.is_zero() {
        return None;
    }
    let start = Timestamp::UNIX_EPOCH;
    let times = timing.upcoming(start, LOOK);
    let gaps = times
        .windows(2)
        .filter_map(|w| Duration::try_from(w[1].duration_since(w[0])).ok());
    let gap = gaps.min()?;
    (jitter > gap / 2).then_some((gap / 2, gap))
}
