//! Unreadable tasks of other programs, and tasks that are too large for a list.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use runner_core::task::{Task, TaskState};
use runner_queue::redis::RedisBroker;
use runner_queue::{Action, Actions as _, InspectTasks as _, Page, Producer as _};

use super::{open, queue, settings};
use crate::kit::{self, RedisServer};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Redis): unreadable_tasks_are_listed_and_deleted_individually, a_list_of_large_tasks_keeps_the_server_free
    ]
}

/// Writes a task as another program might.
async fn write(link: &mut MultiplexedConnection, id: &[u8], message: &[u8]) {
    let key = [b"asynq:{default}:t:", id].concat();
    let _: () = redis::pipe()
        .cmd("HSET")
        .arg(&key)
        .arg(&["msg"])
        .arg(message)
        .arg(&["state", "archived"])
        .cmd("ZADD")
        .arg(&["asynq:{default}:archived", "1900000000"])
        .arg(id)
        .query_async(link)
        .await
        .expect("a task");
}

async fn unreadable_tasks_are_listed_and_deleted_individually() {
    let (broker, mut link, _db) = open().await;
    broker.enqueue(&[Task::new("good").id("good")]).await.unwrap();
    broker
        .act(&queue(), &"good".parse().unwrap(), Action::Archive)
        .await
        .unwrap();
    // A type that is not UTF-8; no message at all; an id that is not text.
    write(&mut link, b"odd", b"\x0a\x02\xff\xfe\x1a\x03odd\x22\x07default").await;
    write(&mut link, b"empty", b"").await;
    write(&mut link, b"\xff\x00", b"\xff\xff\xff").await;
    let page = Page { number: 1, size: 10 };
    let listed = broker.tasks(&queue(), TaskState::Archived, page).await.unwrap();
    assert_eq!((listed.total, listed.tasks.len()), (4, 1));
    let mut ids: Vec<&[u8]> = listed.unreadable.iter().map(|raw| &raw.id[..]).collect();
    ids.sort_unstable();
    assert_eq!(ids, [&b"empty"[..], b"odd", b"\xff\x00"]);
    assert!(
        listed
            .unreadable
            .iter()
            .all(|raw| raw.why.is_some() && raw.state == Some(TaskState::Archived))
    );
    let raw = broker.raw_task(&queue(), b"odd").await.unwrap().unwrap();
    assert_eq!((raw.bytes, &raw.head[..4]), (18, &b"\x0a\x02\xff\xfe"[..]));
    for id in [&b"odd"[..], b"empty", b"\xff\x00"] {
        broker.delete_raw(&queue(), id).await.unwrap();
    }
    let listed = broker.tasks(&queue(), TaskState::Archived, page).await.unwrap();
    assert_eq!((listed.total, listed.tasks.len(), listed.unreadable.len()), (1, 1, 0));
}

/// Tasks of 2 MB, and how often their list is read.
const TASKS: usize = 20;
const READS: usize = 3;

async fn a_list_of_large_tasks_keeps_the_server_free() {
    // Other tests' traffic would be counted too.
    let server = RedisServer::start(&[]);
    let db = server.fresh_db();
    let broker = RedisBroker::connect(settings(db.port, db.number)).await.unwrap();
    let mut link = db.connect().await;
    let payload = "x".repeat(2_000_000);
    for n in 0..TASKS {
        let task = Task::new("large").id(n.to_string()).payload(payload.clone());
        broker.enqueue(&[task]).await.unwrap();
    }
    let before = sent(&mut link).await;
    let page = Page { number: 1, size: 100 };
    let began = Instant::now();
    // Parts that are not read within the time for one page are available to one of the next.
    let whole = kit::eventually("all are read", async || {
        let listed = broker.tasks(&queue(), TaskState::Pending, page).await.unwrap();
        assert_eq!(listed.tasks.len() + listed.unreadable.len(), TASKS);
        assert!(
            listed
                .unreadable
                .iter()
                .all(|raw| raw.why.is_none() && raw.bytes > 2_000_000)
        );
        match listed.tasks.len() {
            TASKS => Ok(listed),
            n => Err(n),
        }
    })
    .await;
    assert!(
        whole
            .tasks
            .iter()
            .all(|task| task.payload_bytes == 2_000_000 && task.record.payload.len() == 2048)
    );
    for _ in 0..READS {
        assert_eq!(broker.tasks(&queue(), TaskState::Pending, page).await.unwrap(), whole);
    }
    let bytes = sent(&mut link).await - before;
    assert!(
        bytes < 2_000_000,
        "{bytes} bytes left the server for a list of {TASKS} tasks"
    );
    assert!(began.elapsed() < Duration::from_secs(30));
}

/// Bytes sent by the server.
async fn sent(link: &mut MultiplexedConnection) -> u64 {
    let info: String = redis::cmd("INFO")
        .arg("stats")
        .query_async(link)
        .await
        .expect("figures");
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("total_net_output_bytes:"));
    line.and_then(|n| n.trim().parse().ok()).expect("a figure")
}
