//! A server that is full, restarts, is unreachable, or refuses the login.

use std::time::Duration;

use runner_core::task::{QueueName, Task};
use runner_queue::redis::{Password, RedisBroker};
use runner_queue::{
    Broker as _, BrokerError, Claims as _, Producer as _, Settled, Settlement, Signals as _, Upkeep as _, Verdict,
};
use tokio::time::{Instant, timeout};

use super::{LEASE, ask, claim, end, ending, ids, is_sound, named, put, queue, settings};
use crate::kit::{self, RedisServer};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Redis): forgotten_scripts_are_loaded_again,
            a_full_server_still_drains,
            rights_to_the_keys_of_asynq_alone_lose_nothing,
            a_queue_that_is_denied_does_not_stop_the_repair_of_others,
            a_server_that_comes_back_is_found_again,
            a_server_that_is_down_fails_at_once,
            a_wrong_password_is_a_refusal_until_it_is_right,
            cancellations_end_with_the_server;
    ]
}

async fn forgotten_scripts_are_loaded_again() {
    // A separate server: other tests on the shared one would not notice, but they need not be disturbed.
    let server = RedisServer::start(&[]);
    let db = server.fresh_db();
    let broker = RedisBroker::connect(settings(db.port, db.number)).await.unwrap();
    let mut link = db.connect().await;
    put(&broker, &["a"]).await;
    let _: () = ask(&mut link, &["SCRIPT", "FLUSH"]).await;
    let other = Task::new("x").queue("other");
    let results = broker.enqueue(&[named("b"), other]).await.unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(ids(&claim(&broker, 5).await), ["a", "b"]);
    is_sound(&broker).await;
}

async fn rights_to_the_keys_of_asynq_alone_lose_nothing() {
    let server = RedisServer::start(&[]);
    let db = server.fresh_db();
    let all = RedisBroker::connect(settings(db.port, db.number)).await.unwrap();
    let mut link = db.connect().await;
    let user = ["ACL", "SETUSER", "app", "on", ">word", "~asynq:*", "&*", "+@all"];
    let _: () = ask(&mut link, &user).await;
    put(&all, &["a", "b"]).await;
    let later = named("c").run(runner_core::task::Run::In(Duration::from_secs(60)));
    all.enqueue(&[later]).await.unwrap().remove(0).unwrap();
    let _: i64 = ask(&mut link, &["ZADD", "asynq:{default}:scheduled", "1", "c"]).await;
    let some = RedisBroker::connect(runner_queue::redis::RedisSettings {
        username: Some("app".to_owned()),
        password: Some(Password::new("word")),
        ..settings(db.port, db.number)
    })
    .await
    .unwrap();
    let denied = some.claim(&[queue()], 5, LEASE).await.unwrap_err();
    assert!(matches!(denied, BrokerError::Denied { .. }), "{denied}");
    assert!(some.forward(&[queue()], 5).await.is_err());
    is_sound(&all).await;
    assert_eq!(all.forward(&[queue()], 5).await.unwrap().moved, 1);
    assert_eq!(ids(&claim(&all, 5).await), ["a", "b", "c"]);
}

async fn a_queue_that_is_denied_does_not_stop_the_repair_of_others() {
    let server = RedisServer::start(&[]);
    let db = server.fresh_db();
    let all = RedisBroker::connect(settings(db.port, db.number)).await.unwrap();
    let mut link = db.connect().await;
    let denied: QueueName = "denied".parse().unwrap();
    put(&all, &["a"]).await;
    all.enqueue(&[named("b").queue(denied.clone())])
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    // In no list, so only the search through the keys can find it.
    let _: i64 = ask(&mut link, &["LREM", "asynq:{default}:pending", "0", "a"]).await;
    let user = ["ACL", "SETUSER", "app", "on", ">word", "~*{default}*", "+@all"];
    let _: () = ask(&mut link, &user).await;
    let some = RedisBroker::connect(runner_queue::redis::RedisSettings {
        username: Some("app".to_owned()),
        password: Some(Password::new("word")),
        ..settings(db.port, db.number)
    })
    .await
    .unwrap();
    let error = some.repair(&[denied, queue()], 100).await.unwrap_err();
    assert!(matches!(error, BrokerError::Denied { .. }), "{error}");
    let pending: Vec<String> = ask(&mut link, &["LRANGE", "asynq:{default}:pending", "0", "-1"]).await;
    assert_eq!(pending, ["a"], "the other queue is repaired");
    is_sound(&all).await;
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
    // The scripts were lost with the old process.
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
    // The operator fixes the server; the program is not restarted.
    let _: () = ask(&mut link, &["CONFIG", "SET", "requirepass", "wrong"]).await;
    kit::eventually("the broker logs in", || async {
        broker.now().await.map(drop).map_err(|error| format!("{error:?}"))
    })
    .await;
}

async fn cancellations_end_with_the_server() {
    let server = RedisServer::start(&[]);
    let db = server.fresh_db();
    let broker = RedisBroker::connect(settings(db.port, db.number)).await.unwrap();
    let mut cancellations = broker.cancellations().await.unwrap();
    let mut link = db.connect().await;
    let oversized = "x".repeat(10_000);
    for payload in ["", &oversized, "a"] {
        let _: i64 = ask(&mut link, &["PUBLISH", "asynq:cancel", payload]).await;
    }
    assert_eq!(cancellations.recv().await.unwrap().id.as_str(), "a");
    server.kill9();
    let ended = timeout(Duration::from_secs(20), cancellations.recv()).await;
    assert_eq!(ended.expect("the end is noticed"), None);
}
