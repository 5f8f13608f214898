//! Copies of a file in use.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use runner_core::task::Task;

use super::tests::{clock, open_with, sound};
use super::*;
use crate::Producer;

async fn put(broker: &EmbeddedBroker, payload: &str) {
    let answers = broker.enqueue(&[Task::new("a").payload(payload.to_owned())]).await;
    assert!(answers.unwrap()[0].is_ok());
}

#[tokio::test]
async fn a_backup_is_whole_while_others_write_and_never_overwrites() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Arc::new(open_with(&directory, clock()).await);
    for _ in 0..50 {
        put(&broker, &"x".repeat(20_000)).await;
    }
    let writing = tokio::spawn({
        let broker = Arc::clone(&broker);
        async move {
            for _ in 0..100 {
                put(&broker, "more").await;
            }
        }
    });
    let copy = directory.path().join("copy.db");
    let made = backup(broker.path(), &copy).await.unwrap();
    writing.await.unwrap();
    let tasks = made.tasks.unwrap();
    assert!((50..=150).contains(&tasks), "{tasks}");
    assert_eq!(made.bytes, std::fs::metadata(&copy).unwrap().len());
    for (to, expected) in [
        (copy.clone(), "it exists"),
        (directory.path().to_path_buf(), "it exists"),
        (directory.path().join("no/such/copy.db"), "its directory does not exist"),
        (copy.join("below.db"), "it cannot be made"),
    ] {
        let refused = backup(broker.path(), &to).await.unwrap_err();
        assert!(matches!(refused, BackupError::Target { .. }), "{to:?}: {refused:?}");
        assert!(refused.to_string().contains(expected), "{refused}");
    }
    let nothing = backup(&directory.path().join("none.db"), &directory.path().join("n.db")).await;
    assert!(
        matches!(&nothing, Err(BackupError::Broker(error)) if error.code() == "broker_refused"),
        "{nothing:?}"
    );
    let others = std::fs::read_dir(directory.path())
        .unwrap()
        .flatten()
        .map(|e| e.file_name());
    let others: Vec<_> = others
        .filter(|name| name.to_string_lossy().contains("partial"))
        .collect();
    assert!(others.is_empty(), "{others:?}");
    let restored = EmbeddedBroker::open(&copy, clock()).await.unwrap();
    assert_eq!(crate::InspectQueues::queues(&restored).await.unwrap()[0].size(), tasks);
    sound(&restored).await;
}
