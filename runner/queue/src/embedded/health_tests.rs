//! The broker's reports about a file that was moved, damaged or could not be written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::time::Duration;

use runner_core::task::Task;

use super::tests::{clock, open_with, sound};
use super::*;
use crate::Producer;

async fn code_of_probe(broker: &EmbeddedBroker) -> Option<&'static str> {
    broker.probe(&[]).await.err().map(|error| error.code())
}

async fn put(broker: &EmbeddedBroker, payload: &str) -> Result<(), &'static str> {
    let answers = broker.enqueue(&[Task::new("a").payload(payload.to_owned())]).await;
    answers.map(drop).map_err(|error| error.code())
}

#[tokio::test]
async fn nothing_is_accepted_while_the_file_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open_with(&directory, clock()).await;
    put(&broker, "kept").await.unwrap();
    assert_eq!(code_of_probe(&broker).await, None);
    let (path, away) = (broker.path().to_owned(), directory.path().join("away.db"));
    fs::rename(&path, &away).unwrap();
    assert_eq!(put(&broker, "lost").await, Err("broker_replaced"));
    assert_eq!(code_of_probe(&broker).await, Some("broker_replaced"));
    assert_eq!(broker.now().await.unwrap_err().code(), "broker_replaced");
    // Another file of the same name is neither read nor written.
    fs::write(&path, b"").unwrap();
    assert_eq!(put(&broker, "lost").await, Err("broker_replaced"));
    assert_eq!(fs::read(&path).unwrap(), b"");
    fs::rename(&away, &path).unwrap();
    assert_eq!(code_of_probe(&broker).await, None);
    put(&broker, "more").await.unwrap();
    sound(&broker).await;
}

#[tokio::test]
async fn a_log_that_was_removed_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open_with(&directory, clock()).await;
    put(&broker, "kept").await.unwrap();
    put(&broker, "kept").await.unwrap();
    fs::remove_file(format!("{}-wal", broker.path().display())).unwrap();
    assert_eq!(put(&broker, "lost").await, Err("broker_replaced"));
    assert_eq!(code_of_probe(&broker).await, Some("broker_replaced"));
}

#[tokio::test]
async fn damage_anywhere_in_the_file_is_found_and_reported_by_every_probe() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open_with(&directory, clock()).await;
    for _ in 0..200 {
        put(&broker, &"x".repeat(2_000)).await.unwrap();
    }
    let path = broker.path().to_owned();
    broker.close().await;
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    // In the pages of tasks: without the pages of its schema the file cannot be opened.
    for page in 120..140 {
        file.seek(SeekFrom::Start(page * 4096)).unwrap();
        file.write_all(&[0xa5; 4096]).unwrap();
    }
    drop(file);
    let broker = EmbeddedBroker::open(&path, clock()).await.unwrap();
    let found = async {
        while code_of_probe(&broker).await.is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.unwrap();
    let error = broker.probe(&[]).await.unwrap_err();
    assert_eq!(error.code(), "broker_corrupt");
    assert!(error.to_string().contains("damaged"), "{error}");
}

#[tokio::test]
async fn a_file_that_refused_a_write_must_take_a_large_one_to_count_as_writable() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open_with(&directory, clock()).await;
    put(&broker, "first").await.unwrap();
    let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
    broker
        .health
        .note_error(&rusqlite::Error::SqliteFailure(full, None).into());
    let other = rusqlite::Connection::open(broker.path()).unwrap();
    let room = || other.query_row("SELECT count(*) FROM probes", [], |row| row.get::<_, i64>(0));
    assert_eq!(room().unwrap(), 0);
    assert_eq!(code_of_probe(&broker).await, None);
    assert_eq!(room().unwrap(), 1);
    assert!(!broker.health.refused());
    // While others write, the probe writes nothing.
    let before = broker.health.writes();
    put(&broker, "second").await.unwrap();
    assert_eq!(code_of_probe(&broker).await, None);
    assert_eq!(broker.health.writes(), before + 1);
    // Without other writes, the probe writes a little.
    assert_eq!(code_of_probe(&broker).await, None);
    assert_eq!(broker.health.writes(), before + 2);
}

#[tokio::test]
async fn an_unwritable_file_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open_with(&directory, clock()).await;
    put(&broker, "first").await.unwrap();
    assert_eq!(code_of_probe(&broker).await, None);
    let other = rusqlite::Connection::open(broker.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(code_of_probe(&broker).await, Some("broker_unavailable"));
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(code_of_probe(&broker).await, None);
}
