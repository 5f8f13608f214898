//! Tasks in the store: what they wait for, who runs them, and what ended them.

use runner_core::task::{AttemptOutcome, TaskId, TaskState};
use runner_queue::{RunRecord, ServerStatus, ServerView, Trigger, Working};

use super::{Case, at, case, changed, codes, facts, info, pending, queue, served, server, task};
use crate::diagnose::*;
use crate::health::BrokerFault;

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

pub(super) fn cases_of_queues() -> Vec<Case> {
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
        case(WaitsForLimit, waits(Some("limit a")), waits(Some("handler mail"))),
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
        event: None,
        planned: None,
        attempt: 1,
        started_at: at(-9),
        ended_at: at(-8),
        outcome: AttemptOutcome::Success,
        worker: "host:7".to_owned(),
        trace: None,
        error: None,
        output: None,
        output_cut: false,
        retry_left: false,
    }
}

pub(super) fn cases_of_time() -> Vec<Case> {
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

pub(super) fn cases_of_ends() -> Vec<Case> {
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
    let gone = |outcome| {
        let record = RunRecord { outcome, ..record() };
        vec![why_gone(&record)]
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
        case(Gone, gone(AttemptOutcome::Success), gone(AttemptOutcome::Retry)),
        case(Deleted, gone(AttemptOutcome::Snoozed), gone(AttemptOutcome::Cancelled)),
        case(LeftArchive, gone(AttemptOutcome::Archived), gone(AttemptOutcome::Lost)),
    ]
}

#[test]
fn a_task_that_waits_for_a_handler_says_that_once() {
    let waits = TaskFacts {
        next_run: Some(at(30)),
        waiting_for: Some("handler mail".to_owned()),
        ..task(TaskState::Scheduled)
    };
    let other = changed(server(&["low"]), |s| s.info.handlers = vec!["other".to_owned()]);
    assert_eq!(codes(&why_task(&waits, &facts(vec![other.clone()]))), ["W116"]);
    let limited = TaskFacts {
        waiting_for: Some("limit concurrency fn:a, key x".to_owned()),
        ..waits
    };
    assert_eq!(codes(&why_task(&limited, &facts(vec![other]))), ["W117"]);
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
    let schedule = super::schedules::of_schedule(|_, standing| standing.cursor = at(-70), &[], &broker);
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
