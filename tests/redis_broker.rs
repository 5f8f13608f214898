//! What the Redis broker does where Redis itself misbehaves, or another program has been at work.
//!
//! What every broker must do is the contract's affair, what lies in Redis that of `golden`.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use runner_core::task::{QueueName, Run, State, Task, TaskId};
use runner_queue::redis::{Password, RedisBroker, RedisSettings};
use runner_queue::{
    Action, ArchiveBounds, Broker as _, BrokerError, Claim, GroupRule, Groups as _, Inspector as _, Producer as _,
    Settled, Settlement, Verdict, Work as _,
};
use tokio::time::{Instant, timeout};

use crate::kit::{self, RedisDb, RedisServer};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Redis): forgotten_scripts_are_loaded_again, a_ghost_is_dropped_and_its_neighbours_are_claimed,
            an_unreadable_task_is_archived_and_its_neighbours_are_claimed,
            an_unreadable_task_does_not_stop_the_recovery_of_others, a_task_that_go_holds_is_recovered,
            a_lease_that_go_wrote_has_its_time_for_clocks_that_differ,
            a_late_verdict_is_refused_even_when_go_has_the_task,
            an_active_task_without_a_lease_is_recovered, a_full_server_still_drains,
            a_server_that_comes_back_is_found_again, a_server_that_is_down_fails_at_once,
            a_key_of_the_wrong_type_is_named_as_corrupt, a_wrong_password_is_a_refusal_until_it_is_right,
            a_push_by_another_program_wakes_a_waiting_worker, waiting_neither_takes_nor_moves_anything,
            a_paused_queue_wakes_nobody, a_wait_that_was_given_up_does_no_harm,
            cancellations_end_with_the_server, a_large_batch_is_enqueued_claimed_and_settled,
            an_old_archive_is_trimmed_in_parts, staged_tasks_that_cannot_be_read_do_not_hold_up_their_set,
            a_set_that_go_left_behind_goes_back_to_its_group, a_full_server_still_stages_drops_and_reclaims,
            callers_that_enqueue_at_once_are_each_told_of_their_own_tasks;
    ]
}

const LEASE: Duration = Duration::from_secs(30);

fn settings(port: u16, database: u32) -> RedisSettings {
    RedisSettings {
        database: i64::from(database),
        ..RedisSettings::at(format!("127.0.0.1:{port}"))
    }
}

async fn open() -> (RedisBroker, MultiplexedConnection, RedisDb) {
    let db = kit::redis().fresh_db();
    let broker = RedisBroker::connect(settings(db.port, db.number)).await.unwrap();
    let link = db.connect().await;
    (broker, link, db)
}

fn queue() -> QueueName {
    QueueName::default()
}

fn named(id: &str) -> Task {
    Task::new("email:send").id(TaskId::new(id).unwrap())
}

async fn put(broker: &RedisBroker, ids: &[&str]) {
    let tasks: Vec<Task> = ids.iter().map(|id| named(id)).collect();
    for result in broker.enqueue(&tasks).await.unwrap() {
        result.unwrap();
    }
}

async fn claim(broker: &RedisBroker, max: usize) -> Vec<Claim> {
    broker.claim(&[queue()], max, LEASE).await.unwrap()
}

fn ids(claims: &[Claim]) -> Vec<&str> {
    claims.iter().map(|claim| claim.task().id.as_str()).collect()
}

fn ending(claim: &Claim, verdict: Verdict) -> Settlement {
    Settlement {
        claim: claim.clone(),
        verdict,
        result: None,
        attempt: None,
    }
}

async fn end(broker: &RedisBroker, claim: &Claim, verdict: Verdict) -> Settled {
    broker.settle(&[ending(claim, verdict)]).await.unwrap()[0]
}

async fn ask<T: redis::FromRedisValue>(link: &mut MultiplexedConnection, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(link).await.unwrap()
}

async fn state_of(link: &mut MultiplexedConnection, id: &str) -> String {
    ask(link, &["HGET", &format!("asynq:{{default}}:t:{id}"), "state"]).await
}

async fn is_sound(broker: &RedisBroker) {
    assert_eq!(broker.audit().await.unwrap(), Vec::<String>::new());
}

async fn forgotten_scripts_are_loaded_again() {
    // A server of its own: the shared one's other tests would notice nothing, but they need not.
    let server = RedisServer::start(&[]);
    let db = server.fresh_db();
    let broker = RedisBroker::connect(settings(db.port, db.number)).await.unwrap();
    let mut link = db.connect().await;
    put(&broker, &["a"]).await;
    let _: () = ask(&mut link, &["SCRIPT", "FLUSH"]).await;
    let other = Task::new("x").queue("other".parse().unwrap());
    let results = broker.enqueue(&[named("b"), other]).await.unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(ids(&claim(&broker, 5).await), ["a", "b"]);
    is_sound(&broker).await;
}

async fn a_ghost_is_dropped_and_its_neighbours_are_claimed() {
    let (broker, mut link, _db) = open().await;
    put(&broker, &["a", "b", "c", "d"]).await;
    let _: i64 = ask(&mut link, &["DEL", "asynq:{default}:t:a", "asynq:{default}:t:c"]).await;
    // What a Go server leaves of a ghost: a hash that holds nothing but a state.
    let _: i64 = ask(&mut link, &["HSET", "asynq:{default}:t:c", "state", "active"]).await;
    assert_eq!(ids(&claim(&broker, 2).await), ["b", "d"]);
    is_sound(&broker).await;
}

async fn an_unreadable_task_is_archived_and_its_neighbours_are_claimed() {
    let (broker, mut link, _db) = open().await;
    put(&broker, &["a", "b", "c"]).await;
    let _: i64 = ask(&mut link, &["HSET", "asynq:{default}:t:b", "msg", "\u{1}\u{1}junk"]).await;
    assert_eq!(ids(&claim(&broker, 3).await), ["a", "c"]);
    assert_eq!(state_of(&mut link, "b").await, "archived");
    is_sound(&broker).await;
    // An operator can still be rid of it.
    broker
        .act(&queue(), &TaskId::new("b").unwrap(), Action::Delete)
        .await
        .unwrap();
    is_sound(&broker).await;
}

async fn an_unreadable_task_does_not_stop_the_recovery_of_others() {
    let (broker, mut link, _db) = open().await;
    put(&broker, &["a", "b", "c"]).await;
    let claims = claim(&broker, 3).await;
    for id in ["a", "b"] {
        let _: i64 = ask(&mut link, &["ZADD", "asynq:{default}:lease", "1", id]).await;
    }
    let _: i64 = ask(&mut link, &["HSET", "asynq:{default}:t:a", "msg", "\u{ff}"]).await;
    let mut found = broker.recover(&[queue()], Duration::ZERO, 10, 0).await.unwrap();
    found.sort_by(|x, y| x.id.cmp(&y.id));
    let found: Vec<_> = found
        .iter()
        .map(|r| (r.id.as_str(), r.kind.as_str(), r.state))
        .collect();
    assert_eq!(found, [("a", "", State::Archived), ("b", "email:send", State::Retry)]);
    assert_eq!(end(&broker, &claims[2], Verdict::Done).await, Settled::Accepted);
    is_sound(&broker).await;
}

/// Takes a task as a Go server does: no run in the hash.
async fn take_as_go(link: &mut MultiplexedConnection, id: &str, lease: &str) {
    let _: i64 = ask(link, &["LREM", "asynq:{default}:pending", "1", id]).await;
    let _: i64 = ask(link, &["LPUSH", "asynq:{default}:active", id]).await;
    let _: i64 = ask(link, &["ZADD", "asynq:{default}:lease", lease, id]).await;
    let key = format!("asynq:{{default}}:t:{id}");
    let _: i64 = ask(link, &["HSET", &key, "state", "active"]).await;
    let _: i64 = ask(link, &["HDEL", &key, "pending_since"]).await;
}

async fn a_task_that_go_holds_is_recovered() {
    let (broker, mut link, _db) = open().await;
    put(&broker, &["a", "b"]).await;
    take_as_go(&mut link, "a", "1000").await;
    take_as_go(&mut link, "b", "99999999999").await;
    let found = broker
        .recover(&[queue()], Duration::from_secs(30), 10, 0)
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].id.as_str(), found[0].state), ("a", State::Retry));
    let info = broker
        .task(&queue(), &TaskId::new("a").unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (info.record.retried, info.record.last_error.as_str()),
        (1, "asynq: task lease expired")
    );
    is_sound(&broker).await;
}

async fn a_lease_that_go_wrote_has_its_time_for_clocks_that_differ() {
    let (broker, mut link, _db) = open().await;
    put(&broker, &["a", "b"]).await;
    let now = broker.now().await.unwrap().as_second();
    take_as_go(&mut link, "a", &(now - 20).to_string()).await;
    claim(&broker, 1).await;
    let lease = (now - 20).to_string();
    let _: i64 = ask(&mut link, &["ZADD", "asynq:{default}:lease", &lease, "b"]).await;
    let grace = Duration::from_secs(5);
    let found = broker.recover(&[queue()], grace, 10, 3).await.unwrap();
    let found: Vec<&str> = found.iter().map(|r| r.id.as_str()).collect();
    assert_eq!(found, ["b"], "ours is over, that of Go may be a matter of its clock");
    let _: i64 = ask(
        &mut link,
        &["ZADD", "asynq:{default}:lease", &(now - 31).to_string(), "a"],
    )
    .await;
    assert_eq!(broker.recover(&[queue()], grace, 10, 3).await.unwrap().len(), 1);
    is_sound(&broker).await;
}

/// Whoever gives a task back has no say in it any more, though Go workers leave no run of their own.
async fn a_late_verdict_is_refused_even_when_go_has_the_task() {
    let (broker, mut link, _db) = open().await;
    let far = "99999999999";
    for (id, by_go) in [("a", false), ("b", true)] {
        put(&broker, &[id]).await;
        let late = claim(&broker, 1).await.remove(0);
        if by_go {
            // A Go server recovers it: the run stays in the hash.
            let _: i64 = ask(&mut link, &["LREM", "asynq:{default}:active", "0", id]).await;
            let _: i64 = ask(&mut link, &["ZREM", "asynq:{default}:lease", id]).await;
            let key = format!("asynq:{{default}}:t:{id}");
            let _: i64 = ask(&mut link, &["HSET", &key, "state", "retry"]).await;
        } else {
            let _: i64 = ask(&mut link, &["ZADD", "asynq:{default}:lease", "1", id]).await;
            broker.recover(&[queue()], Duration::ZERO, 10, 3).await.unwrap();
        }
        let _: i64 = ask(&mut link, &["ZADD", "asynq:{default}:retry", "1", id]).await;
        broker.forward(&[queue()], 10).await.unwrap();
        take_as_go(&mut link, id, far).await;
        assert_eq!(end(&broker, &late, Verdict::Done).await, Settled::Stale, "{id}");
        assert_eq!(broker.extend(&[late], LEASE).await.unwrap(), [None], "{id}");
        assert_eq!(state_of(&mut link, id).await, "active");
    }
    // The same for a verdict whose answer was lost: the second copy of it comes too late.
    put(&broker, &["c"]).await;
    let ours = claim(&broker, 1).await.remove(0);
    assert_eq!(end(&broker, &ours, Verdict::HandBack).await, Settled::Accepted);
    take_as_go(&mut link, "c", far).await;
    assert_eq!(end(&broker, &ours, Verdict::HandBack).await, Settled::Stale);
    is_sound(&broker).await;
}

async fn an_active_task_without_a_lease_is_recovered() {
    let (broker, mut link, _db) = open().await;
    put(&broker, &["a"]).await;
    let claims = claim(&broker, 1).await;
    let _: i64 = ask(&mut link, &["DEL", "asynq:{default}:lease"]).await;
    assert_eq!(
        broker.audit().await.unwrap().len(),
        1,
        "the audit sees that the lease is missing"
    );
    // Whoever still holds it keeps it.
    assert!(broker.extend(&claims, LEASE).await.unwrap()[0].is_some());
    is_sound(&broker).await;
    // If nobody does, it gets a lease that ends now, and is taken back like any other.
    let _: i64 = ask(&mut link, &["DEL", "asynq:{default}:lease"]).await;
    let found = broker.recover(&[queue()], Duration::ZERO, 10, 0).await.unwrap();
    assert_eq!(found.len(), 1);
    is_sound(&broker).await;
}

async fn a_full_server_still_drains() {
    let server = RedisServer::start(&[]);
    let db = server.fresh_db();
    let broker = RedisBroker::connect(settings(db.port, db.number)).await.unwrap();
    let mut link = db.connect().await;
    put(&broker, &["a", "b", "c", "d", "e"]).await;
    let held = claim(&broker, 1).await;
    let _: () = ask(&mut link, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    let _: () = ask(&mut link, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let full = broker.enqueue(&[named("f")]).await;
    assert!(matches!(full, Err(BrokerError::Full { .. })), "{full:?}");
    let claims = claim(&broker, 4).await;
    assert_eq!(ids(&claims), ["b", "c", "d", "e"]);
    assert!(broker.extend(&claims, LEASE).await.unwrap().iter().all(Option::is_some));
    let retry = Verdict::Retry {
        after: Duration::from_secs(60),
        error: "full".to_owned(),
        counts: true,
    };
    let verdicts = [
        Verdict::Done,
        retry,
        Verdict::HandBack,
        Verdict::Archive { error: String::new() },
    ];
    let settlements: Vec<Settlement> = claims.iter().zip(verdicts).map(|(c, v)| ending(c, v)).collect();
    assert_eq!(broker.settle(&settlements).await.unwrap(), [Settled::Accepted; 4]);
    assert_eq!(end(&broker, &held[0], Verdict::Done).await, Settled::Accepted);
    let _: () = ask(&mut link, &["CONFIG", "SET", "maxmemory", "0"]).await;
    is_sound(&broker).await;
}

async fn a_server_that_comes_back_is_found_again() {
    let mut server = RedisServer::start(&[]);
    let db = server.fresh_db();
    let broker = RedisBroker::connect(settings(db.port, db.number)).await.unwrap();
    put(&broker, &["a"]).await;
    server.kill9();
    let gone = broker.enqueue(&[named("b")]).await;
    assert!(matches!(gone, Err(BrokerError::Unreachable { .. })), "{gone:?}");
    server.start_again();
    kit::eventually("the broker answers again", || async {
        broker.now().await.map(drop).map_err(|error| format!("{error:?}"))
    })
    .await;
    // The scripts went with the old process.
    put(&broker, &["c"]).await;
    assert_eq!(ids(&claim(&broker, 5).await), ["c"]);
}

async fn a_server_that_is_down_fails_at_once() {
    let port = kit::free_port();
    let broker = RedisBroker::lazy(&settings(port, 0)).unwrap();
    let begun = Instant::now();
    for _ in 0..50 {
        let error = broker.now().await.unwrap_err();
        assert!(matches!(error, BrokerError::Unreachable { .. }), "{error:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(broker.describe(), format!("redis 127.0.0.1:{port}/0"));
}

async fn a_key_of_the_wrong_type_is_named_as_corrupt() {
    let (broker, mut link, _db) = open().await;
    let _: () = ask(&mut link, &["SET", "asynq:{default}:pending", "x"]).await;
    let error = broker.claim(&[queue()], 1, LEASE).await.unwrap_err();
    assert_eq!(error.code(), "broker_corrupt", "{error:?}");
}

async fn a_wrong_password_is_a_refusal_until_it_is_right() {
    let server = RedisServer::start(&[]);
    let db = server.fresh_db();
    let mut link = db.connect().await;
    let _: () = ask(&mut link, &["CONFIG", "SET", "requirepass", "right"]).await;
    let mut login = settings(db.port, db.number);
    for password in [None, Some("wrong")] {
        login.password = password.map(Password::new);
        let error = RedisBroker::connect(login.clone()).await.unwrap_err();
        assert_eq!(error.code(), "broker_auth", "{password:?}: {error:?}");
        assert!(!format!("{error:?}").contains("wrong\""), "{error:?}");
    }
    let broker = RedisBroker::lazy(&login).unwrap();
    assert_eq!(broker.now().await.unwrap_err().code(), "broker_auth");
    // The operator mends the server; the program is not restarted.
    let _: () = ask(&mut link, &["CONFIG", "SET", "requirepass", "wrong"]).await;
    kit::eventually("the broker logs in", || async {
        broker.now().await.map(drop).map_err(|error| format!("{error:?}"))
    })
    .await;
}

async fn a_push_by_another_program_wakes_a_waiting_worker() {
    let (broker, mut link, _db) = open().await;
    let queues = ["low".parse().unwrap(), queue()];
    let waiting = broker.wait_for_work(&queues, Duration::from_secs(60));
    let pushing = async {
        blocked_clients(&mut link, 2).await;
        put(&broker, &["a"]).await;
    };
    timeout(Duration::from_secs(20), futures_util::future::join(waiting, pushing))
        .await
        .expect("the wait ends with the push");
    // A second wait returns at once: there is something to claim.
    timeout(
        Duration::from_secs(20),
        broker.wait_for_work(&queues, Duration::from_secs(60)),
    )
    .await
    .expect("nothing to wait for");
}

/// Waits until so many connections to the database are blocked.
async fn blocked_clients(link: &mut MultiplexedConnection, wanted: usize) {
    let info: String = ask(link, &["CLIENT", "INFO"]).await;
    let database = info.split(' ').find(|word| word.starts_with("db=")).unwrap().to_owned();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let clients: String = ask(link, &["CLIENT", "LIST"]).await;
        let blocked = |line: &&str| {
            let mut words = line.split(' ');
            words.any(|word| word == database) && line.contains("cmd=blmove") && line.contains("flags=b")
        };
        if clients.lines().filter(blocked).count() >= wanted {
            return;
        }
        assert!(Instant::now() < deadline, "nobody blocks: {clients}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn waiting_neither_takes_nor_moves_anything() {
    let (broker, mut link, _db) = open().await;
    let queues = [queue()];
    let waiting = broker.wait_for_work(&queues, Duration::from_secs(60));
    let pushing = async {
        blocked_clients(&mut link, 1).await;
        put(&broker, &["a", "b", "c"]).await;
    };
    futures_util::future::join(waiting, pushing).await;
    assert_eq!(ids(&claim(&broker, 3).await), ["a", "b", "c"]);
    is_sound(&broker).await;
}

async fn a_paused_queue_wakes_nobody() {
    let (broker, _link, _db) = open().await;
    put(&broker, &["a"]).await;
    assert!(broker.pause_queue(&queue()).await.unwrap());
    let queues = [queue()];
    let short = Duration::from_millis(300);
    let begun = Instant::now();
    broker.wait_for_work(&queues, short).await;
    assert!(begun.elapsed() >= short, "a paused queue is nothing to wake up for");
    let resuming = async { assert!(broker.resume_queue(&queue()).await.unwrap()) };
    let waiting = broker.wait_for_work(&queues, Duration::from_secs(60));
    timeout(Duration::from_secs(20), futures_util::future::join(waiting, resuming))
        .await
        .expect("the end of a pause is noticed");
    assert_eq!(claim(&broker, 1).await.len(), 1);
}

async fn a_wait_that_was_given_up_does_no_harm() {
    let (broker, mut link, _db) = open().await;
    let queues = [queue()];
    for _ in 0..5 {
        let waiting = broker.wait_for_work(&queues, Duration::from_secs(60));
        let given_up = timeout(Duration::from_millis(20), waiting).await;
        assert!(given_up.is_err());
    }
    blocked_clients(&mut link, 1).await;
    put(&broker, &["a", "b"]).await;
    assert_eq!(ids(&claim(&broker, 5).await), ["a", "b"]);
    is_sound(&broker).await;
}

async fn cancellations_end_with_the_server() {
    let server = RedisServer::start(&[]);
    let db = server.fresh_db();
    let broker = RedisBroker::connect(settings(db.port, db.number)).await.unwrap();
    let mut heard = broker.cancellations().await.unwrap();
    let mut link = db.connect().await;
    let oversized = "x".repeat(10_000);
    for payload in ["", &oversized, "a"] {
        let _: i64 = ask(&mut link, &["PUBLISH", "asynq:cancel", payload]).await;
    }
    assert_eq!(heard.recv().await.unwrap().as_str(), "a");
    server.kill9();
    let ended = timeout(Duration::from_secs(20), heard.recv()).await;
    assert_eq!(ended.expect("the end is noticed"), None);
}

async fn a_large_batch_is_enqueued_claimed_and_settled() {
    let (broker, _link, _db) = open().await;
    let count = 5000;
    let tasks: Vec<Task> = (0..count)
        .map(|n| {
            let task = named(&format!("{n:05}"))
                .unique(Duration::from_secs(600))
                .payload(n.to_string());
            let late = Run::In(Duration::from_secs(3600));
            if n % 5 == 4 { task.run(late) } else { task }
        })
        .collect();
    let results = broker.enqueue(&tasks).await.unwrap();
    assert!(results.iter().all(Result::is_ok));
    let claims = claim(&broker, count).await;
    assert_eq!(claims.len(), count * 4 / 5);
    let mut order = ids(&claims);
    assert!(order.is_sorted(), "the oldest come first");
    order.dedup();
    assert_eq!(order.len(), claims.len());
    let settlements: Vec<Settlement> = claims.iter().map(|c| ending(c, Verdict::Done)).collect();
    let settled = broker.settle(&settlements).await.unwrap();
    assert!(settled.iter().all(|s| *s == Settled::Accepted));
    let info = &broker.queues().await.unwrap()[0];
    assert_eq!((info.size(), info.processed), (1000, 4000));
    is_sound(&broker).await;
}

async fn an_old_archive_is_trimmed_in_parts() {
    let (broker, mut link, _db) = open().await;
    put(&broker, &["a"]).await;
    // More than fits into one call of a script, all older than the archive keeps.
    let mut pipe = redis::pipe();
    for n in 0..12_000 {
        pipe.cmd("ZADD")
            .arg("asynq:{default}:archived")
            .arg(1000 + n)
            .arg(n)
            .ignore();
        let key = format!("asynq:{{default}}:t:{n}");
        pipe.cmd("HSET")
            .arg(key)
            .arg(&["msg", "", "state", "archived"])
            .ignore();
    }
    let () = pipe.query_async(&mut link).await.unwrap();
    let claims = claim(&broker, 1).await;
    let error = "x".to_owned();
    assert_eq!(
        end(&broker, &claims[0], Verdict::Archive { error }).await,
        Settled::Accepted
    );
    let pass = broker.sweep(&[queue()], 5000, ArchiveBounds::default()).await.unwrap();
    // And what the archiving itself deleted, which nobody was told of then.
    assert_eq!((pass.trimmed, pass.more), (5000 + 1000, true));
    let pass = broker
        .sweep(&[queue()], 50_000, ArchiveBounds::default())
        .await
        .unwrap();
    assert_eq!((pass.trimmed, pass.more), (6000, false));
    let info = &broker.queues().await.unwrap()[0];
    assert_eq!(info.counts[&State::Archived], 1);
    is_sound(&broker).await;
}

/// Ripe as soon as it has a task, and no more than this many become one.
fn eager(size: usize) -> GroupRule {
    GroupRule {
        grace: Duration::from_secs(60),
        max_delay: None,
        max_size: Some(size),
    }
}

async fn put_grouped(broker: &RedisBroker, ids: &[&str]) {
    let tasks: Vec<Task> = ids.iter().map(|id| named(id).group("g")).collect();
    for result in broker.enqueue(&tasks).await.unwrap() {
        result.unwrap();
    }
}

async fn staged(broker: &RedisBroker, size: usize) -> (runner_queue::StagedSet, Vec<String>) {
    let set = broker.stage(&queue(), "g", &eager(size)).await.unwrap().expect("ripe");
    let tasks = broker.read_staged(&set).await.unwrap();
    (set, tasks.into_iter().map(|task| task.id.to_string()).collect())
}

async fn staged_tasks_that_cannot_be_read_do_not_hold_up_their_set() {
    let (broker, mut link, _db) = open().await;
    put_grouped(&broker, &["a", "damaged", "b", "ghost", "c"]).await;
    let _: i64 = ask(&mut link, &["HSET", "asynq:{default}:t:damaged", "msg", "\u{ff}"]).await;
    let _: i64 = ask(&mut link, &["DEL", "asynq:{default}:t:ghost"]).await;
    let (set, ids) = staged(&broker, 5).await;
    assert_eq!(ids, ["a", "b", "c"]);
    assert_eq!(state_of(&mut link, "damaged").await, "archived");
    is_sound(&broker).await;
    assert_eq!(broker.drop_staged(&set).await.unwrap(), 3);
    is_sound(&broker).await;
    // A set of nothing else is gone.
    put_grouped(&broker, &["x"]).await;
    let _: i64 = ask(&mut link, &["HSET", "asynq:{default}:t:x", "msg", "\u{ff}"]).await;
    assert!(staged(&broker, 1).await.1.is_empty());
    is_sound(&broker).await;
}

async fn a_set_that_go_left_behind_goes_back_to_its_group() {
    let (broker, mut link, _db) = open().await;
    put_grouped(&broker, &["a", "b"]).await;
    // As asynq stages, and then dies; nobody names the group any more.
    let set = "asynq:{default}:g:g:6b7a1f0e-0000-4000-8000-000000000000";
    let _: () = ask(&mut link, &["RENAME", "asynq:{default}:g:g", set]).await;
    let _: i64 = ask(&mut link, &["SREM", "asynq:{default}:groups", "g"]).await;
    let _: i64 = ask(
        &mut link,
        &["ZADD", "asynq:{default}:aggregation_sets", "1893553445", set],
    )
    .await;
    // What is not a set of this queue is taken off the list, and nothing else is done to it.
    for odd in ["asynq:{low}:g:g:1", "asynq:{default}:pending", ""] {
        let _: i64 = ask(&mut link, &["ZADD", "asynq:{default}:aggregation_sets", "1", odd]).await;
    }
    assert!(
        broker
            .reclaim(&[queue()], Duration::ZERO, 100)
            .await
            .unwrap()
            .is_empty()
    );
    let _: i64 = ask(&mut link, &["ZADD", "asynq:{default}:aggregation_sets", "1", set]).await;
    let back = broker.reclaim(&[queue()], Duration::ZERO, 100).await.unwrap();
    assert_eq!((back[0].group.as_str(), back[0].tasks), ("g", 2));
    is_sound(&broker).await;
    assert_eq!(staged(&broker, 2).await.1, ["a", "b"]);
    is_sound(&broker).await;
}

async fn a_full_server_still_stages_drops_and_reclaims() {
    let server = RedisServer::start(&[]);
    let db = server.fresh_db();
    let broker = RedisBroker::connect(settings(db.port, db.number)).await.unwrap();
    let mut link = db.connect().await;
    put_grouped(&broker, &["a", "b", "c", "d"]).await;
    let _: () = ask(&mut link, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    let _: () = ask(&mut link, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let full = broker.enqueue(&[named("f")]).await;
    assert!(matches!(full, Err(BrokerError::Full { .. })), "{full:?}");
    let (set, ids) = staged(&broker, 2).await;
    assert_eq!(ids, ["a", "b"]);
    assert_eq!(broker.drop_staged(&set).await.unwrap(), 2);
    let (set, ids) = staged(&broker, 2).await;
    assert_eq!(ids, ["c", "d"]);
    let sets = "asynq:{default}:aggregation_sets";
    let key = format!("asynq:{{default}}:g:g:{}", set.id);
    let _: () = ask(&mut link, &["CONFIG", "SET", "maxmemory", "0"]).await;
    let _: i64 = ask(&mut link, &["ZADD", sets, "1", &key]).await;
    let _: () = ask(&mut link, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let back = broker.reclaim(&[queue()], Duration::ZERO, 100).await.unwrap();
    assert_eq!(back[0].tasks, 2);
    let _: () = ask(&mut link, &["CONFIG", "SET", "maxmemory", "0"]).await;
    is_sound(&broker).await;
}

/// Small calls under way at once travel together. Those that are given up take nobody else's answer with them.
async fn callers_that_enqueue_at_once_are_each_told_of_their_own_tasks() {
    const CALLERS: usize = 300;
    let (broker, mut link, _db) = open().await;
    put(&broker, &["7", "77"]).await;
    let broker = std::sync::Arc::new(broker);
    let callers: Vec<_> = (0..CALLERS)
        .map(|number| {
            let broker = broker.clone();
            tokio::spawn(async move { broker.enqueue(&[named(&number.to_string())]).await })
        })
        .collect();
    for caller in callers.iter().skip(3).step_by(10) {
        caller.abort();
    }
    let (mut accepted, mut given_up) = (0, 0);
    for (number, caller) in callers.into_iter().enumerate() {
        let Ok(answer) = caller.await else {
            given_up += 1;
            continue;
        };
        match answer.unwrap().remove(0) {
            Ok(enqueued) => {
                assert_eq!(enqueued.id.as_str(), number.to_string());
                accepted += 1;
            }
            Err(refusal) => {
                assert_eq!(refusal.to_string(), runner_queue::Refusal::IdTaken.to_string());
                assert!(number == 7 || number == 77, "{number} was refused as taken");
            }
        }
    }
    assert_eq!(accepted + given_up + 2, CALLERS);
    // Of those given up some were sent and some were not; nothing else is there.
    let pending: usize = redis::cmd("LLEN")
        .arg("asynq:{default}:pending")
        .query_async(&mut link)
        .await
        .unwrap();
    assert!(
        (accepted + 2..=CALLERS).contains(&pending),
        "{pending} of {accepted} accepted"
    );
    assert_eq!(broker.audit().await.unwrap(), Vec::<String>::new());
}
