//! The file stays as small as its content, and deleted data cannot be read from it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::time::Duration;

use runner_core::schedule::{MissedRange, Overlap, ScheduleId};
use runner_core::task::{Task, TaskId, TaskState};

use super::tests::{clock, meddle, open_with, sound};
use super::*;
use crate::{
    Action, Actions as _, ArchiveBounds, Claims as _, Commit, CommitFire, InspectQueues as _, Producer, Registration,
    Schedules as _, Settlement, Upkeep as _, Verdict,
};

const MIB: u64 = 1024 * 1024;

fn queue() -> QueueName {
    QueueName::default()
}

fn size_of(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

fn log_of(broker: &EmbeddedBroker) -> PathBuf {
    PathBuf::from(format!("{}-wal", broker.path().display()))
}

async fn put(broker: &EmbeddedBroker, payload: String) {
    let answers = broker.enqueue(&[Task::new("a").payload(payload)]).await.unwrap();
    assert!(answers[0].is_ok());
}

async fn sweep_all(broker: &EmbeddedBroker) {
    for _ in 0..50 {
        let swept = broker.sweep(&[queue()], 100, ArchiveBounds::default()).await.unwrap();
        if !swept.more {
            return;
        }
    }
    panic!("the passes never end");
}

async fn number(broker: &EmbeddedBroker, text: &'static str) -> i64 {
    let query = move |conn: &Connection| conn.value(text, []);
    broker.readers.query("ask for a number", query).await.unwrap()
}

#[tokio::test]
async fn the_space_of_deleted_tasks_is_returned_and_they_are_unreadable() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open_with(&directory, clock()).await;
    for _ in 0..12 {
        put(&broker, "SECRET-".repeat(MIB as usize / 7)).await;
    }
    put(&broker, "stays".to_owned()).await;
    broker
        .act_all(&queue(), TaskState::Pending, Action::Delete)
        .await
        .unwrap();
    put(&broker, "small".to_owned()).await;
    sweep_all(&broker).await;
    sound(&broker).await;
    let path = broker.path().to_owned();
    broker.close().await;
    let content = std::fs::read(&path).unwrap();
    assert!(content.len() as u64 <= 2 * MIB, "{} bytes", content.len());
    assert!(!content.windows(14).any(|bytes| bytes == b"SECRET-SECRET-"));
    assert_eq!(size_of(&log_of(&broker)), 0);
}

#[tokio::test]
async fn a_log_that_grew_during_a_long_read_is_truncated_while_the_store_runs() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open_with(&directory, clock()).await;
    put(&broker, "first".to_owned()).await;
    let reader = rusqlite::Connection::open(broker.path()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM tasks;").unwrap();
    for _ in 0..20 {
        put(&broker, "x".repeat(MIB as usize)).await;
    }
    let limit = u64::try_from(connection::LOG_LIMIT).unwrap();
    assert!(size_of(&log_of(&broker)) > limit, "the reader holds it");
    reader.execute_batch("COMMIT").unwrap();
    for _ in 0..70 {
        put(&broker, "small".to_owned()).await;
    }
    let after = size_of(&log_of(&broker));
    assert!(after <= limit, "{after} bytes");
    sound(&broker).await;
}

#[tokio::test]
async fn a_small_file_of_an_older_version_is_rewritten_to_return_space() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("runner.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    let all = [
        include_str!("../../migrations/sqlite/0001_broker.sql"),
        include_str!("../../migrations/sqlite/0002_lost_runs.sql"),
        include_str!("../../migrations/sqlite/0003_groups.sql"),
    ];
    old.execute_batch(&all.join("\n")).unwrap();
    old.execute_batch(
        "PRAGMA user_version = 3; \
         INSERT INTO schedules (id, revision, cursor) VALUES ('s', '1', 0), ('t', '1', 0); \
         INSERT INTO decisions (schedule, nominal, kind, reason, count, decided_at, instance) VALUES \
         ('s', 1, 'fired', '', 1, 1, 'i'), ('s', 2, 'fired', '', 1, 2, 'i'), ('gone', 3, 'fired', '', 1, 3, 'i');",
    )
    .unwrap();
    drop(old);
    let broker = EmbeddedBroker::open(&path, clock()).await.unwrap();
    assert_eq!(number(&broker, "PRAGMA auto_vacuum").await, 2);
    assert_eq!(
        number(&broker, "SELECT decisions FROM schedules WHERE id = 's'").await,
        2
    );
    assert_eq!(
        number(&broker, "SELECT decided_at FROM schedules WHERE id = 's'").await,
        2
    );
    assert_eq!(
        number(&broker, "SELECT decisions FROM schedules WHERE id = 't'").await,
        0
    );
    assert_eq!(number(&broker, "SELECT count(*) FROM decisions").await, 2);
    sound(&broker).await;
}

#[tokio::test]
async fn a_file_that_never_shrinks_is_a_caveat_until_it_is_rewritten() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open_with(&directory, clock()).await;
    assert_eq!(broker.caveats().await.unwrap(), []);
    put(&broker, "stays".to_owned()).await;
    // Like a file that was too large when it was opened.
    meddle(&broker, "PRAGMA journal_mode = wal; PRAGMA auto_vacuum = NONE; VACUUM;");
    assert_eq!(broker.caveats().await.unwrap()[0].code, "broker_never_shrinks");
    broker.compact().await.unwrap();
    assert_eq!(broker.caveats().await.unwrap(), []);
    assert_eq!(broker.queues().await.unwrap()[0].size(), 1);
    sound(&broker).await;
}

/// A commit that enqueues nothing and records one missed occurrence.
fn missed(id: &ScheduleId, from: Timestamp, to: Timestamp) -> Commit {
    Commit {
        id: id.clone(),
        from,
        to,
        fires: Vec::new(),
        missed: Some(MissedRange {
            first: to,
            last: to,
            count: 1,
            more: false,
            bound: None,
        }),
        overlap: Overlap::Allow,
        unserved: false,
        instance: "host:1".to_owned(),
    }
}

#[tokio::test]
async fn decisions_of_a_file_with_many_and_of_silent_schedules_are_trimmed_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let broker = open_with(&directory, clock.clone()).await;
    let (busy, silent) = (ScheduleId::code("busy"), ScheduleId::code("silent"));
    let registration = |id: &ScheduleId| Registration {
        id: id.clone(),
        revision: "1".to_owned(),
    };
    let both = [registration(&busy), registration(&silent)];
    let mut from = broker.register(&both).await.unwrap()[0].cursor;
    meddle(
        &broker,
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500) \
         INSERT INTO decisions (schedule, nominal, kind, reason, count, decided_at, instance) \
         SELECT 'code:busy', i, 'fired', '', 1, i, 'i' FROM n; \
         UPDATE schedules SET decisions = 2500 WHERE id = 'code:busy';",
    );
    clock.advance(Duration::from_secs(1));
    let once = missed(&silent, from, broker.clock.now());
    broker.commit(&[once]).await.unwrap();
    for _ in 0..5 {
        let to = broker.clock.now();
        broker.commit(&[missed(&busy, from, to)]).await.unwrap();
        clock.advance(Duration::from_secs(1));
        from = to;
    }
    let remaining = number(&broker, "SELECT count(*) FROM decisions WHERE schedule = 'code:busy'").await;
    assert!((200..250).contains(&remaining), "{remaining}");
    let counted = "SELECT decisions FROM schedules WHERE id = 'code:busy'";
    assert_eq!(number(&broker, counted).await, remaining);
    assert_eq!(broker.trimmed_records(), 2505 - u64::try_from(remaining).unwrap());

    clock.advance(Duration::from_secs(60 * 24 * 3600));
    let to = broker.clock.now();
    broker.commit(&[missed(&busy, from, to)]).await.unwrap();
    clock.advance(Duration::from_secs(40 * 24 * 3600));
    broker.trimmed_records();
    sweep_all(&broker).await;
    assert_eq!(broker.decisions(Some(&silent), 10).await.unwrap(), []);
    assert!(!broker.decisions(Some(&busy), 10).await.unwrap().is_empty());
    assert_eq!(broker.trimmed_records(), 1);
}

/// One second of a store with busy schedules: each fires once, and what it fired runs.
async fn second(broker: &EmbeddedBroker, ids: &[ScheduleId], from: Timestamp, to: Timestamp) {
    let fire = |id: &ScheduleId| CommitFire {
        nominal: to,
        fire_at: to,
        task: Task::new("echo").id(TaskId::new(format!("{id}@{to}")).unwrap()),
        catch_up: false,
    };
    let commits: Vec<Commit> = ids
        .iter()
        .map(|id| Commit {
            fires: vec![fire(id)],
            missed: None,
            ..missed(id, from, to)
        })
        .collect();
    broker.commit(&commits).await.unwrap();
    let claims = broker
        .claim(&[queue()], ids.len(), Duration::from_secs(30))
        .await
        .unwrap();
    assert_eq!(claims.len(), ids.len());
    let done = claims.into_iter().map(|claim| Settlement {
        claim,
        verdict: Verdict::Done,
        result: None,
        attempt: None,
    });
    broker.settle(&done.collect::<Vec<_>>()).await.unwrap();
}

#[tokio::test]
async fn file_and_log_of_a_store_with_busy_schedules_level_off() {
    const SCHEDULES: usize = 20;
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let broker = open_with(&directory, clock.clone()).await;
    let ids: Vec<ScheduleId> = (0..SCHEDULES).map(|n| ScheduleId::code(&format!("s{n}"))).collect();
    let registrations: Vec<Registration> = ids
        .iter()
        .map(|id| Registration {
            id: id.clone(),
            revision: "1".to_owned(),
        })
        .collect();
    let mut from = broker.register(&registrations).await.unwrap()[0].cursor;
    let mut sizes = Vec::new();
    for round in 1..=900 {
        clock.advance(Duration::from_secs(1));
        let to = broker.clock.now();
        second(&broker, &ids, from, to).await;
        from = to;
        if round % 60 == 0 {
            sweep_all(&broker).await;
        }
        if round % 300 == 0 {
            sizes.push(number(&broker, "PRAGMA page_count").await);
        }
    }
    let limit = u64::try_from(connection::LOG_LIMIT).unwrap();
    assert!(
        sizes[2] <= sizes[0] + sizes[0] / 10,
        "pages after 300, 600, 900 seconds: {sizes:?}"
    );
    assert!(size_of(&log_of(&broker)) <= limit);
    let recorded = number(&broker, "SELECT count(*) FROM decisions").await;
    assert!(recorded < 250 * SCHEDULES as i64, "{recorded}");
    let trimmed = i64::try_from(broker.trimmed_records()).unwrap();
    assert_eq!(trimmed + recorded, 900 * SCHEDULES as i64);
    sound(&broker).await;
}
