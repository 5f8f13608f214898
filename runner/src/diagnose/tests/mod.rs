//! Every reason: with the facts that lead to it, and with the decisive fact changed. Then its order and its texts.
//!
//! Here are the facts that several subjects share, and what holds of all reasons.

#![allow(clippy::unwrap_used, clippy::panic)]

mod new_tasks;
mod schedules;
mod tasks;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use runner_core::task::{AttemptOutcome, QueueName, TaskId, TaskState};
use runner_queue::{QueueInfo, ServerInfo, ServerStatus, ServerView};

use super::*;

/// Seconds around the present of all tests.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_893_553_440 + seconds).unwrap()
}

fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

fn task(state: TaskState) -> TaskFacts {
    TaskFacts {
        id: Some(TaskId::new("1").unwrap()),
        kind: "mail".to_owned(),
        queue: queue("low"),
        state,
        next_run: None,
        deadline: None,
        lease_until: None,
        kept_until: None,
        waiting_for: None,
        group: None,
        retried: 0,
        max_retry: 3,
        last_outcome: None,
        last_started_at: None,
        last_failed_at: None,
        last_error: String::new(),
    }
}

fn pending() -> TaskFacts {
    task(TaskState::Pending)
}

/// A server of these queues (`low` or `high=9`) with a handler for `mail` and a free slot.
fn server(queues: &[&str]) -> ServerView {
    let priority = |name: &str| match name.split_once('=') {
        Some((name, n)) => (name.to_owned(), n.parse().unwrap()),
        None => (name.to_owned(), 1),
    };
    ServerView {
        info: ServerInfo {
            host: "host".to_owned(),
            pid: 7,
            id: "id".to_owned(),
            concurrency: 2,
            queues: queues.iter().map(|name| priority(name)).collect(),
            strict_priority: false,
            status: ServerStatus::Active,
            started_at: at(-60),
            active: 1,
            handlers: vec!["mail".to_owned()],
        },
        working: Vec::new(),
    }
}

fn changed(mut server: ServerView, change: impl FnOnce(&mut ServerView)) -> ServerView {
    change(&mut server);
    server
}

fn info(name: &str, pending: u64) -> QueueInfo {
    QueueInfo {
        name: queue(name),
        counts: BTreeMap::from([(TaskState::Pending, pending)]),
        paused: false,
        latency: Duration::ZERO,
        processed_today: 0,
        failed_today: 0,
        processed: 0,
        failed: 0,
    }
}

fn facts(servers: Vec<ServerView>) -> BrokerFacts {
    BrokerFacts {
        now: at(0),
        servers: Some(servers),
        queues: vec![info("low", 5)],
        ..BrokerFacts::default()
    }
}

/// One server takes such tasks from their queue.
fn served() -> BrokerFacts {
    facts(vec![server(&["low"])])
}

/// A reason, facts that lead to it, and facts that do not although only one differs.
struct Case {
    code: ReasonCode,
    with: Vec<Reason>,
    without: Vec<Reason>,
}

fn case(code: ReasonCode, with: Vec<Reason>, without: Vec<Reason>) -> Case {
    Case { code, with, without }
}

fn cases() -> Vec<Case> {
    let mut all = tasks::cases_of_queues();
    all.extend(tasks::cases_of_time());
    all.extend(tasks::cases_of_ends());
    all.extend(new_tasks::cases_of_new_tasks());
    all.extend(schedules::cases_of_schedules());
    all.extend(schedules::cases_of_decisions());
    all
}

fn codes(reasons: &[Reason]) -> Vec<&'static str> {
    reasons.iter().map(|reason| reason.code.as_str()).collect()
}

#[test]
fn each_reason_is_there_with_its_fact_and_not_without_it() {
    let mut left: BTreeSet<ReasonCode> = ReasonCode::ALL.iter().copied().collect();
    for Case { code, with, without } in cases() {
        let has = |reasons: &[Reason]| reasons.iter().any(|reason| reason.code == code);
        assert!(has(&with), "{code:?} is not among {:?}", codes(&with));
        assert!(!has(&without), "{code:?} is among {:?}", codes(&without));
        assert!(left.remove(&code), "{code:?} has two cases");
    }
    assert!(left.is_empty(), "no case leads to {left:?}");
}

#[test]
fn texts_have_a_value_for_each_place() {
    let show = |value: &ReasonValue| format!("{value:?}").replace(['{', '}'], "");
    for reason in cases().into_iter().flat_map(|case| case.with) {
        let text = reason.sentence(show) + &reason.hint(show).unwrap_or_default();
        assert!(!text.contains('{'), "{:?}: {text}", reason.code);
    }
}

#[test]
fn codes_are_unique_and_explained() {
    let all: BTreeSet<&str> = ReasonCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(all.len(), ReasonCode::ALL.len());
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/why.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("| ")).collect();
    for code in ReasonCode::ALL {
        let row = rows.iter().filter(|row| row.starts_with(code.as_str()));
        assert_eq!(row.count(), 1, "docs/why.md explains {} once", code.as_str());
    }
}

#[test]
fn names_in_commands_are_quoted() {
    let show = |value: &ReasonValue| format!("{value:?}");
    let hint = |id: &str| {
        let facts = TaskFacts {
            id: Some(TaskId::new(id).unwrap()),
            last_outcome: Some(AttemptOutcome::Archived),
            ..task(TaskState::Archived)
        };
        why_task(&facts, &served())[0].hint(show).unwrap()
    };
    assert_eq!(hint("a-1"), "`runner task run a-1` runs it again.");
    assert_eq!(hint("a; b'c"), r"`runner task run 'a; b'\''c'` runs it again.");
    assert_eq!(hint("-x"), "`runner task run -- -x` runs it again.");
    let damaged = why_damaged(&queue("a b"), &TaskId::new("-x").unwrap(), "no type");
    assert_eq!(
        damaged.hint(show).unwrap(),
        "`runner task show --queue='a b' -- -x` shows its bytes."
    );
}

#[test]
fn patterns_are_not_offered_as_names() {
    let hint = |name| why_task(&pending(), &facts(vec![server(&[name])]))[0].hint(|value| format!("{value:?}"));
    assert!(!hint("lwo*").unwrap().contains("Did you mean"));
}

#[test]
fn a_sentence_does_not_end_in_a_colon() {
    assert_eq!(closed("It failed: ", ':', "."), "It failed.");
    assert_eq!(closed("It failed. ", ':', "."), "It failed.");
    assert_eq!(closed("It failed: no route", ':', "."), "It failed: no route");
}

#[test]
fn names_that_were_probably_meant_are_in_the_hint() {
    let show = |value: &ReasonValue| match value {
        ReasonValue::Text(text) => text.clone(),
        other => format!("{other:?}"),
    };
    let hint = |reasons: &[Reason]| reasons[0].hint(show).unwrap();
    assert!(hint(&why_task(&pending(), &facts(vec![server(&["lwo"])]))).contains("Did you mean lwo?"));
    assert!(hint(&new_tasks::new_task("fn:bakcup", |_| ())).contains("Did you mean fn:backup?"));
}
