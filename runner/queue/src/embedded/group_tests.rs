//! Guarantees about groups that only this broker makes: files of an older program, damaged rows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use runner_core::task::{Task, TaskId, TaskState};

use super::tests::{clock, meddle, open_with, sound};
use super::*;
use crate::{GroupRule, Groups, InspectTasks as _, Page, Producer, Upkeep as _};

const RULE: GroupRule = GroupRule {
    grace: Duration::from_secs(60),
    max_delay: None,
    max_size: None,
};

fn grouped(id: &str) -> Task {
    Task::new("t").id(TaskId::new(id).unwrap()).group("g")
}

async fn state_of(broker: &EmbeddedBroker, id: &str) -> TaskState {
    let task = broker.task(&QueueName::default(), &TaskId::new(id).unwrap()).await;
    task.unwrap().unwrap().state
}

#[tokio::test]
async fn tasks_of_groups_in_a_file_of_an_older_program_still_wait_in_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/er/runner.db");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let old = rusqlite::Connection::open(&path).unwrap();
    let text = concat!(
        include_str!("../../migrations/sqlite/0001_broker.sql"),
        "INSERT INTO queues (name, aggregating, retry) VALUES ('default', 1, 1);
         INSERT INTO tasks (queue, id, kind, payload, state, at, max_retry, timeout_s, deadline_s, retention_s, group_name)
         VALUES ('default', 'waits', 't', x'', 'aggregating', 1, 25, 1800, 0, 0, 'g'),
                ('default', 'failed', 't', x'', 'retry', 1, 25, 1800, 0, 0, 'g');
         PRAGMA user_version = 1;"
    );
    old.execute_batch(text).unwrap();
    drop(old);
    let broker = open_with(&directory, clock()).await;
    sound(&broker).await;
    let queues = [QueueName::default()];
    assert_eq!(broker.forward(&queues, 9).await.unwrap().moved, 1);
    assert_eq!(
        state_of(&broker, "failed").await,
        TaskState::Pending,
        "as it would have been before"
    );
    let set = broker.stage(&queues[0], "g", &RULE).await.unwrap().expect("ripe");
    let tasks = broker.read_staged(&set).await.unwrap();
    assert_eq!((tasks.len(), tasks[0].id.as_str()), (1, "waits"));
    sound(&broker).await;
}

#[tokio::test]
async fn a_row_that_cannot_be_read_does_not_hold_up_its_set() {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let broker = open_with(&directory, clock.clone()).await;
    broker
        .enqueue(&[grouped("a"), grouped("bad"), grouped("c")])
        .await
        .unwrap();
    clock.advance(RULE.grace);
    let queue = QueueName::default();
    let set = broker.stage(&queue, "g", &RULE).await.unwrap().expect("ripe");
    meddle(&broker, "UPDATE tasks SET headers = '{nonsense' WHERE id = 'bad'");
    let tasks = broker.read_staged(&set).await.unwrap();
    let ids: Vec<_> = tasks.iter().map(|task| task.id.as_str()).collect();
    assert_eq!(ids, ["a", "c"]);
    let archived = broker
        .tasks(&queue, TaskState::Archived, Page::default())
        .await
        .unwrap();
    assert_eq!(archived.total, 1);
    sound(&broker).await;
    meddle(&broker, "UPDATE tasks SET headers = '{nonsense' WHERE id IN ('a', 'c')");
    assert!(broker.read_staged(&set).await.unwrap().is_empty());
    sound(&broker).await;
}

#[tokio::test]
async fn a_group_that_another_process_stages_is_staged_once() {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let one = open_with(&directory, clock.clone()).await;
    let other = open_with(&directory, clock.clone()).await;
    one.enqueue(&[grouped("a"), grouped("b")]).await.unwrap();
    clock.advance(RULE.grace);
    let queue = QueueName::default();
    let sets = tokio::join!(one.stage(&queue, "g", &RULE), other.stage(&queue, "g", &RULE));
    let sets: Vec<_> = [sets.0, sets.1].into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(sets.len(), 1);
    assert_eq!(other.read_staged(&sets[0]).await.unwrap().len(), 2);
    sound(&one).await;
}
