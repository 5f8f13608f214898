//! Errors of the server, each distinguished: not now, not here, not you, no room.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use runner_core::limit::{LimitRule, Limits, OnLimit, TaskLimit};
use runner_core::task::{QueueName, Task, TaskId};
use runner_queue::redis::{Password, RedisBroker, RedisSettings};
use runner_queue::{BrokerError, Claim, Claims as _, InspectQueues as _, Producer as _, Settled, Settlement, Verdict};
use tokio::time::Instant;

use crate::kit::{self, Harm, Proxy, RedisServer};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(RedisSeven): a_replica_a_loading_and_a_busy_server_are_distinguished;
        needs(Redis): a_user_that_lost_a_right_or_its_password_is_denied_until_it_is_back,
            scripts_may_be_flushed_all_the_time, claims_whose_answer_is_lost_are_found, a_server_that_refuses_all_clients_is_reported;
    ]
}

const LEASE: Duration = Duration::from_secs(30);

fn at(server: &RedisServer) -> RedisSettings {
    RedisSettings::at(format!("127.0.0.1:{}", server.port))
}

async fn ask<T: redis::FromRedisValue>(link: &mut MultiplexedConnection, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(link).await.unwrap()
}

async fn link_to(server: &RedisServer) -> MultiplexedConnection {
    let url = format!("redis://127.0.0.1:{}", server.port);
    kit::link_to(&url).await.unwrap()
}

fn message(error: &BrokerError) -> String {
    let mut text = format!("[{}] {error}", error.code());
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

async fn put(broker: &RedisBroker) -> Result<(), String> {
    let results = broker
        .enqueue(&[Task::new("x")])
        .await
        .map_err(|error| message(&error))?;
    results
        .into_iter()
        .try_for_each(|result| result.map(drop).map_err(|refusal| refusal.to_string()))
}

/// Waits until enqueuing fails with this code, and returns the error.
async fn fails_with(broker: &RedisBroker, word: &str) -> String {
    kit::eventually(word, || async {
        match put(broker).await {
            Err(text) if text.contains(word) => Ok(text),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

async fn works(broker: &RedisBroker) {
    kit::eventually("a task is accepted again", || put(broker)).await;
}

async fn a_replica_a_loading_and_a_busy_server_are_distinguished() {
    let server = RedisServer::start(&[
        "--lua-time-limit",
        "50",
        "--key-load-delay",
        "2000",
        "--loading-process-events-interval-bytes",
        "1024",
    ]);
    let broker = RedisBroker::connect(at(&server)).await.unwrap();
    let mut link = link_to(&server).await;

    // READONLY: it was made a replica of a missing primary.
    let _: () = ask(&mut link, &["REPLICAOF", "127.0.0.1", "1"]).await;
    let text = fails_with(&broker, "READONLY").await;
    assert!(text.starts_with("[broker_unavailable]"), "{text}");
    // MASTERDOWN: and it refuses to serve stale data.
    let _: () = ask(&mut link, &["CONFIG", "SET", "replica-serve-stale-data", "no"]).await;
    let text = fails_with(&broker, "MASTERDOWN").await;
    assert!(text.starts_with("[broker_unavailable]"), "{text}");
    let _: () = ask(&mut link, &["CONFIG", "SET", "replica-serve-stale-data", "yes"]).await;
    let _: () = ask(&mut link, &["REPLICAOF", "NO", "ONE"]).await;
    works(&broker).await;

    // BUSY: another client's script takes long.
    let mut other = link_to(&server).await;
    let foreign = tokio::spawn(async move {
        // The script ends by being killed, which is an error for its caller.
        let _killed: redis::RedisResult<()> = redis::cmd("EVAL")
            .arg("while true do end")
            .arg(0)
            .query_async(&mut other)
            .await;
    });
    let text = fails_with(&broker, "BUSY").await;
    assert!(text.starts_with("[broker_unavailable]"), "{text}");
    let _: () = ask(&mut link, &["SCRIPT", "KILL"]).await;
    works(&broker).await;
    foreign.await.unwrap();

    // LOADING: it reads its file slowly.
    let fill = "for i = 1, 2000 do redis.call('SET', 'fill:' .. i, string.rep('x', 2000)) end";
    let _: () = ask(&mut link, &["EVAL", fill, "0"]).await;
    let _: () = ask(&mut link, &["SAVE"]).await;
    let starting = tokio::task::spawn_blocking(move || {
        let mut server = server;
        server.kill9();
        server.start_again();
        server
    });
    let text = fails_with(&broker, "LOADING").await;
    assert!(text.starts_with("[broker_unavailable]"), "{text}");
    let _server = starting.await.unwrap();
    works(&broker).await;
    println!("FT id=F57 result=pass states=READONLY,MASTERDOWN,BUSY,LOADING");
}

async fn a_user_that_lost_a_right_or_its_password_is_denied_until_it_is_back() {
    let server = RedisServer::start(&[]);
    let mut link = link_to(&server).await;
    let allow = ["ACL", "SETUSER", "app", "on", ">first", "~*", "&*", "+@all"];
    let _: () = ask(&mut link, &allow).await;
    let mut settings = at(&server);
    settings.username = Some("app".to_owned());
    settings.password = Some(Password::new("first"));
    let broker = RedisBroker::connect(settings).await.unwrap();
    works(&broker).await;
    for take_away in [vec!["-evalsha"], vec!["-sadd"], vec!["-lpush"], vec!["resetkeys"]] {
        let words = [&["ACL", "SETUSER", "app"][..], &take_away].concat();
        let _: () = ask(&mut link, &words).await;
        let text = put(&broker).await.unwrap_err();
        assert!(text.starts_with("[broker_auth]"), "{take_away:?}: {text}");
        let _: () = ask(&mut link, &allow).await;
        put(&broker).await.unwrap();
    }
    // The password was changed, and the old connections are closed.
    let _: () = ask(&mut link, &["ACL", "SETUSER", "app", "resetpass", ">second"]).await;
    let _: i64 = ask(&mut link, &["CLIENT", "KILL", "USER", "app"]).await;
    let text = fails_with(&broker, "WRONGPASS").await;
    assert!(text.starts_with("[broker_auth]"), "{text}");
    assert!(!text.contains("first"), "{text}");
    let _: () = ask(&mut link, &["ACL", "SETUSER", "app", ">first"]).await;
    let back = Instant::now();
    works(&broker).await;
    let resumed = back.elapsed();
    println!("FT id=F58 result=pass resume_ms={}", resumed.as_millis());
    assert!(resumed < Duration::from_secs(6), "{resumed:?}");
}

async fn scripts_may_be_flushed_all_the_time() {
    let server = RedisServer::start(&[]);
    let broker = RedisBroker::connect(at(&server)).await.unwrap();
    let mut link = link_to(&server).await;
    let flushing = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        let mut flushed = 0_u32;
        loop {
            tick.tick().await;
            let _: () = ask(&mut link, &["SCRIPT", "FLUSH"]).await;
            flushed += 1;
            if flushed >= 20 {
                return flushed;
            }
        }
    });
    let mut calls = 0;
    while !flushing.is_finished() {
        put(&broker).await.unwrap();
        let claims = broker.claim(&[QueueName::default()], 10, LEASE).await.unwrap();
        assert_eq!(claims.len(), 1);
        broker.queues().await.unwrap();
        calls += 3;
    }
    println!(
        "FT id=F55 result=pass flushed={} calls={calls} errors=0",
        flushing.await.unwrap()
    );
}

async fn a_server_that_refuses_all_clients_is_reported() {
    let server = RedisServer::start(&["--maxclients", "1"]);
    let url = format!("redis://127.0.0.1:{}", server.port);
    let only = kit::eventually("one client is let in", || async {
        let mut link = kit::link_to(&url).await?;
        let _: String = redis::cmd("PING").query_async(&mut link).await?;
        Ok::<_, redis::RedisError>(link)
    })
    .await;
    // The reason arrives before or after the first command; it is read in both cases.
    for _ in 0..20 {
        let error = RedisBroker::connect(at(&server)).await.unwrap_err();
        let text = message(&error);
        assert!(
            text.starts_with("[broker_unavailable]") && text.contains("max number of clients"),
            "{text}"
        );
    }
    drop(only);
    kit::eventually("there is room", || async {
        RedisBroker::connect(at(&server))
            .await
            .map(drop)
            .map_err(|error| message(&error))
    })
    .await;
}

async fn done(broker: &RedisBroker, claims: &[Claim]) -> Vec<Settled> {
    let settlements: Vec<Settlement> = claims
        .iter()
        .map(|claim| Settlement {
            claim: claim.clone(),
            verdict: Verdict::Done,
            result: None,
            attempt: None,
        })
        .collect();
    broker.settle(&settlements).await.unwrap()
}

async fn claims_whose_answer_is_lost_are_found() {
    let db = kit::redis().fresh_db();
    let cut_first = |nth| (nth == 1).then_some(Harm::Cut);
    let proxy = Proxy::start(db.port, "local function finish(at)", "asynq:", cut_first).await;
    let at = |port| RedisSettings {
        database: i64::from(db.number),
        ..RedisSettings::at(format!("127.0.0.1:{port}"))
    };
    let (broker, namesake) = (at(proxy.port), at(db.port));
    let broker = RedisBroker::connect(broker).await.unwrap();
    let namesake = RedisBroker::connect(namesake).await.unwrap();
    broker.claims_as("host", 1);
    namesake.claims_as("host", 1);
    let queues = [QueueName::default()];
    let tasks = ["task-1", "task-2", "task-3"].map(|id| Task::new("x").id(TaskId::new(id).unwrap()));
    broker.enqueue(&tasks).await.unwrap();
    let held = namesake.claim(&queues, 1, LEASE).await.unwrap();
    assert!(!broker.has_unanswered());

    broker.claim(&queues, 2, LEASE).await.unwrap_err();
    assert!(broker.has_unanswered());
    let found = kit::eventually("the broker is reached again", || async {
        broker.unanswered(&[], LEASE).await.map_err(|error| error.to_string())
    })
    .await;
    let mut ids: Vec<&str> = found.iter().map(|claim| claim.task().id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(
        ids,
        ["task-2", "task-3"],
        "those of a process of the same name are not among them"
    );
    assert!(found.iter().all(|claim| claim.suspicion().is_none()));
    assert!(!broker.has_unanswered());
    assert_eq!(done(&broker, &found).await, [Settled::Accepted; 2]);
    assert_eq!(done(&namesake, &held).await, [Settled::Accepted]);

    // What is known, or was given up, is not found again.
    broker.enqueue(&[Task::new("x")]).await.unwrap();
    let known = broker.claim(&queues, 1, LEASE).await.unwrap();
    broker.lose_answers(&queues);
    assert_eq!(broker.unanswered(&known, LEASE).await.unwrap().len(), 0);
    broker.lose_answers(&queues);
    assert_eq!(broker.unanswered(&[], LEASE).await.unwrap().len(), 1);
    assert_eq!(
        done(&broker, &known).await,
        [Settled::Accepted],
        "its lease is extended"
    );

    // What a limit refused stays refused.
    let mut limits = Limits::default();
    let limit = TaskLimit {
        on_limit: OnLimit::Skip,
        ..TaskLimit::new(LimitRule::Concurrency(1))
    };
    limits.add("limited", limit);
    broker.claims_limits(&limits);
    broker.enqueue(&["limited"; 2].map(Task::new)).await.unwrap();
    let claims = broker.claim(&queues, 2, LEASE).await.unwrap();
    let refused = |claims: &[Claim]| {
        claims
            .iter()
            .filter_map(|claim| claim.refused_by().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    assert_eq!(refused(&claims), ["concurrency limited"]);
    broker.lose_answers(&queues);
    let found = broker.unanswered(&[], LEASE).await.unwrap();
    assert_eq!((found.len(), refused(&found)), (2, refused(&claims)));
    done(&broker, &found).await;
    broker.enqueue(&[Task::new("limited")]).await.unwrap();
    let next = broker.claim(&queues, 1, LEASE).await.unwrap();
    assert_eq!(refused(&next), [""; 0], "nothing of it is left");
}
