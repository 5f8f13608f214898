//! F08: a worker is frozen beyond its lease. Its later verdicts are refused, and it stops its tasks.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::signal::Signal;
use runner_core::clock::ManualClock;
use runner_core::task::{AttemptOutcome, Task, TaskState};
use runner_queue::contract::START;
use runner_queue::{Attempt, Claim, Claims as _, InspectTasks as _, Settled, Settlement, Upkeep as _, Verdict};

use super::{broker, contradictions, handlers, id, put, queue};
use crate::kit::{self, Fault, RedisDb, Runner, Site, eventually_within};

const LEASE: Duration = Duration::from_secs(3);

/// How long after waking a handler may continue.
const ABORT_LIMIT_MS: i64 = 200;

/// The same beside other tests, where the worker also waits for its share of the cores.
const ABORT_LIMIT_BUSY_MS: i64 = 2_000;

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![needs(Redis): f08_verdicts_of_a_frozen_worker_are_refused]
}

async fn f08_verdicts_of_a_frozen_worker_are_refused() {
    let db = kit::redis().fresh_db();
    let model_runs = if kit::long() { 1_000 } else { 200 };
    let (model_refused, model_effects) = model(&kit::redis().fresh_db(), model_runs).await;
    let mut fault = Fault::new("F08");
    let limit = if kit::long() {
        ABORT_LIMIT_MS
    } else {
        ABORT_LIMIT_BUSY_MS
    };
    let (refused, stale_effects, abort_ms) = freeze(&db).await;
    let wrong = contradictions(&broker(&db)).await;
    fault
        .require(
            "stale_effects",
            stale_effects + model_effects,
            stale_effects + model_effects == 0,
        )
        .require("refused", refused + model_refused, model_refused == model_runs * 7)
        .require("abort_ms_max", abort_ms, (0..=limit).contains(&abort_ms))
        .figure("model_runs", model_runs)
        .require("contradictions", wrong.len(), wrong.is_empty());
    fault.end(|| format!("{wrong:#?}"));
}

fn begun(site: &Site, name: &str, attempt: u32) -> Option<handlers::Event> {
    let mut events = handlers::events(site).into_iter();
    events.find(|e| e.what == "begin" && e.id == name && e.attempt == attempt)
}

/// Freezes a worker with two tasks: one that ends meanwhile from its point of view, and one that continues. Returns how
/// many of its verdicts were refused (none if it stopped both before), how many had an effect, and how long the other
/// one ran after the thaw.
async fn freeze(db: &RedisDb) -> (usize, usize, i64) {
    let site = handlers::at(Site::new(&format!(
        "{}roles: [worker, web]\nworker: {{concurrency: 4, lease: 3s}}\n",
        db.yaml()
    )));
    let owner = site.start().await;
    let broker = broker(db);
    let hold = |name: &str, millis: &str| {
        let retention = Duration::from_secs(3600);
        Task::new("test:hold")
            .id(id(name))
            .payload(millis.to_owned())
            .retention(retention)
    };
    put(&broker, vec![hold("short", "2000"), hold("long", "48000")]).await;
    let first = until_begun(&site, &owner, 1).await;
    owner.signal(Signal::SIGSTOP);
    let frozen = tokio::time::Instant::now();
    let other = site.start().await;
    tokio::time::sleep_until(frozen + LEASE + Duration::from_secs(2)).await;
    until_begun(&site, &other, 2).await;
    let woken = handlers::now_ms();
    owner.signal(Signal::SIGCONT);

    eventually_within(Duration::from_secs(30), "both are completed", async || {
        for name in ["short", "long"] {
            let found = broker.task(&queue(), &id(name)).await.map_err(|e| e.to_string())?;
            if found.as_ref().is_none_or(|task| task.state != TaskState::Completed) {
                return Err(format!("{name}: {:?}", found.map(|task| task.state)));
            }
        }
        Ok(())
    })
    .await;
    let stopped = eventually_within(Duration::from_secs(10), "the first handler was stopped", async || {
        let events = handlers::events(&site);
        let found = events
            .iter()
            .find(|e| e.what == "stop" && e.id == "long" && e.pid == first.pid);
        found.cloned().ok_or_else(|| format!("{events:?}"))
    })
    .await;
    let mut effects = 0;
    for name in ["short", "long"] {
        let task = broker.task(&queue(), &id(name)).await.unwrap().unwrap();
        let attempts = broker.attempts(&queue(), &id(name)).await.unwrap();
        let outcomes: Vec<AttemptOutcome> = attempts.iter().map(|a| a.outcome).collect();
        let first_pid = first.pid.to_string();
        let by_other = task.result.as_deref().is_some_and(|pid| pid != first_pid.as_bytes());
        effects += usize::from(!by_other) + usize::from(task.record.retried != 1);
        effects += usize::from(outcomes != [AttemptOutcome::Lost, AttemptOutcome::Success]);
    }
    // The short one is over when the worker wakes, and so is its lease: whichever the worker notices first, it logs it.
    let refused = eventually_within(Duration::from_secs(20), "the short one had no say", async || {
        let log = owner.log();
        let said = |what: &str| log.lines().filter(|line| line.contains(what)).count();
        let refused = said("verdict came too late");
        let stopped = log
            .lines()
            .filter(|line| line.contains("lease lost") && line.contains("task_id=short"));
        if refused + stopped.count() > 0 {
            Ok(refused)
        } else {
            Err(owner.child.tail())
        }
    })
    .await;
    assert!(owner.stop().await.success());
    assert!(other.stop().await.success());
    (refused, effects, stopped.at_ms - woken)
}

async fn until_begun(site: &Site, runner: &Runner, attempt: u32) -> handlers::Event {
    // Tasks that were lost together start one after the other.
    eventually_within(Duration::from_secs(60), "both tasks have begun", async || {
        match (begun(site, "short", attempt), begun(site, "long", attempt)) {
            (Some(_), Some(long)) => Ok(long),
            _ => Err(runner.child.tail()),
        }
    })
    .await
}

/// Repeated pauses between claim and verdict: returns how many late calls were refused, and how many had an effect.
async fn model(db: &RedisDb, runs: usize) -> (usize, usize) {
    let clock = Arc::new(ManualClock::at(Timestamp::from_second(START).unwrap()));
    let broker = broker(db).with_clock(clock.clone());
    let queues = [queue()];
    let (mut refused, mut effects) = (0, 0);
    for run in 0..runs {
        let name = format!("m{run}");
        put(
            &broker,
            vec![Task::new("x").id(id(&name)).retention(Duration::from_secs(60))],
        )
        .await;
        let late = broker.claim(&queues, 1, LEASE).await.unwrap().remove(0);
        clock.advance(LEASE + Duration::from_secs(1));
        assert_eq!(broker.recover(&queues, Duration::ZERO, 9, 0).await.unwrap().len(), 1);
        clock.advance(Duration::from_secs(5));
        broker.forward(&queues, 9).await.unwrap();
        let own = broker.claim(&queues, 1, LEASE).await.unwrap().remove(0);
        let before = broker.task(&queue(), &id(&name)).await.unwrap();
        for verdict in verdicts() {
            match broker.settle(&[late_settlement(&late, verdict)]).await.unwrap()[..] {
                [Settled::Stale] => refused += 1,
                _ => effects += 1,
            }
        }
        match broker.extend(std::slice::from_ref(&late), LEASE).await.unwrap()[..] {
            [None] => refused += 1,
            _ => effects += 1,
        }
        effects += usize::from(broker.task(&queue(), &id(&name)).await.unwrap() != before);
        let mut end = late_settlement(&own, Verdict::Done);
        end.result = None;
        let ended = broker.settle(&[end]).await.unwrap();
        effects += usize::from(ended != [Settled::Accepted]);
    }
    (refused, effects)
}

fn verdicts() -> Vec<Verdict> {
    let error = || "late".to_owned();
    vec![
        Verdict::Done,
        Verdict::Retry {
            after: Duration::from_secs(1),
            error: error(),
            counts: true,
        },
        Verdict::Archive { error: error() },
        Verdict::HandBack,
        Verdict::Snooze {
            delay: Duration::from_secs(1),
            waiting_for: None,
        },
        Verdict::Revoke,
    ]
}

fn late_settlement(claim: &Claim, verdict: Verdict) -> Settlement {
    Settlement {
        claim: claim.clone(),
        verdict,
        result: Some("late".into()),
        attempt: Some(Attempt {
            number: 1,
            started_at: Timestamp::UNIX_EPOCH,
            ended_at: Timestamp::UNIX_EPOCH,
            outcome: AttemptOutcome::Success,
            error: None,
            server: "late:1".to_owned(),
            log: None,
        }),
    }
}
