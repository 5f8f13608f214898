//! Scenarios of workers: verdicts, leases, retention, servers, cancellations.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use runner_core::task::{Task, TaskState};
use runner_queue::{
    Action, Actions as _, ArchiveBounds, Claims as _, InspectQueues as _, InspectTasks as _, Presence as _, ServerInfo,
    ServerStatus, Settled, Signals as _, Upkeep as _, Verdict, Working,
};

use super::replay::{ID1, ID2, LEASE, Replay, default_queue, email, id};
use super::store::{Bytes, Content, Store, ask};
use crate::kit;

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Redis): archive, archive_trim_size, done, done_total_wraps, complete_with_retention, requeue,
            retry, lease, server_state, cancelation;
    ]
}

async fn archive() {
    let mut replay = Replay::open("archive").await;
    replay.step("enqueue unique id1 ttl 1h, retry 0");
    let task = email(ID1).unique(Duration::from_secs(3600)).max_retry(0);
    replay.enqueue(task).await.unwrap();
    replay.step("dequeue");
    let claim = replay.claim().await;
    replay.same().await;
    replay.step("archive: retried unchanged");
    let fatal = || Verdict::Archive {
        error: "fatal".to_owned(),
    };
    assert_eq!(replay.settle(&claim, fatal()).await, Settled::Accepted);
    replay.same().await;
    replay.step("archive again");
    assert_eq!(replay.settle(&claim, fatal()).await, Settled::Stale);
    let after = Store::of_server(&mut replay.link).await;
    assert_eq!(replay_counter(&after, "failed"), "1");
}

fn replay_counter(store: &Store, name: &str) -> String {
    match &store.0[&format!("asynq:{{default}}:{name}")].content {
        Content::Text(text) => String::from_utf8(text.0.clone()).unwrap(),
        other => panic!("{name} is {other:?}"),
    }
}

/// Fills the archive with tasks `a-00000`, `a-00001`, … of which the first is the oldest.
async fn fill_archive(link: &mut MultiplexedConnection, tasks: i64) {
    let mut pipe = redis::pipe();
    for n in 0..tasks {
        let id = format!("a-{n:05}");
        pipe.cmd("ZADD")
            .arg("asynq:{default}:archived")
            .arg(1_893_553_445 - 20_000 + n)
            .arg(&id)
            .ignore();
        pipe.cmd("HSET")
            .arg(format!("asynq:{{default}}:t:{id}"))
            .arg(&["msg", "", "state", "archived"])
            .ignore();
    }
    let () = pipe.query_async(link).await.unwrap();
}

async fn archive_trim_size() {
    let mut replay = Replay::open("archive_trim_size").await;
    for held in [9998, 9999, 10000] {
        let result = replay.step("archive one task when")["result"].clone();
        fill_archive(&mut replay.link, held).await;
        replay.enqueue(email(ID1)).await.unwrap();
        let claim = replay.claim().await;
        let error = "x".to_owned();
        replay.settle(&claim, Verdict::Archive { error }).await;
        assert_eq!(trimmed(&mut replay).await, result, "{held}");
        let _: () = ask(&mut replay.link, &["FLUSHDB"]).await;
    }
    for held in [9998, 9999, 10000] {
        let mut result = replay.step("inspector archives one")["result"].clone();
        fill_archive(&mut replay.link, held).await;
        replay.enqueue(email(ID1)).await.unwrap();
        replay
            .broker
            .act(&default_queue(), &id(ID1), Action::Archive)
            .await
            .unwrap();
        // asynq's inspector deletes only the ids; the tasks stay forever, invisible. Ours: the archive, its tasks, the names of the
        // queues.
        result["keys_in_db"] = (1 + 9999 + 1).into();
        assert_eq!(trimmed(&mut replay).await, result, "{held}");
        let _: () = ask(&mut replay.link, &["FLUSHDB"]).await;
    }
}

async fn trimmed(replay: &mut Replay) -> serde_json::Value {
    let lowest: Vec<String> = ask(&mut replay.link, &["ZRANGE", "asynq:{default}:archived", "0", "0"]).await;
    let size: u64 = ask(&mut replay.link, &["ZCARD", "asynq:{default}:archived"]).await;
    let keys: Vec<String> = ask(&mut replay.link, &["KEYS", "asynq:*"]).await;
    serde_json::json!({"archive_size_after": size, "keys_in_db": keys.len(), "lowest_member": lowest[0]})
}

async fn done() {
    let mut replay = Replay::open("done").await;
    replay.step("enqueue id1");
    replay.enqueue(email(ID1)).await.unwrap();
    replay.step("dequeue");
    let claim = replay.claim().await;
    replay.same().await;
    replay.step("done");
    assert_eq!(replay.settle(&claim, Verdict::Done).await, Settled::Accepted);
    replay.same().await;
    replay.step("done again");
    assert_eq!(replay.settle(&claim, Verdict::Done).await, Settled::Stale);
    replay.same().await;
    replay.step("enqueue id2");
    replay.enqueue(email(ID2)).await.unwrap();
    replay.step("dequeue id2 next day");
    let claim = replay.claim().await;
    replay.same().await;
    replay.step("done id2 next day");
    replay.settle(&claim, Verdict::Done).await;
    replay.same().await;
}

async fn done_total_wraps() {
    let mut replay = Replay::open("done_total_wraps").await;
    replay.step("(test set-up) processed total");
    let most = i64::MAX.to_string();
    let _: () = ask(&mut replay.link, &["SET", "asynq:{default}:processed", &most]).await;
    replay.enqueue(email(ID1)).await.unwrap();
    let claim = replay.claim().await;
    replay.step("done");
    replay.settle(&claim, Verdict::Done).await;
    // The vector's task was written without listing its queue; ours went through the client.
    replay
        .same_but(|store| store.add_set("asynq:queues", &["default"]))
        .await;
}

async fn complete_with_retention() {
    let mut replay = Replay::open("complete_with_retention").await;
    replay.step("enqueue unique id1 with retention 60s");
    let task = email(ID1)
        .retention(Duration::from_secs(60))
        .unique(Duration::from_secs(3600));
    replay.enqueue(task).await.unwrap();
    replay.step("dequeue");
    let claim = replay.claim().await;
    replay.same().await;
    replay.step("write result");
    replay.step("write result again");
    replay.step("mark as complete");
    replay.settle_with(&claim, Verdict::Done, Some("final")).await;
    replay.same().await;
    replay.step("get task info");
    let info = replay.broker.task(&default_queue(), &id(ID1)).await.unwrap().unwrap();
    assert_eq!(info.state, TaskState::Completed);
    assert_eq!(info.result.as_deref(), Some(&b"final"[..]));
    assert_eq!(info.record.completed_at.unwrap().as_second(), 1_893_553_450);
    for (step, expired) in [("janitor at +59s", 0), ("janitor at +60s", 1)] {
        replay.step(step);
        let pass = replay
            .broker
            .sweep(&[default_queue()], 100, ArchiveBounds::default())
            .await
            .unwrap();
        assert_eq!((pass.expired, pass.trimmed, pass.more), (expired, 0, false), "{step}");
        replay.same().await;
    }
}

async fn requeue() {
    let mut replay = Replay::open("requeue").await;
    replay.step("enqueue id1 then id2");
    for task in [ID1, ID2] {
        replay.enqueue(email(task)).await.unwrap();
    }
    replay.step("dequeue id1");
    let claim = replay.claim().await;
    replay.same().await;
    replay.step("requeue id1");
    assert_eq!(replay.settle(&claim, Verdict::HandBack).await, Settled::Accepted);
    replay.same().await;
    replay.step("queue info");
    let info = &replay.broker.queues().await.unwrap()[0];
    assert_eq!((info.size(), info.latency), (2, Duration::ZERO));
    replay.step("requeue again");
    assert_eq!(replay.settle(&claim, Verdict::HandBack).await, Settled::Stale);
    assert_eq!(replay.claim().await.task().id.as_str(), ID1);
}

async fn retry() {
    let mut replay = Replay::open("retry").await;
    replay.step("enqueue id1");
    replay.enqueue(email(ID1)).await.unwrap();
    replay.step("dequeue");
    let claim = replay.claim().await;
    let first = claim.run();
    replay.same().await;
    // asynq truncates the end of the wait to whole seconds, ours rounds it up: the same instant, on a whole second.
    let fraction = Duration::from_nanos(678_901_234);
    let again = |error: &str, after, counts| Verdict::Retry {
        after: Duration::from_secs(after) - fraction,
        error: error.to_owned(),
        counts,
    };
    replay.step("retry at now+15s");
    replay.settle(&claim, again("smtp: 451", 15, true)).await;
    replay.same().await;
    replay.step("retry again");
    assert_eq!(replay.settle(&claim, again("late", 15, true)).await, Settled::Stale);
    replay.step("forward");
    replay.broker.forward(&[default_queue()], 1000).await.unwrap();
    replay.same().await;
    replay.step("dequeue");
    let claim = replay.claim().await;
    assert_eq!((claim.run(), claim.task().retried), (first + 1, 1));
    replay.same().await;
    replay.step("retry, not a failure");
    replay.settle(&claim, again("rate limited", 30, false)).await;
    replay.same().await;
}

async fn lease() {
    let mut replay = Replay::open("lease").await;
    // The vector begins with both tasks pending.
    for task in [ID1, ID2] {
        replay.enqueue(email(task)).await.unwrap();
    }
    replay.step("dequeue id1");
    let first = replay.claim().await;
    replay.same().await;
    replay.step("dequeue id2");
    let second = replay.claim().await;
    replay.same().await;
    replay.step("list lease expired, cutoff +29s");
    replay.step("list lease expired, cutoff +30s");
    replay.step("extend lease of id1 and of an unknown id");
    let lost = lost_claim(&replay).await;
    let ends = replay.broker.extend(&[first, lost], LEASE).await.unwrap();
    assert_eq!(ends[0].unwrap().as_second(), 1_893_553_490);
    assert_eq!(ends[1], None);
    replay.same_but(forget_lost).await;
    // Instead of listing: at the end of a lease its task is recovered, a second before it is not.
    let end = second.lease_until();
    for (at, taken) in [(end - Duration::from_secs(1), 0), (end, 1)] {
        replay.clock.set(at);
        let recovered = replay
            .broker
            .recover(&[default_queue()], Duration::ZERO, 10, 0)
            .await
            .unwrap();
        assert_eq!(recovered.len(), taken);
        assert!(
            recovered
                .iter()
                .all(|r| r.id.as_str() == ID2 && r.state == TaskState::Retry)
        );
    }
}

/// A claim of a task that is done already.
async fn lost_claim(replay: &Replay) -> runner_queue::Claim {
    replay.enqueue(Task::new("gone").queue("other")).await.unwrap();
    let queues = ["other".parse().unwrap()];
    let claim = replay.broker.claim(&queues, 1, LEASE).await.unwrap().pop().unwrap();
    replay.settle(&claim, Verdict::Revoke).await;
    claim
}

/// The queue of [`lost_claim`] is not in the vector: its name and its two counts.
fn forget_lost(store: &mut Store) {
    store.add_set("asynq:queues", &["default", "other"]);
    for key in ["asynq:{other}:processed", "asynq:{other}:processed:2030-01-02"] {
        let entry = super::store::Entry {
            content: Content::Text(Bytes::from("1")),
            ends_at: key.ends_with("02").then_some(1_901_329_460_000),
            ends_in: None,
        };
        store.0.insert(key.to_owned(), entry);
    }
}

async fn server_state() {
    let mut replay = Replay::open("server_state").await;
    replay.step("write with one worker");
    let started_at = runner_core::clock::Clock::now(&*replay.clock);
    let mut server = ServerInfo {
        host: "web-1".to_owned(),
        pid: 4321,
        id: ID2.to_owned(),
        concurrency: 10,
        queues: BTreeMap::from([("default".to_owned(), 3)]),
        strict_priority: false,
        status: ServerStatus::Active,
        started_at,
        active: 1,
        handlers: vec!["email:*".to_owned()],
    };
    let working = [Working {
        id: id(ID1),
        kind: "email:send".to_owned(),
        queue: default_queue(),
        started_at,
        deadline: started_at + Duration::from_secs(1800),
    }];
    let ttl = Duration::from_secs(10);
    // Ours lists the server's queues with each heartbeat: a flushed store has lost them.
    let queues = |store: &mut Store| store.add_set("asynq:queues", &["default"]);
    replay.broker.heartbeat(&server, &working, ttl).await.unwrap();
    replay
        .same_but(|store| {
            queues(store);
            // Field 6, the payload, may hold secrets and is stored with the task anyway.
            let work = store.hash("asynq:workers:{web-1:4321:22222222-2222-4222-8222-222222222222}");
            let payload = b"\x32\x0e{\"user_id\":42}";
            for message in work.values_mut() {
                let at = message.0.windows(payload.len()).position(|w| w == payload).unwrap();
                message.0.drain(at..at + payload.len());
            }
        })
        .await;
    let listed = replay.broker.servers().await.unwrap();
    assert_eq!(listed[0].working, working);
    replay.step("write with no workers");
    server.active = 0;
    replay.broker.heartbeat(&server, &[], ttl).await.unwrap();
    replay.same_but(queues).await;
    replay.step("list servers");
    let listed = replay.broker.servers().await.unwrap();
    assert_eq!(listed[0].info, server);
    replay.step("list servers when score == now:");
    assert_eq!(replay.broker.servers().await.unwrap().len(), 1);
    replay.step("list servers when score == now-1");
    assert!(replay.broker.servers().await.unwrap().is_empty());
    // Ours removes dead servers from both lists at once; asynq from the one it reads.
    replay
        .same_but(|store| {
            queues(store);
            store.0.remove("asynq:workers");
        })
        .await;
    replay.step("clear");
    replay.broker.leave(&server).await.unwrap();
    replay.same_but(queues).await;
    let left: Vec<String> = ask(&mut replay.link, &["KEYS", "runner:*"]).await;
    assert!(left.is_empty(), "{left:?}");
}

async fn cancelation() {
    let mut replay = Replay::open("cancelation").await;
    let result = replay.step("publish cancelation")["result"].clone();
    assert_eq!(result["channel"], "asynq:cancel");
    let mut cancellations = replay.broker.cancellations().await.unwrap();
    let task = result["payload"].as_str().unwrap();
    replay.broker.cancel(&id(task)).await.unwrap();
    // Other tests on the same server may cancel tasks too: channels are shared by all databases.
    while cancellations.recv().await.expect("the channel stays open").id.as_str() != task {}
}
