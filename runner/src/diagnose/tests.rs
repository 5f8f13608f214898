//! Every reason: with the facts that lead to it, and with the decisive fact changed. Then their order and their texts.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use runner_core::function::{ExecSpec, Function, FunctionKind, FunctionOptions, Functions};
use runner_core::schedule::{Ahead, CatchUp, Definition, Origin, Overlap, Problem, ScheduleId, Source, Timing, When};
use runner_core::task::{AttemptOutcome, QueueName, Run, Task, TaskId, TaskState};
use runner_queue::{
    Decision, DecisionKind, Pause, QueueInfo, RunRecord, ServerInfo, ServerStatus, ServerView, Standing, Trigger,
    Working,
};

use super::*;
use crate::health::BrokerFault;

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

fn definition() -> Definition {
    Definition {
        id: ScheduleId::code("a"),
        name: "a".into(),
        description: String::new(),
        origin: Origin {
            source: Source::Code,
            place: "code".into(),
        },
        enabled: true,
        timing: Timing {
            when: When::Every {
                every: Duration::from_secs(60),
                phase: Duration::ZERO,
            },
            text: "@every 1m".into(),
            zone_name: "UTC".into(),
            zone: TimeZone::UTC,
            dst: runner_core::cron::DstRule::default(),
        },
        overlap: Overlap::Allow,
        catch_up: CatchUp::default(),
        jitter: Duration::ZERO,
        task: Task::new("mail").queue(queue("low")),
    }
}

fn standing() -> Standing {
    Standing {
        cursor: at(0),
        paused: None,
        last: Some((at(-60), TaskId::new("1").unwrap())),
        ahead: Ahead::default(),
        was: None,
    }
}

fn decision(kind: DecisionKind) -> Decision {
    Decision {
        schedule: ScheduleId::code("a"),
        nominal: at(-60),
        kind,
        reason: "as it says".to_owned(),
        task: None,
        queue: None,
        end: None,
        count: 1,
        decided_at: at(-60),
        instance: "host:1".to_owned(),
    }
}

/// A schedule with changes in its definition and standing, and what was decided last.
fn of_schedule(
    change: impl FnOnce(&mut Definition, &mut Standing),
    decisions: &[Decision],
    broker: &BrokerFacts,
) -> Vec<Reason> {
    let (mut definition, mut standing) = (definition(), standing());
    change(&mut definition, &mut standing);
    let facts = ScheduleFacts {
        definition: &definition,
        standing: Some(&standing),
        decisions,
        superseded: false,
        no_function: false,
        last_task: None,
    };
    why_schedule(&facts, broker)
}

fn healthy() -> Vec<Reason> {
    of_schedule(|_, _| (), &[decision(DecisionKind::Fired)], &served())
}

/// The schedule whose last task is this one.
fn with_last(last: &TaskFacts) -> Vec<Reason> {
    let (definition, standing) = (definition(), standing());
    let facts = ScheduleFacts {
        definition: &definition,
        standing: Some(&standing),
        decisions: &[],
        superseded: false,
        no_function: false,
        last_task: Some((last, "no route")),
    };
    why_schedule(&facts, &served())
}

fn functions() -> Functions {
    let function = |name: &str, kind| Function {
        name: name.to_owned(),
        description: String::new(),
        kind,
        options: FunctionOptions::default(),
        revision: String::new(),
    };
    Functions::new(vec![
        function(
            "report",
            FunctionKind::Handler {
                kind: "task:report".to_owned(),
            },
        ),
        function("backup", FunctionKind::Exec(ExecSpec::new(["true"]))),
    ])
}

fn new_task(kind: &str, change: impl FnOnce(&mut FunctionFacts<'_>)) -> Vec<Reason> {
    let functions = functions();
    let mut facts = FunctionFacts {
        functions: &functions,
        broken: BTreeMap::new(),
        built_in: false,
        payload_fault: None,
    };
    change(&mut facts);
    why_new_task(kind, &facts)
}

fn archived(retried: u32, max_retry: u32, last: Option<AttemptOutcome>) -> Vec<Reason> {
    let facts = TaskFacts {
        retried,
        max_retry,
        last_outcome: last,
        ..task(TaskState::Archived)
    };
    why_task(&facts, &served())
}

fn leased(until: i64, servers: Vec<ServerView>) -> Vec<Reason> {
    let facts = TaskFacts {
        lease_until: Some(at(until)),
        ..task(TaskState::Active)
    };
    why_task(&facts, &self::facts(servers))
}

fn timed(state: TaskState, next: i64) -> Vec<Reason> {
    let facts = TaskFacts {
        next_run: Some(at(next)),
        ..task(state)
    };
    why_task(&facts, &served())
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

fn cases_of_queues() -> Vec<Case> {
    use ReasonCode::*;
    let of = |broker: &BrokerFacts| why_task(&pending(), broker);
    let with = |change: fn(&mut BrokerFacts)| {
        let mut facts = served();
        change(&mut facts);
        of(&facts)
    };
    let one = |change: fn(&mut ServerView)| of(&facts(vec![changed(server(&["low"]), change)]));
    let fault = |facts: &mut BrokerFacts| {
        facts.fault = Some(BrokerFault {
            code: "broker_full",
            why: "OOM".to_owned(),
            since: at(-5),
        });
    };
    let none = |expected: &[&str]| {
        let expected = Some(expected.iter().map(|name| (*name).to_owned()).collect());
        of(&BrokerFacts {
            expected,
            ..facts(Vec::new())
        })
    };
    let strict = |pending| {
        let server = changed(server(&["low", "high=9"]), |s| s.info.strict_priority = true);
        of(&BrokerFacts {
            queues: vec![info("low", 5), info("high", pending)],
            ..facts(vec![server])
        })
    };
    let waits = |what: Option<&str>| {
        let facts = TaskFacts {
            waiting_for: what.map(str::to_owned),
            ..pending()
        };
        why_task(&facts, &served())
    };
    vec![
        case(BrokerRefuses, with(fault), of(&served())),
        case(QueuePaused, with(|facts| facts.queues[0].paused = true), of(&served())),
        case(NoWorker, of(&facts(Vec::new())), of(&served())),
        case(QueueNew, none(&["default", "lo"]), none(&["lo*"])),
        case(
            QueueNotServed,
            of(&facts(vec![server(&["lwo"])])),
            of(&facts(vec![server(&["lo*"])])),
        ),
        case(
            ServersStopped,
            one(|s| s.info.status = ServerStatus::Stopped),
            one(|_| ()),
        ),
        case(
            TypeNotHandled,
            one(|s| s.info.handlers = vec!["m:*".to_owned()]),
            one(|s| s.info.handlers.clear()),
        ),
        case(WaitsFor, waits(Some("handler mail")), waits(None)),
        case(WorkersBusy, one(|s| s.info.active = 2), one(|_| ())),
        case(HigherQueues, strict(1), strict(0)),
        case(WaitsItsTurn, of(&served()), with(|facts| facts.servers = None)),
    ]
}

/// A server that says that it runs the task.
fn running() -> ServerView {
    changed(server(&["low"]), |server| {
        server.working.push(Working {
            id: TaskId::new("1").unwrap(),
            kind: "mail".to_owned(),
            queue: queue("low"),
            started_at: at(-9),
            deadline: at(60),
        });
    })
}

fn record() -> RunRecord {
    RunRecord {
        task: TaskId::new("1").unwrap(),
        queue: queue("low"),
        function: "backup".to_owned(),
        schedule: None,
        trigger: Trigger::Manual,
        planned: None,
        attempt: 1,
        started_at: at(-9),
        ended_at: at(-8),
        outcome: AttemptOutcome::Success,
        worker: "host:7".to_owned(),
        error: None,
        output: None,
    }
}

fn cases_of_time() -> Vec<Case> {
    use ReasonCode::*;
    let deadline = |seconds| {
        let facts = TaskFacts {
            deadline: Some(at(seconds)),
            next_run: Some(at(60)),
            ..task(TaskState::Scheduled)
        };
        why_task(&facts, &served())
    };
    let grouped = TaskFacts {
        group: Some("g".to_owned()),
        ..task(TaskState::Aggregating)
    };
    let idle = || vec![server(&["low"])];
    let due_at = |seconds, broker| {
        let facts = TaskFacts {
            next_run: Some(at(seconds)),
            ..task(TaskState::Scheduled)
        };
        why_task(&facts, &broker)
    };
    let (scheduled, retry) = (TaskState::Scheduled, TaskState::Retry);
    vec![
        case(DeadlinePassed, deadline(0), deadline(1)),
        case(DeadlineFirst, deadline(60), deadline(61)),
        case(Due, timed(scheduled, 1), timed(retry, 1)),
        case(Overdue, due_at(-10, facts(Vec::new())), due_at(-10, served())),
        case(NotMoved, timed(scheduled, -10), timed(scheduled, -9)),
        case(RetryDue, timed(retry, 1), timed(scheduled, 1)),
        case(InGroup, why_task(&grouped, &served()), why_task(&pending(), &served())),
        case(Running, leased(1, vec![running()]), leased(1, idle())),
        case(Claimed, leased(1, idle()), leased(1, vec![running()])),
        case(LeaseOver, leased(-1, idle()), leased(1, idle())),
        case(LeaseOverAlone, leased(-1, vec![server(&["high"])]), leased(-1, idle())),
    ]
}

fn cases_of_ends() -> Vec<Case> {
    use ReasonCode::*;
    let done = TaskFacts {
        kept_until: Some(at(60)),
        ..task(TaskState::Completed)
    };
    let failed = |retried, max| archived(retried, max, Some(AttemptOutcome::Archived));
    let ended = |last| archived(0, 3, Some(last));
    let by_hand = || archived(0, 3, None);
    let lost = |error: &str| {
        let facts = TaskFacts {
            retried: 2,
            max_retry: 2,
            last_outcome: Some(AttemptOutcome::Lost),
            last_error: error.to_owned(),
            ..task(TaskState::Archived)
        };
        why_task(&facts, &served())
    };
    let healthy = || why_task(&pending(), &served());
    vec![
        case(NoRetry, failed(0, 0), failed(1, 1)),
        case(RetriesUsedUp, failed(3, 3), failed(2, 3)),
        case(NoFurtherAttempt, failed(2, 3), failed(3, 3)),
        case(Archived, by_hand(), failed(0, 3)),
        case(Stopped, ended(AttemptOutcome::Cancelled), by_hand()),
        case(
            Poison,
            lost("poison: 3 runs ended with the death of their worker"),
            lost("asynq: task lease expired"),
        ),
        case(
            Damaged,
            vec![why_damaged(&queue("low"), &TaskId::new("1").unwrap(), "no type")],
            healthy(),
        ),
        case(Done, why_task(&done, &served()), healthy()),
        case(Gone, vec![why_gone(&record())], healthy()),
    ]
}

fn cases_of_new_tasks() -> Vec<Case> {
    use ReasonCode::*;
    let broken = |name: &'static str| {
        move |facts: &mut FunctionFacts<'_>| drop(facts.broken.insert(name.to_owned(), "a.yaml:1".to_owned()))
    };
    let fault = |facts: &mut FunctionFacts<'_>| facts.payload_fault = Some("expected value".to_owned());
    vec![
        case(NoFunction, new_task("fn:bakcup", |_| ()), new_task("fn:backup", |_| ())),
        case(
            FunctionOfHandler,
            new_task("fn:report", |_| ()),
            new_task("fn:backup", |_| ()),
        ),
        case(
            FunctionBroken,
            new_task("fn:bad", broken("bad")),
            new_task("fn:bad", broken("other")),
        ),
        case(
            TypeIsFunction,
            new_task("backup", |_| ()),
            new_task("backup", |facts| facts.built_in = true),
        ),
        case(
            PayloadNotJson,
            new_task("fn:backup", fault),
            new_task("fn:backup", |_| ()),
        ),
    ]
}

/// A schedule that no scheduler has registered.
fn unregistered(superseded: bool) -> Vec<Reason> {
    let facts = ScheduleFacts {
        definition: &definition(),
        standing: None,
        decisions: &[],
        superseded,
        no_function: false,
        last_task: None,
    };
    why_schedule(&facts, &served())
}

fn cases_of_schedules() -> Vec<Case> {
    use ReasonCode::*;
    let of = |change: fn(&mut Definition, &mut Standing)| of_schedule(change, &[], &served());
    let origin = definition().origin;
    let broken = [
        Problem::warning("W230", "odd", origin.clone()),
        Problem::error("E203", "no such month", origin),
    ];
    let paused = of(|_, standing| standing.paused = Some(Pause::by("ann")));
    let past = of(|definition, _| definition.timing.when = When::At(vec![at(-1)]));
    let disabled = || of(|definition, _| definition.enabled = false);
    let (late, in_time) = (of(|_, s| s.cursor = at(-70)), of(|_, s| s.cursor = at(-9)));
    vec![
        case(NotDue, healthy(), disabled()),
        case(Paused, paused, healthy()),
        case(Disabled, disabled(), healthy()),
        case(NoScheduler, late, in_time),
        case(NotRegistered, unregistered(false), healthy()),
        case(NoneLeft, past, healthy()),
        case(OtherVersion, unregistered(true), unregistered(false)),
        case(DefinitionBroken, vec![why_broken("a.yaml", &broken)], healthy()),
        case(
            NotInForce,
            why_not_in_force(None, broken.iter()).into_iter().collect(),
            why_not_in_force(Some(("a.yaml", &broken)), broken.iter())
                .into_iter()
                .collect(),
        ),
        case(Absent, vec![why_absent()], healthy()),
        case(Foreign, vec![why_foreign("host:1")], healthy()),
    ]
}

fn cases_of_decisions() -> Vec<Case> {
    use ReasonCode::*;
    let decided = |kind| of_schedule(|_, _| (), &[decision(DecisionKind::Manual), decision(kind)], &served());
    let corrected = |hours: i64| {
        let decision = Decision {
            decided_at: at(-3600 * hours),
            ..decision(DecisionKind::Corrected)
        };
        of_schedule(|_, _| (), &[decision], &served())
    };
    let retry = TaskFacts {
        next_run: Some(at(5)),
        ..task(TaskState::Retry)
    };
    let archived = task(TaskState::Archived);
    let fired = || decided(DecisionKind::Fired);
    let waits = || with_last(&pending());
    vec![
        case(LastMissed, decided(DecisionKind::Missed), fired()),
        case(LastSkipped, decided(DecisionKind::Skipped), fired()),
        case(LastPaused, decided(DecisionKind::Paused), fired()),
        case(Corrected, corrected(23), corrected(24)),
        case(LastTask, waits(), healthy()),
        case(LastTaskRetried, with_last(&retry), waits()),
        case(LastTaskArchived, with_last(&archived), waits()),
    ]
}

fn cases() -> Vec<Case> {
    let mut all = cases_of_queues();
    all.extend(cases_of_time());
    all.extend(cases_of_ends());
    all.extend(cases_of_new_tasks());
    all.extend(cases_of_schedules());
    all.extend(cases_of_decisions());
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
fn what_needs_someone_comes_first() {
    let paused = |facts: &mut BrokerFacts| facts.queues[0].paused = true;
    let mut broker = facts(vec![server(&["high"])]);
    paused(&mut broker);
    let later = TaskFacts {
        next_run: Some(at(60)),
        ..task(TaskState::Scheduled)
    };
    assert_eq!(codes(&why_task(&later, &broker)), ["W101", "W211", "W111"]);
    let in_order = of_schedule(
        |_, standing| standing.cursor = at(-70),
        &[decision(DecisionKind::Missed)],
        &broker,
    );
    assert_eq!(codes(&in_order), ["S05", "W101", "W211", "S01", "S07"]);
}

#[test]
fn a_task_that_waits_for_a_handler_says_that_once() {
    let waits = TaskFacts {
        next_run: Some(at(30)),
        waiting_for: Some("handler mail".to_owned()),
        ..task(TaskState::Scheduled)
    };
    let other = changed(server(&["low"]), |s| s.info.handlers = vec!["other".to_owned()]);
    assert_eq!(codes(&why_task(&waits, &facts(vec![other]))), ["W116"]);
}

#[test]
fn a_schedule_says_why_its_last_task_waits() {
    let mut broker = served();
    broker.queues[0].paused = true;
    let (definition, standing, last) = (definition(), standing(), pending());
    let facts = ScheduleFacts {
        definition: &definition,
        standing: Some(&standing),
        decisions: &[],
        superseded: false,
        no_function: false,
        last_task: Some((&last, "")),
    };
    assert_eq!(codes(&why_schedule(&facts, &broker)), ["W101", "S01", "S20"]);
    assert_eq!(codes(&with_last(&pending())), ["S01", "S20"]);
}

#[test]
fn a_task_to_enqueue_waits_as_the_stored_one_would() {
    let mut new = Task::new("mail").queue(queue("low"));
    let of = |new: &Task| TaskFacts::to_enqueue(new, at(0));
    assert_eq!(of(&new).state, TaskState::Pending);
    new.group = Some("g".to_owned());
    assert_eq!(of(&new).state, TaskState::Aggregating);
    new.run = Run::In(Duration::from_secs(60));
    assert_eq!(
        (of(&new).state, of(&new).next_run),
        (TaskState::Scheduled, Some(at(60)))
    );
    assert_eq!(of(&new).never_runs(at(0)), None);
    new.deadline = Some(at(60));
    assert_eq!(of(&new).never_runs(at(0)).unwrap().code, ReasonCode::DeadlineFirst);
    new.run = Run::At(at(-60));
    assert_eq!(
        (of(&new).state, of(&new).never_runs(at(0))),
        (TaskState::Aggregating, None)
    );
}

#[test]
fn names_that_were_probably_meant_are_in_the_hint() {
    let show = |value: &ReasonValue| match value {
        ReasonValue::Text(text) => text.clone(),
        other => format!("{other:?}"),
    };
    let hint = |reasons: &[Reason]| reasons[0].hint(show).unwrap();
    assert!(hint(&why_task(&pending(), &facts(vec![server(&["lwo"])]))).contains("Did you mean lwo?"));
    assert!(hint(&new_task("fn:bakcup", |_| ())).contains("Did you mean fn:backup?"));
}

#[test]
fn an_archived_task_failed_only_if_its_last_attempt_did() {
    use AttemptOutcome::{Archived, Lost, Retry};
    let of = |retried, max_retry, last| codes(&archived(retried, max_retry, last))[0];
    assert_eq!(of(0, 0, None), "W153", "never run");
    assert_eq!(of(3, 3, Some(Retry)), "W153", "its last retry never ran");
    assert_eq!(of(1, 3, Some(Lost)), "W153", "archived by an operator after a crash");
    assert_eq!(of(3, 3, Some(Lost)), "W151");
    assert_eq!(of(0, 0, Some(Archived)), "W150");
    let of_go = TaskFacts {
        retried: 3,
        last_failed_at: Some(at(-1)),
        ..task(TaskState::Archived)
    };
    assert_eq!(codes(&why_task(&of_go, &served())), ["W151"]);
}

#[test]
fn an_attempt_that_came_after_the_deadline_is_no_fault_of_the_handler() {
    let of = |started| {
        let facts = TaskFacts {
            deadline: Some(at(-5)),
            last_started_at: Some(at(started)),
            last_outcome: Some(AttemptOutcome::Archived),
            ..task(TaskState::Archived)
        };
        codes(&why_task(&facts, &served()))[0]
    };
    assert_eq!((of(-6), of(-5)), ("W152", "W122"));
}

#[test]
fn what_follows_from_a_broker_that_takes_no_writes_is_not_said_as_well() {
    let mut broker = served();
    broker.fault = Some(BrokerFault {
        code: "broker_full",
        why: "OOM".to_owned(),
        since: at(-5),
    });
    let late = TaskFacts {
        next_run: Some(at(-10)),
        ..task(TaskState::Scheduled)
    };
    assert_eq!(codes(&why_task(&late, &broker)), ["W130"]);
    let silent = TaskFacts {
        lease_until: Some(at(-1)),
        ..task(TaskState::Active)
    };
    assert_eq!(codes(&why_task(&silent, &broker)), ["W130"]);
    let schedule = of_schedule(|_, standing| standing.cursor = at(-70), &[], &broker);
    assert_eq!(codes(&schedule), ["W130", "S01"]);
}

#[test]
fn a_task_of_a_group_needs_no_handler_of_its_own_type() {
    let grouped = TaskFacts {
        kind: "other".to_owned(),
        group: Some("g".to_owned()),
        ..task(TaskState::Aggregating)
    };
    assert_eq!(codes(&why_task(&grouped, &served())), ["W141"]);
}

#[test]
fn the_reasons_of_the_last_task_stand_behind_it() {
    let waits = TaskFacts {
        waiting_for: Some("handler mail".to_owned()),
        ..pending()
    };
    assert_eq!(codes(&with_last(&waits)), ["S20", "W116", "S01"]);
    let due = TaskFacts {
        next_run: Some(at(5)),
        ..task(TaskState::Retry)
    };
    assert_eq!(
        codes(&with_last(&due)),
        ["S21", "S01"],
        "when it is due is its own matter"
    );
}

#[test]
fn patterns_are_not_offered_as_names() {
    let hint = |name| why_task(&pending(), &facts(vec![server(&[name])]))[0].hint(|value| format!("{value:?}"));
    assert!(!hint("lwo*").unwrap().contains("Did you mean"));
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
}

#[test]
fn a_sentence_does_not_end_in_a_colon() {
    assert_eq!(closed("It failed: ", ':', "."), "It failed.");
    assert_eq!(closed("It failed. ", ':', "."), "It failed.");
    assert_eq!(closed("It failed: no route", ':', "."), "It failed: no route");
}
