//! Workers with thousands of task types: the cost of a claim, and Redis losing their names.

use runner_core::task::{Task, TaskId};
use runner_queue::redis::RedisBroker;
use runner_queue::{Claim, Claims as _, KnownTypes, Producer as _};

use super::{ask, claim, ids, is_sound, open, settings};
use crate::kit::{self, RedisServer};

const MANY: usize = 5_000;

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Redis): thousands_of_names_do_not_travel_with_each_claim,
            lost_type_names_are_sent_again,
            a_server_that_stores_no_names_gets_them_each_time;
    ]
}

fn set_many_types(broker: &RedisBroker) {
    let none: [&str; 0] = [];
    broker.claims_types(&KnownTypes::new((0..MANY).map(|n| format!("fn:job-{n:04}")), none));
}

async fn put_one(broker: &RedisBroker, id: &str, kind: &str) {
    let task = Task::new(kind).id(TaskId::new(id).unwrap());
    broker.enqueue(&[task]).await.unwrap().remove(0).unwrap();
}

/// The claims of two calls: the first one may find that the names are gone.
async fn soon(broker: &RedisBroker) -> Vec<Claim> {
    let mut claims = claim(broker, 9).await;
    claims.append(&mut claim(broker, 9).await);
    claims
}

async fn thousands_of_names_do_not_travel_with_each_claim() {
    // A separate server, whose reads are counted.
    let server = RedisServer::start(&[]);
    let db = server.fresh_db();
    let broker = RedisBroker::connect(settings(db.port, db.number)).await.unwrap();
    let mut link = db.connect().await;
    set_many_types(&broker);
    put_one(&broker, "x", "fn:unknown").await;
    put_one(&broker, "a", "fn:job-4999").await;
    assert_eq!(ids(&claim(&broker, 9).await), ["a"]);
    let read = async |link: &mut redis::aio::MultiplexedConnection| -> usize {
        let stats: String = ask(link, &["INFO", "stats"]).await;
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix("total_net_input_bytes:"));
        line.unwrap().trim().parse().unwrap()
    };
    let before = read(&mut link).await;
    for n in 0..100 {
        put_one(&broker, &format!("b{n}"), &format!("fn:job-{n:04}")).await;
        assert_eq!(claim(&broker, 9).await.len(), 1);
    }
    let bytes = (read(&mut link).await - before) / 100;
    println!("an enqueue and a claim by a worker of {MANY} types: {bytes} bytes to the server");
    assert!(bytes < 2_000, "{bytes} bytes");
    is_sound(&broker).await;
}

async fn lost_type_names_are_sent_again() {
    let (broker, mut link, _db) = open().await;
    set_many_types(&broker);
    put_one(&broker, "a", "fn:job-0001").await;
    assert_eq!(ids(&claim(&broker, 9).await), ["a"]);
    let keys: Vec<String> = ask(&mut link, &["KEYS", "runner:types:*"]).await;
    let key = keys.first().unwrap();
    let ttl: i64 = ask(&mut link, &["TTL", key]).await;
    assert!((1..=3600).contains(&ttl), "{ttl}");
    // Deleted, replaced by something else, incomplete.
    let set = ["SET", key, "no set"];
    let part = ["SREM", key, "fn:job-0001"];
    for (nth, harm) in [&["DEL", key.as_str()][..], &set, &part].iter().enumerate() {
        let harmed: redis::Value = ask(&mut link, harm).await;
        if nth == 2 {
            let _: i64 = redis::cmd("SREM")
                .arg(key)
                .arg(b"\xff")
                .query_async(&mut link)
                .await
                .unwrap();
        }
        let (id, other) = (format!("b{nth}"), format!("x{nth}"));
        put_one(&broker, &other, "go:task").await;
        put_one(&broker, &id, "fn:job-0001").await;
        assert_eq!(ids(&soon(&broker).await), [id], "{harm:?}: {harmed:?}");
    }
    is_sound(&broker).await;
}

async fn a_server_that_stores_no_names_gets_them_each_time() {
    // One that is full, and one that allows us only asynq's keys and those of queues.
    let server = RedisServer::start(&["--maxmemory-policy", "noeviction"]);
    let db = server.fresh_db();
    let mut link = db.connect().await;
    let broker = RedisBroker::connect(settings(db.port, db.number)).await.unwrap();
    put_one(&broker, "a", "fn:job-0001").await;
    let _: () = ask(&mut link, &["CONFIG", "SET", "maxmemory", "1"]).await;
    set_many_types(&broker);
    assert_eq!(ids(&claim(&broker, 9).await), ["a"]);
    let _: () = ask(&mut link, &["CONFIG", "SET", "maxmemory", "0"]).await;
    let rights = ["ACL", "SETUSER", "default", "resetkeys", "~asynq:*", "~runner:{*"];
    let _: () = ask(&mut link, &rights).await;
    let broker = RedisBroker::connect(settings(db.port, db.number)).await.unwrap();
    put_one(&broker, "b", "fn:job-0002").await;
    set_many_types(&broker);
    assert_eq!(ids(&claim(&broker, 9).await), ["b"]);
    let kept: Result<Vec<String>, _> = redis::cmd("KEYS").arg("runner:types:*").query_async(&mut link).await;
    assert_eq!(kept.unwrap(), [""; 0]);
}
