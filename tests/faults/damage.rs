//! F17 and F18: corrupt content of Redis. Each piece is repaired or archived, and nothing else is touched, while workers
//! continue.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use runner_core::task::{Run, Task, TaskState};
use runner_queue::redis::RedisBroker;
use runner_queue::{
    Action, Actions as _, Claims as _, InspectTasks as _, Repaired, Settled, Settlement, Upkeep as _, Verdict,
};

use super::{broker, contradictions, id, put, queue};
use crate::kit::{self, Fault, RedisServer};

const LEASE: Duration = Duration::from_secs(30);

/// Tasks and keys that one repair pass examines, of each kind.
const LOOKED_AT: usize = 2_000;

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![needs(Redis): f17_junk_is_archived_and_blocks_nothing, f18_damage_is_repaired_beside_live_workers]
}

async fn ask<T: redis::FromRedisValue>(link: &mut MultiplexedConnection, words: &[&[u8]]) -> T {
    let mut command = redis::cmd(std::str::from_utf8(words[0]).unwrap());
    for word in &words[1..] {
        command.arg(*word);
    }
    command.query_async(link).await.unwrap()
}

async fn set(link: &mut MultiplexedConnection, name: &str, field: &str, value: &[u8]) {
    let key = format!("asynq:{{default}}:t:{name}");
    let _: i64 = ask(link, &[b"HSET", key.as_bytes(), field.as_bytes(), value]).await;
}

/// One call on a list of the queue: `on(link, "ZADD", "retry", &["1", "x"])`.
async fn on(link: &mut MultiplexedConnection, command: &str, list: &str, words: &[&str]) {
    let key = format!("asynq:{{default}}:{list}");
    let mut all: Vec<&[u8]> = vec![command.as_bytes(), key.as_bytes()];
    all.extend(words.iter().map(|word| word.as_bytes()));
    let _: redis::Value = ask(link, &all).await;
}

async fn f17_junk_is_archived_and_blocks_nothing() {
    let tasks = if kit::long() { 1_000 } else { 400 };
    let db = kit::redis().fresh_db();
    let (broker, mut link) = (broker(&db), db.connect().await);
    put(
        &broker,
        (0..tasks).map(|n| Task::new("x").id(id(&format!("{n}")))).collect(),
    )
    .await;
    let claims = broker.claim(&[queue()], tasks, LEASE).await.unwrap();
    assert_eq!(claims.len(), tasks);
    let whole: Vec<u8> = ask(&mut link, &[b"HGET", b"asynq:{default}:t:1", b"msg"]).await;
    // An unfinished varint, half a message, a number where a text belongs, nested groups, nothing at all.
    let junk: [(&str, Vec<u8>); 5] = [
        ("0", vec![0xff; 40]),
        ("1", whole[..whole.len() / 2].to_vec()),
        ("2", vec![0x08, 0x01]),
        ("3", vec![0x0b; 20_000]),
        ("4", vec![0x0a, 0x02, 0xc3, 0x28]),
    ];
    for (name, message) in &junk {
        set(&mut link, name, "msg", message).await;
    }
    for n in 0..tasks {
        on(&mut link, "ZADD", "lease", &["1", &n.to_string()]).await;
    }
    let began = Instant::now();
    let mut recovered = Vec::new();
    loop {
        let some = broker
            .recover(&[queue()], Duration::from_secs(5), 100, 3)
            .await
            .unwrap();
        if some.is_empty() {
            break;
        }
        recovered.extend(some);
    }
    let pass_ms = began.elapsed().as_millis();
    let quarantined = recovered
        .iter()
        .filter(|r| r.kind.is_empty() && r.state == TaskState::Archived)
        .count();
    let retried = recovered.iter().filter(|r| r.state == TaskState::Retry).count();
    let mut reasons = 0;
    for (name, _) in &junk {
        let key = format!("asynq:{{default}}:t:{name}");
        let note: String = ask(&mut link, &[b"HGET", key.as_bytes(), b"att:1"]).await;
        reasons += usize::from(note.contains("unreadable: "));
    }
    let wrong = contradictions(&broker).await;
    let mut fault = Fault::new("F17");
    fault
        .require("quarantined", quarantined, quarantined == junk.len())
        .require("reasons", reasons, reasons == junk.len())
        .require("recovered", retried, retried == tasks - junk.len())
        .figure("pass_ms", pass_ms)
        .require("contradictions", wrong.len(), wrong.is_empty());
    fault.end(|| format!("{wrong:#?}"));
}

/// The lists of ids, and the state of a task in each.
const PLACES: [&str; 6] = ["pending", "active", "retry", "scheduled", "archived", "completed"];

async fn enter(link: &mut MultiplexedConnection, place: &str, name: &str) {
    if place == "pending" || place == "active" {
        on(link, "LPUSH", place, &[name]).await;
    } else {
        on(link, "ZADD", place, &["99999999999", name]).await;
    }
}

/// Makes a task that has only its message.
async fn give(broker: &RedisBroker, link: &mut MultiplexedConnection, name: &str) {
    put(
        broker,
        vec![Task::new("x").id(id(name)).run(Run::In(Duration::from_secs(9999)))],
    )
    .await;
    let key = format!("asynq:{{default}}:t:{name}");
    let message: Vec<u8> = ask(link, &[b"HGET", key.as_bytes(), b"msg"]).await;
    broker.act(&queue(), &id(name), Action::Delete).await.unwrap();
    set(link, name, "msg", &message).await;
}

/// Damages `each` tasks of each kind; returns the expected repairs, and the tasks that must exist afterwards with their
/// states.
async fn damage(
    broker: &RedisBroker,
    link: &mut MultiplexedConnection,
    each: usize,
) -> (Repaired, BTreeMap<String, TaskState>) {
    let mut remaining = BTreeMap::new();
    for n in 0..each {
        for place in PLACES {
            // An id without a task; in the active list with a lease as well.
            enter(link, place, &format!("ghost-{place}-{n}")).await;
            // A task in no list.
            let orphan = format!("orphan-{place}-{n}");
            give(broker, link, &orphan).await;
            set(link, &orphan, "state", place.as_bytes()).await;
            remaining.insert(orphan, place.parse().unwrap());
            // A task whose state is that of another list.
            let odd = format!("odd-{place}-{n}");
            let other = if place == "retry" { "archived" } else { "retry" };
            give(broker, link, &odd).await;
            set(link, &odd, "state", other.as_bytes()).await;
            enter(link, place, &odd).await;
            remaining.insert(odd, place.parse().unwrap());
        }
        // The trace that a dequeue of asynq leaves of an id without a task.
        let rest = format!("rest-{n}");
        set(link, &rest, "state", b"active").await;
        enter(link, "active", &rest).await;
        on(link, "ZADD", "lease", &["99999999999", &rest]).await;
        // A lease of a task that does not run, and one without a task.
        let waits = format!("waits-{n}");
        put(
            broker,
            vec![Task::new("x").id(id(&waits)).run(Run::In(Duration::from_secs(9999)))],
        )
        .await;
        on(link, "ZADD", "lease", &["99999999999", &waits]).await;
        remaining.insert(waits, TaskState::Scheduled);
        on(link, "ZADD", "lease", &["99999999999", &format!("nothing-{n}")]).await;
        // A running one with a lease that is on no list; one on the list without a lease.
        for (name, listed) in [("unlisted", false), ("unleased", true)] {
            let name = format!("{name}-{n}");
            give(broker, link, &name).await;
            set(link, &name, "state", b"active").await;
            if listed {
                enter(link, "active", &name).await;
            } else {
                on(link, "ZADD", "lease", &["99999999999", &name]).await;
            }
            remaining.insert(name, TaskState::Active);
        }
        // One whose place cannot be determined.
        let nowhere = format!("nowhere-{n}");
        give(broker, link, &nowhere).await;
        set(link, &nowhere, "state", b"banana").await;
        remaining.insert(nowhere, TaskState::Archived);
    }
    let expected = Repaired {
        ghosts: each * (PLACES.len() + 2),
        orphans: each * (PLACES.len() + 1),
        unleased: each,
        misplaced: each * (PLACES.len() + 1),
        quarantined: each,
    };
    (expected, remaining)
}

/// A worker that claims and settles tasks of a queue beside the damaged ones until stopped; each must be its own.
async fn work(broker: Arc<RedisBroker>, stop: Arc<AtomicBool>, done: Arc<AtomicUsize>, stolen: Arc<AtomicUsize>) {
    let queues = [queue()];
    for n in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let name = format!("live-{n}");
        put(&broker, vec![Task::new("live").id(id(&name))]).await;
        let claims = broker.claim(&queues, 5, LEASE).await.unwrap();
        let (live, others): (Vec<_>, Vec<_>) = claims.into_iter().partition(|c| c.task().kind == "live");
        let back = |claim, verdict| Settlement {
            claim,
            verdict,
            result: None,
            attempt: None,
        };
        let ends: Vec<Settlement> = live
            .into_iter()
            .map(|claim| back(claim, Verdict::Done))
            .chain(others.into_iter().map(|claim| back(claim, Verdict::HandBack)))
            .collect();
        for answer in broker.settle(&ends).await.unwrap() {
            let count = if answer == Settled::Accepted { &done } else { &stolen };
            count.fetch_add(1, Ordering::SeqCst);
        }
        tokio::task::yield_now().await;
    }
}

#[allow(clippy::too_many_lines)] // one story from beginning to end
async fn f18_damage_is_repaired_beside_live_workers() {
    let (each, sound) = if kit::long() { (20, 5_000) } else { (3, 1_000) };
    let server = RedisServer::start(&["--slowlog-log-slower-than", "300", "--slowlog-max-len", "256"]);
    let db = server.fresh_db();
    let (broker, mut link) = (Arc::new(broker(&db)), db.connect().await);
    // Sound tasks, which must not be touched.
    let later = |name: String| Task::new("x").id(id(&name)).run(Run::In(Duration::from_secs(9999)));
    put(&broker, (0..sound).map(|n| later(format!("sound-{n}"))).collect()).await;
    let (expected, remaining) = damage(&broker, &mut link, each).await;
    let before = contradictions(&broker).await.len();
    let _: redis::Value = ask(&mut link, &[b"SLOWLOG", b"RESET"]).await;

    let [done, stolen] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    let stop = Arc::new(AtomicBool::new(false));
    let worker = tokio::spawn(work(broker.clone(), stop.clone(), done.clone(), stolen.clone()));
    let (mut repaired, mut passes, mut quiet) = (Repaired::default(), 0, 0);
    let mut longest = Duration::ZERO;
    while quiet < 3 + sound / LOOKED_AT {
        // Claims drop ghosts too, and report them here. No lease ends within this time.
        let recovered = broker.recover(&[queue()], LEASE * 10, 100, 3).await.unwrap();
        assert!(recovered.is_empty(), "{recovered:?}");
        let began = Instant::now();
        let pass = broker.repair(&[queue()], LOOKED_AT).await.unwrap();
        longest = longest.max(began.elapsed());
        quiet = if pass.total() == 0 { quiet + 1 } else { 0 };
        repaired += &pass;
        passes += 1;
        assert!(passes < 1_000, "the repair never ends: {repaired:?}");
    }
    stop.store(true, Ordering::SeqCst);
    worker.await.unwrap();
    let script_us = slowest_repair(&mut link).await;
    let began = Instant::now();
    assert_eq!(broker.repair(&[queue()], LOOKED_AT).await.unwrap(), Repaired::default());
    let idle = began.elapsed();

    let mut gone = Vec::new();
    for (name, state) in &remaining {
        let found = broker.task(&queue(), &id(name)).await.unwrap().map(|task| task.state);
        // A pending task may be claimed by the worker next.
        if found != Some(*state) {
            gone.push(format!("{name} is {found:?}, not {state}"));
        }
    }
    let wrong = contradictions(&broker).await;
    let same = [
        ("ghosts", repaired.ghosts, expected.ghosts),
        ("orphans", repaired.orphans, expected.orphans),
        ("unleased", repaired.unleased, expected.unleased),
        // A claim sets the state of a pending task, and so repairs it before the repair pass does.
        ("misplaced", repaired.misplaced, expected.misplaced - each),
        ("quarantined", repaired.quarantined, expected.quarantined),
    ];
    let mut fault = Fault::new("F18");
    fault.require("contradictions_before", before, before > 0);
    for (name, found, expected) in same {
        let enough = found >= expected;
        fault.require(name, format!("{found}/{expected}"), enough);
    }
    fault
        .figure("repaired", repaired.total())
        .figure("passes", passes)
        .figure("pass_ms_max", longest.as_millis())
        .figure("idle_pass_ms", idle.as_millis())
        .figure("script_us_max", script_us)
        .require(
            "live_done",
            done.load(Ordering::SeqCst),
            done.load(Ordering::SeqCst) > 0,
        )
        .require(
            "stolen",
            stolen.load(Ordering::SeqCst),
            stolen.load(Ordering::SeqCst) == 0,
        )
        .require("missing", gone.len(), gone.is_empty())
        .require("contradictions", wrong.len(), wrong.is_empty());
    fault.end(|| format!("{gone:#?}\n{wrong:#?}"));
}

/// The longest time that a repair script blocked the server, in microseconds, from its slow log.
async fn slowest_repair(link: &mut MultiplexedConnection) -> i64 {
    let entries: Vec<redis::Value> = ask(link, &[b"SLOWLOG", b"GET", b"-1"]).await;
    let mut longest = 0;
    for entry in entries {
        let redis::Value::Array(parts) = entry else { continue };
        let (Some(redis::Value::Int(took)), Some(redis::Value::Array(words))) = (parts.get(2), parts.get(3)) else {
            continue;
        };
        let text = |at: usize| match words.get(at) {
            Some(redis::Value::BulkString(word)) => String::from_utf8_lossy(word).into_owned(),
            _ => String::new(),
        };
        // Its argument after the prefixes is the attempt to record of an archived task.
        if text(0).eq_ignore_ascii_case("EVALSHA") && (5..10).any(|at| text(at).starts_with("{\"number\":0")) {
            longest = longest.max(*took);
        }
    }
    longest
}
