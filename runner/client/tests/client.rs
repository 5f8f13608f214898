//! The client against the embedded broker: what a producer sees of its tasks.
#![cfg(feature = "embedded")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use runner_client::{Broker, Client, ConnectError, EnqueueError, QueueName, Task, TaskState, TaskType, WaitError};
use runner_queue::{Settlement, Verdict};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, TaskType)]
#[task(name = "greet", queue = "low", retention = "1h")]
struct Greet {
    name: String,
}

fn greet(name: &str) -> Greet {
    Greet { name: name.to_owned() }
}

/// A client of a store in a directory that ends with it.
async fn client() -> (Client, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::create(dir.path().join("runner.db")).await.unwrap();
    (client, dir)
}

/// Ends the next task of this queue as a worker would.
async fn settle(broker: &Arc<dyn Broker>, queue: &str, verdict: Verdict, result: Option<&'static str>) {
    let queues = [QueueName::new(queue).unwrap()];
    let claims = broker.claim(&queues, 1, Duration::from_secs(30)).await.unwrap();
    let claim = claims.into_iter().next().expect("a task");
    let result = result.map(|text| text.as_bytes().into());
    let settlement = Settlement {
        claim,
        verdict,
        result,
        attempt: None,
    };
    broker.settle(&[settlement]).await.unwrap();
}

#[tokio::test]
async fn a_place_that_is_none_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("runner.db");
    let error = Client::connect(missing.to_str().unwrap()).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::NoStore(_)) && !missing.exists(),
        "{error}"
    );
    let odd = Client::connect("http://user:secret@host")
        .await
        .unwrap_err()
        .to_string();
    assert!(!odd.contains("secret"), "{odd}");
}

#[tokio::test]
async fn a_task_is_enqueued_and_its_result_awaited() {
    let (client, dir) = client().await;
    let again = Client::connect(dir.path().join("runner.db").to_str().unwrap())
        .await
        .unwrap();
    let task = again.enqueue(greet("Ada")).await.unwrap();
    assert_eq!(
        (task.queue().as_str(), task.state().await.unwrap()),
        ("low", Some(TaskState::Pending))
    );
    let early = task.wait(Duration::ZERO).await.unwrap_err();
    assert!(matches!(early, WaitError::NotYet(TaskState::Pending)), "{early}");
    let waiting = tokio::spawn(async move { task.wait(Duration::from_secs(30)).await });
    settle(client.broker(), "low", Verdict::Done, Some("\"hello, Ada\"")).await;
    let result = waiting.await.unwrap().unwrap();
    assert_eq!(result.json::<String>().unwrap(), "hello, Ada");

    let failing = client.enqueue(Task::new("x").retry(0)).await.unwrap();
    let error = "no".to_owned();
    settle(client.broker(), "default", Verdict::Archive { error }, None).await;
    let failed = failing.wait(Duration::from_secs(30)).await.unwrap_err();
    assert!(matches!(&failed, WaitError::Failed(error) if error == "no"), "{failed}");

    let not_kept = client.enqueue(Task::new("x")).await.unwrap();
    settle(client.broker(), "default", Verdict::Done, None).await;
    let known = client.task(not_kept.queue().clone(), not_kept.id().clone());
    assert!(matches!(
        known.wait(Duration::from_secs(30)).await,
        Err(WaitError::Gone)
    ));
}

#[tokio::test]
async fn what_is_refused_is_an_error_and_touches_no_other() {
    let (client, _dir) = client().await;
    let blank = client.enqueue(Task::new("x").queue(" ")).await.unwrap_err();
    assert_eq!(blank.to_string(), "queue name must not be blank");
    assert!(!blank.is_duplicate());
    let twice = [Task::new("x").id("1"), Task::new("x").id("1"), Task::new("y")];
    let answers = client.enqueue_many(&twice).await.unwrap();
    assert!(answers[0].is_ok() && answers[2].is_ok());
    assert!(answers[1].as_ref().is_err_and(EnqueueError::is_duplicate));
}

#[tokio::test]
async fn many_and_streams_keep_their_order() {
    let (client, _dir) = client().await;
    let many = client
        .enqueue_many((0..600).map(|n| Task::new("x").id(format!("{n}"))))
        .await
        .unwrap();
    let ids: Vec<_> = many.into_iter().map(|task| task.unwrap().id().to_string()).collect();
    assert_eq!(ids, (0..600).map(|n| n.to_string()).collect::<Vec<_>>());
    let tasks = futures_util::stream::iter((600..1200).map(|n| Task::new("x").id(format!("{n}"))));
    let sent: Vec<_> = client.enqueue_stream(tasks).collect().await;
    let ids: Vec<_> = sent.into_iter().map(|task| task.unwrap().id().to_string()).collect();
    assert_eq!(ids, (600..1200).map(|n| n.to_string()).collect::<Vec<_>>());
}
