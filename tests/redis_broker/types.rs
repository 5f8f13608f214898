//! Tasks of types that only another program knows: they stay for it, however it takes and returns them.

use std::time::Duration;

use runner_core::task::{Task, TaskId, TaskState};
use runner_queue::redis::RedisBroker;
use runner_queue::{
    Claims as _, InspectQueues as _, KnownTypes, Producer as _, Settled, Signals as _, Upkeep as _, Verdict,
};
use tokio::time::Instant;

use super::{ask, claim, end, ids, is_sound, open, put, queue, state_of};
use crate::kit::{self, GoWorker, eventually_within};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Redis): tasks_taken_by_others_before_known_ones_hide_nothing,
            a_returning_last_unknown_task_hides_nothing,
            a_message_whose_type_cannot_be_read_is_archived,
            the_type_is_found_at_any_position,
            large_unknown_messages_are_looked_at_few_at_a_time,
            a_known_task_behind_unknown_ones_starts_at_once,
            an_idle_go_worker_gets_its_tasks_while_ours_waits;
    ]
}

fn knows(broker: &RedisBroker, patterns: &[&str]) {
    let none: [&str; 0] = [];
    broker.claims_types(&KnownTypes::new(patterns.iter().copied(), none));
}

async fn put_foreign(broker: &RedisBroker, ids: impl IntoIterator<Item = String>) {
    let tasks: Vec<Task> = ids
        .into_iter()
        .map(|id| Task::new("go:task").id(TaskId::new(id).unwrap()))
        .collect();
    for result in broker.enqueue(&tasks).await.unwrap() {
        result.unwrap();
    }
}

/// Takes the first `count` pending tasks away, as another worker does, and deletes them.
async fn take_away(link: &mut redis::aio::MultiplexedConnection, count: usize) {
    let taken: Vec<String> = ask(link, &["RPOP", "asynq:{default}:pending", &count.to_string()]).await;
    for id in taken {
        let _: i64 = ask(link, &["DEL", &format!("asynq:{{default}}:t:{id}")]).await;
    }
}

async fn tasks_taken_by_others_before_known_ones_hide_nothing() {
    let (broker, mut link, _db) = open().await;
    knows(&broker, &["email:*"]);
    put_foreign(&broker, (0..900).map(|n| format!("x{n}"))).await;
    put(&broker, &["a"]).await;
    assert_eq!(ids(&claim(&broker, 1).await), ["a"]);
    // A few, many, all but one, all.
    for (nth, taken) in [3, 500, 396, 1].into_iter().enumerate() {
        take_away(&mut link, taken).await;
        let (known, other) = (format!("b{nth}"), format!("c{nth}"));
        put(&broker, &[&known]).await;
        put_foreign(&broker, [format!("y{nth}")]).await;
        put(&broker, &[&other]).await;
        assert_eq!(ids(&claim(&broker, 9).await), [known, other]);
        is_sound(&broker).await;
    }
    let left: Vec<String> = ask(&mut link, &["LRANGE", "asynq:{default}:pending", "0", "-1"]).await;
    assert_eq!(left, ["y3", "y2", "y1", "y0"]);
}

async fn a_returning_last_unknown_task_hides_nothing() {
    let (broker, mut link, _db) = open().await;
    knows(&broker, &["email:*"]);
    put_foreign(&broker, ["x".to_owned(), "y".to_owned()]).await;
    assert!(claim(&broker, 9).await.is_empty());
    // Another worker took both and has failed with one of them.
    let _: Vec<String> = ask(&mut link, &["RPOP", "asynq:{default}:pending", "2"]).await;
    for id in ["x", "y"] {
        let key = format!("asynq:{{default}}:t:{id}");
        let _: i64 = ask(&mut link, &["HDEL", &key, "pending_since"]).await;
    }
    let _: i64 = ask(&mut link, &["DEL", "asynq:{default}:t:x"]).await;
    let _: i64 = ask(&mut link, &["ZADD", "asynq:{default}:retry", "1", "y"]).await;
    put(&broker, &["a"]).await;
    assert_eq!(broker.forward(&[queue()], 9).await.unwrap().moved, 1);
    put(&broker, &["b"]).await;
    assert_eq!(ids(&claim(&broker, 9).await), ["a", "b"]);
    assert_eq!(state_of(&mut link, "y").await, "pending");
    is_sound(&broker).await;
}

async fn a_message_whose_type_cannot_be_read_is_archived() {
    let (broker, mut link, _db) = open().await;
    let bad: [&[u8]; 7] = [
        b"",
        b"\x01\x01junk",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x0a\xff\x01cut",
        b"\x0a\x02\xc3\x28",
        b"\x12\x7f",
        b"\x0f",
    ];
    let names: Vec<String> = (0..bad.len()).map(|n| format!("bad{n}")).collect();
    for (name, message) in names.iter().zip(bad) {
        put(&broker, &[name]).await;
        let key = format!("asynq:{{default}}:t:{name}");
        let mut set = redis::cmd("HSET");
        let _: i64 = set
            .arg(key)
            .arg("msg")
            .arg(message)
            .query_async(&mut link)
            .await
            .unwrap();
    }
    put(&broker, &["a"]).await;
    knows(&broker, &["email:send"]);
    assert_eq!(ids(&claim(&broker, 20).await), ["a"]);
    for name in &names {
        assert_eq!(state_of(&mut link, name).await, "archived", "{name}");
    }
    is_sound(&broker).await;
}

/// Encoders may write the fields in any order, and a long type needs two bytes for its length.
async fn the_type_is_found_at_any_position() {
    let (broker, mut link, _db) = open().await;
    let long = format!("email:{}", "x".repeat(200));
    put(&broker, &["a", "b", "x"]).await;
    let message = |kind: &str, id: &str| {
        let mut message = b"\x28\x96\x01\xa1\x01\x01\x02\x03\x04\x05\x06\x07\x08\x12\x02{}".to_vec();
        message.extend(b"\x1a\x01");
        message.extend(id.as_bytes());
        message.extend(b"\x22\x07default\x0a");
        match u8::try_from(kind.len()).unwrap() {
            short @ ..128 => message.push(short),
            long => message.extend([long, 1]),
        }
        message.extend(kind.as_bytes());
        message
    };
    for (id, kind) in [("a", "email:send"), ("b", long.as_str()), ("x", "go:task")] {
        let key = format!("asynq:{{default}}:t:{id}");
        let mut set = redis::cmd("HSET");
        set.arg(key).arg("msg").arg(message(kind, id));
        let _: i64 = set.query_async(&mut link).await.unwrap();
    }
    knows(&broker, &["email:*"]);
    let claims = claim(&broker, 9).await;
    let kinds: Vec<&str> = claims.iter().map(|claim| claim.task().kind.as_str()).collect();
    assert_eq!(kinds, ["email:send", long.as_str()]);
    assert_eq!(state_of(&mut link, "x").await, "pending");
    is_sound(&broker).await;
}

async fn large_unknown_messages_are_looked_at_few_at_a_time() {
    let (broker, _link, _db) = open().await;
    knows(&broker, &["email:*"]);
    let large = vec![b'x'; 2 << 20];
    let tasks: Vec<Task> = (0..12).map(|_| Task::new("go:task").payload(large.clone())).collect();
    for result in broker.enqueue(&tasks).await.unwrap() {
        result.unwrap();
    }
    put(&broker, &["a"]).await;
    let mut calls = 1;
    while claim(&broker, 9).await.is_empty() {
        calls += 1;
        assert!(calls <= 12, "the task behind them was not found");
    }
    assert!(calls > 6, "all were read in {calls} calls");
    // By now the tasks before it are known.
    put(&broker, &["b"]).await;
    assert_eq!(ids(&claim(&broker, 9).await), ["b"]);
    is_sound(&broker).await;
}

async fn a_known_task_behind_unknown_ones_starts_at_once() {
    let (broker, _link, _db) = open().await;
    knows(&broker, &["email:*"]);
    put_foreign(&broker, (0..50).map(|n| format!("x{n}"))).await;
    let mut waits = Vec::new();
    for n in 0..8 {
        assert!(claim(&broker, 9).await.is_empty());
        let waiting = async {
            broker.wait_for_work(&[queue()], Duration::from_secs(30)).await;
            Instant::now()
        };
        let pushing = async {
            // In the middle of a wait.
            tokio::time::sleep(Duration::from_millis(30 * n)).await;
            let at = Instant::now();
            put(&broker, &[&format!("a{n}")]).await;
            at
        };
        let (woken, pushed) = futures_util::future::join(waiting, pushing).await;
        waits.push(woken - pushed);
        let claims = claim(&broker, 9).await;
        assert_eq!(claims.len(), 1);
        assert_eq!(end(&broker, &claims[0], Verdict::Done).await, Settled::Accepted);
    }
    waits.sort();
    println!("a known task behind unknown ones was seen after {waits:?}");
    // Half of them, so that a busy machine does not fail the test.
    assert!(waits[waits.len() / 2] < Duration::from_millis(250), "{waits:?}");
}

async fn an_idle_go_worker_gets_its_tasks_while_ours_waits() {
    let (broker, _link, db) = open().await;
    knows(&broker, &["email:*"]);
    let go = GoWorker::start(&db, &[("default", 1)], 10, &["go:task"]).await;
    let own_worker = async {
        loop {
            broker.wait_for_work(&[queue()], Duration::from_secs(15)).await;
            for claim in claim(&broker, 10).await {
                assert_eq!(claim.task().kind, "email:send");
                end(&broker, &claim, Verdict::Done).await;
            }
        }
    };
    let enqueued = async {
        let mut enqueued = Vec::new();
        for n in 0..6 {
            put_foreign(&broker, [format!("x{n}")]).await;
            enqueued.push(Instant::now());
            tokio::time::sleep(Duration::from_millis(150 * n)).await;
        }
        eventually_within(Duration::from_secs(20), "Go runs its tasks", async || {
            let ran = go.ran().len();
            if ran == 6 { Ok(()) } else { Err(ran) }
        })
        .await;
        enqueued
    };
    let enqueued = tokio::select! {
        enqueued = enqueued => enqueued,
        () = own_worker => unreachable!("it never ends"),
    };
    let ran = go.ran();
    let waits: Vec<Duration> = ran.iter().zip(&enqueued).map(|(ran, at)| ran.at - *at).collect();
    println!("Go began {waits:?} after the enqueue");
    assert!(ran.iter().all(|ran| ran.known), "{ran:?}");
    assert!(waits.iter().all(|wait| *wait < Duration::from_secs(3)), "{waits:?}");
    let info = &broker.queues().await.unwrap()[0];
    assert_eq!(
        (info.processed, info.failed, info.counts[&TaskState::Pending]),
        (6, 0, 0)
    );
    is_sound(&broker).await;
}
