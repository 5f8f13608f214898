//! The facts that every function gets about its task, under two spellings: variables of a command, headers of a request.

use std::collections::BTreeMap;

use runner_core::task::{TRACEPARENT, TRACESTATE};
use runner_sdk::Ctx;

/// One fact.
struct Fact {
    variable: &'static str,
    header: Option<&'static str>,
    value: Option<String>,
}

/// Task headers in which the scheduler describes the occurrence: task header, variable, request header.
const OCCASION: [(&str, &str, &str); 6] = [
    ("runner-schedule-id", "RUNNER_SCHEDULE_ID", "X-Runner-Schedule"),
    ("runner-scheduled-at", "RUNNER_SCHEDULED_AT", "X-Runner-Scheduled-At"),
    (
        "runner-interval-start",
        "RUNNER_INTERVAL_START",
        "X-Runner-Interval-Start",
    ),
    ("runner-fire-kind", "RUNNER_FIRE_KIND", "X-Runner-Fire-Kind"),
    ("runner-catch-up", "RUNNER_CATCH_UP", "X-Runner-Catch-Up"),
    ("runner-missed", "RUNNER_MISSED", "X-Runner-Missed"),
];

fn facts(cx: &Ctx, function: &str) -> Vec<Fact> {
    let fact = |variable, header: &'static str, value: String| Fact {
        variable,
        header: (!header.is_empty()).then_some(header),
        value: Some(value),
    };
    let mut facts = vec![
        fact("RUNNER_TASK_ID", "X-Runner-Task-Id", cx.id().to_string()),
        fact("RUNNER_TASK_TYPE", "X-Runner-Task-Type", cx.kind().to_owned()),
        fact("RUNNER_FUNCTION", "X-Runner-Function", function.to_owned()),
        fact("RUNNER_QUEUE", "X-Runner-Queue", cx.queue().to_string()),
        fact("RUNNER_ATTEMPT", "X-Runner-Attempt", cx.attempt().to_string()),
        fact(
            "RUNNER_MAX_ATTEMPTS",
            "X-Runner-Max-Attempts",
            cx.max_attempts().to_string(),
        ),
    ];
    facts.extend(OCCASION.map(|(key, variable, header)| Fact {
        variable,
        header: Some(header),
        value: cx.headers().get(key).cloned(),
    }));
    facts.push(Fact {
        variable: "RUNNER_DEADLINE",
        header: None,
        value: cx.deadline().map(|d| d.to_string()),
    });
    facts.push(Fact {
        variable: "RUNNER_TIMEOUT",
        header: Some("X-Runner-Timeout"),
        value: cx.time_limit().map(|t| t.as_secs().to_string()),
    });
    let trace = cx.trace();
    facts.push(Fact {
        variable: "TRACEPARENT",
        header: Some(TRACEPARENT),
        value: trace.map(|trace| trace.to_string()),
    });
    facts.push(Fact {
        variable: "TRACESTATE",
        header: Some(TRACESTATE),
        value: trace.and_then(|_| cx.headers().get(TRACESTATE).cloned()),
    });
    facts
}

/// The facts as variables. A value that no variable can hold (with a NUL) is left out: it came from outside and must not
/// prevent the start of the command.
pub(crate) fn variables(cx: &Ctx, function: &str) -> BTreeMap<&'static str, String> {
    let facts = facts(cx, function).into_iter();
    let set = facts.filter_map(|f| Some((f.variable, f.value?)));
    set.filter(|(_, value)| !value.contains('\0')).collect()
}

/// The facts as request headers; a value may still be invalid there.
pub(crate) fn headers(cx: &Ctx, function: &str) -> Vec<(&'static str, String)> {
    let facts = facts(cx, function).into_iter();
    facts.filter_map(|f| Some((f.header?, f.value?))).collect()
}
