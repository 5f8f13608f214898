//! The limits of a function: `concurrency`, `rate_limit` and `sequence`.
//!
//! Not here: who keeps them, which is the claim of a broker.

use std::time::Duration;

use runner_core::limit::{
    LimitKey, LimitRule, MAX_LIMIT, MAX_RATE_PER, OnLimit, SemaphoreReach, SharedSemaphore, StartRate, TaskLimit,
};
use runner_core::task::QueueName;

use crate::text::yaml::Value;
use crate::text::{Field, Fields, Report, checks};

/// The keys of limits.
pub const LIMITS: &[&str] = &["concurrency", "rate_limit", "sequence"];

const CONCURRENCY: &str = "E163";
const RATE: &str = "E164";
const SEQUENCE: &str = "E165";

/// A semaphore that the broker does not share, also one that is stated in code.
pub const NO_SEMAPHORE: &str = "E168";

/// The shortest time over which a rate counts.
const MIN_RATE_PER: Duration = Duration::from_millis(1);

/// Reads all limits that are stated. `place`: which semaphores the broker can count, and the queue of the tasks.
pub fn read_limits(
    fields: &Fields<'_>,
    place: (SemaphoreReach, Option<&QueueName>),
    report: &mut Report<'_>,
) -> Vec<TaskLimit> {
    let sequence = fields.get("sequence", report).and_then(|f| read_sequence(f, report));
    let concurrency = fields.get("concurrency", report);
    let concurrency = concurrency.and_then(|f| read_concurrency(f, report));
    let rate = fields.get("rate_limit", report).and_then(|f| read_rate(f, report));
    if let Some(limit) = &concurrency {
        check_reach(limit, place, fields, report);
    }
    [sequence, concurrency, rate].into_iter().flatten().collect()
}

fn read_concurrency(field: &Field<'_>, report: &mut Report<'_>) -> Option<TaskLimit> {
    match &field.node.value {
        Value::Int(_) => {
            let most = field.whole(CONCURRENCY, 1..=MAX_LIMIT, report)?;
            Some(TaskLimit::new(LimitRule::Concurrency(most)))
        }
        Value::Map(_) => {
            let known = ["limit", "semaphore", "key", "on_limit"];
            let map = Fields::read(field.node, &field.path, &known, report)?;
            let Some(most) = map.get("limit", report) else {
                return missing(field, CONCURRENCY, "limit", report);
            };
            let most = most.whole(CONCURRENCY, 1..=MAX_LIMIT, report)?;
            let rule = match map.get("semaphore", report) {
                Some(scope) => LimitRule::Semaphore(read_semaphore(scope, most, report)?),
                None => LimitRule::Concurrency(most),
            };
            let (key, on_limit) = read_key_and_word(&map, CONCURRENCY, report)?;
            Some(TaskLimit { rule, key, on_limit })
        }
        _ => field.mismatch(
            CONCURRENCY,
            "a whole number, or a map with limit, semaphore, key and on_limit",
            report,
        ),
    }
}

fn read_semaphore(field: &Field<'_>, most: u32, report: &mut Report<'_>) -> Option<SharedSemaphore> {
    let scope = field.text(CONCURRENCY, report)?;
    SharedSemaphore::new(scope, most)
        .map_err(|why| report.error(CONCURRENCY, field.node.mark, format!("{}: {why}", field.path)))
        .ok()
}

/// Reports a semaphore that tasks in this queue cannot be counted by.
fn check_reach(
    limit: &TaskLimit,
    (reach, queue): (SemaphoreReach, Option<&QueueName>),
    fields: &Fields<'_>,
    report: &mut Report<'_>,
) {
    let queue = queue.cloned().unwrap_or_default();
    if let Some(fault) = limit.semaphore().and_then(|semaphore| reach.fault(semaphore, &queue))
        && let Some(field) = fields.peek("concurrency")
    {
        let text = format!("{}.semaphore: {fault}", field.path);
        report.error(NO_SEMAPHORE, field.node.mark, text).hint = Some(fault.hint());
    }
}

fn read_rate(field: &Field<'_>, report: &mut Report<'_>) -> Option<TaskLimit> {
    if !matches!(field.node.value, Value::Map(_)) {
        return field.mismatch(RATE, "a map with count, per, burst, key and on_limit", report);
    }
    let known = ["count", "per", "burst", "key", "on_limit"];
    let map = Fields::read(field.node, &field.path, &known, report)?;
    let Some(count) = map.get("count", report) else {
        return missing(field, RATE, "count", report);
    };
    let count = count.whole(RATE, 1..=MAX_LIMIT, report)?;
    let Some(per) = map.get("per", report) else {
        return missing(field, RATE, "per", report);
    };
    let per = read_per(per, report)?;
    let burst = match map.get("burst", report) {
        Some(burst) => burst.whole(RATE, 1..=MAX_LIMIT, report)?,
        None => count,
    };
    let (key, on_limit) = read_key_and_word(&map, RATE, report)?;
    let rule = LimitRule::Rate(StartRate { count, per, burst });
    Some(TaskLimit { rule, key, on_limit })
}

fn read_per(field: &Field<'_>, report: &mut Report<'_>) -> Option<Duration> {
    let Value::Text(text) = &field.node.value else {
        return field.mismatch(RATE, "a duration such as 1s, 100ms or 1h", report);
    };
    match checks::span(&field.path, text.trim(), &(MIN_RATE_PER..=MAX_RATE_PER)) {
        Ok(per) => Some(per),
        Err(wrong) => {
            report.error(RATE, field.node.mark, wrong.message).hint = wrong.hint;
            None
        }
    }
}

fn read_sequence(field: &Field<'_>, report: &mut Report<'_>) -> Option<TaskLimit> {
    let key = match field.node.value {
        Value::Bool(true) => None,
        Value::Bool(false) => return None,
        Value::Text(_) => Some(read_key(field, SEQUENCE, report)?),
        _ => {
            return field.mismatch(
                SEQUENCE,
                "a path such as payload.account, or true for all tasks",
                report,
            );
        }
    };
    Some(TaskLimit {
        key,
        ..TaskLimit::new(LimitRule::Sequence)
    })
}

fn read_key_and_word(map: &Fields<'_>, code: &str, report: &mut Report<'_>) -> Option<(Option<LimitKey>, OnLimit)> {
    let key = match map.get("key", report) {
        Some(field) => Some(read_key(field, code, report)?),
        None => None,
    };
    let on_limit = match map.get("on_limit", report) {
        Some(field) => field.word(code, &[("wait", OnLimit::Wait), ("skip", OnLimit::Skip)], report)?,
        None => OnLimit::default(),
    };
    Some((key, on_limit))
}

fn read_key(field: &Field<'_>, code: &str, report: &mut Report<'_>) -> Option<LimitKey> {
    let text = field.text(code, report)?;
    match LimitKey::new(text.trim()) {
        Ok(key) => Some(key),
        Err(why) => {
            let text = format!("{}: {why}", field.path);
            report.error(code, field.node.mark, text).hint = Some("for example payload.tenant".to_owned());
            None
        }
    }
}

fn missing<T>(field: &Field<'_>, code: &str, key: &str, report: &mut Report<'_>) -> Option<T> {
    let text = format!("{} needs {key}", field.path);
    report.error(code, field.node.mark, text);
    None
}
