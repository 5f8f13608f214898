//! The aggregator against the embedded broker: which tasks are combined, which stay in their group, what a failure
//! leaves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicUsize, Ordering};

use runner_core::task::{QueueName, Task, TaskId, TaskState};
use runner_queue::{Groups, InspectTasks as _, Page, Producer};
use runner_sdk::{Group, Registry, TaskError};

use super::tests::{PATIENCE, Scene};
use super::*;

/// Joins the payloads of a group, in their order.
async fn join(group: Group) -> Task {
    let texts: Vec<_> = group
        .tasks()
        .iter()
        .map(|t| String::from_utf8_lossy(&t.payload))
        .collect();
    Task::new("joined")
        .payload(format!("{}: {}", group.name(), texts.join(",")))
        .retention(Duration::from_secs(60))
}

fn part(group: &str, payload: &str) -> Task {
    Task::new("part").payload(payload.to_owned()).group(group)
}

impl Scene {
    /// In one call, so that none of them is ripe by age before the others are there. In no order.
    async fn put_together(&self, tasks: &[Task]) {
        let answers = self.broker.enqueue(tasks).await.unwrap();
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    }

    /// Payloads of all tasks in this state, once there are as many as wanted.
    async fn payloads(&self, state: TaskState, wanted: usize) -> Vec<String> {
        let begun = tokio::time::Instant::now();
        loop {
            let page = Page { number: 1, size: 1000 };
            let page = self.broker.tasks(&QueueName::default(), state, page).await.unwrap();
            if page.tasks.len() == wanted {
                let payloads = page.tasks.iter().map(|t| &t.record.payload);
                return payloads.map(|p| String::from_utf8_lossy(p).into_owned()).collect();
            }
            assert!(begun.elapsed() < PATIENCE, "{state}: {:?}", page.tasks);
            #[allow(clippy::disallowed_methods)] // between two looks
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn metric(&self, line: &str) {
        let begun = tokio::time::Instant::now();
        while !self.metrics.render().contains(line) {
            assert!(begun.elapsed() < PATIENCE, "no {line} in\n{}", self.metrics.render());
            #[allow(clippy::disallowed_methods)] // between two looks
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn the_tasks_of_a_group_become_one_that_is_run() {
    let scene = Scene::new().await;
    for (group, payload) in [("a", "1"), ("b", "x"), ("a", "2"), ("other", "y")] {
        scene.put(part(group, payload)).await;
    }
    let registry = Registry::new()
        .on("joined", |_: runner_sdk::Ctx| async {})
        .aggregate("a", join)
        .aggregate("b*", join);
    let worker = scene.worker(registry);
    let mut done = scene.payloads(TaskState::Completed, 2).await;
    done.sort();
    assert_eq!(done, ["a: 1,2", "b: x"]);
    assert_eq!(
        scene.payloads(TaskState::Aggregating, 1).await,
        ["y"],
        "no aggregator, so it waits"
    );
    worker.drain(CancellationToken::new()).await;
    let metrics = scene.metrics.render();
    assert!(
        metrics.contains(r#"runner_group_sets_total{queue="default",outcome="success"} 2"#),
        "{metrics}"
    );
    assert!(
        metrics.contains(r#"runner_group_tasks_total{queue="default"} 3"#),
        "{metrics}"
    );
    assert_eq!(scene.broker.audit().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn no_more_become_one_than_the_largest_size() {
    let scene = Scene::new().await;
    for n in 0..7 {
        scene.put(part("g", &n.to_string())).await;
    }
    let worker = scene.worker(Registry::new().aggregate("*", join));
    let mut one = scene.payloads(TaskState::Pending, 3).await;
    one.sort();
    assert_eq!(one, ["g: 0,1,2", "g: 3,4,5", "g: 6"], "they wait for a handler");
    worker.drain(CancellationToken::new()).await;
}

#[tokio::test]
async fn the_task_goes_to_the_queue_of_its_group_with_options_of_its_own() {
    let scene = Scene::new().await;
    scene.put(part("g", "1")).await;
    let elsewhere = |_: Group| async {
        let low = QueueName::new("low").unwrap();
        Task::new("joined")
            .queue(low)
            .max_retry(3)
            .run(runner_core::task::Run::In(Duration::from_secs(60)))
    };
    let worker = scene.worker(Registry::new().aggregate("*", elsewhere));
    scene.payloads(TaskState::Scheduled, 1).await;
    let page = scene
        .broker
        .tasks(&QueueName::default(), TaskState::Scheduled, Page::default())
        .await
        .unwrap();
    let record = &page.tasks[0].record;
    assert_eq!((record.kind.as_str(), record.max_retry), ("joined", 3));
    worker.drain(CancellationToken::new()).await;
}

#[tokio::test]
async fn a_failure_leaves_the_set_for_a_later_time() {
    let scene = Scene::new().await;
    for group in ["error", "panic", "refused"] {
        scene.put(part(group, "1")).await;
    }
    scene
        .put(Task::new("u").payload("p").unique(Duration::from_secs(600)))
        .await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let registry = Registry::new()
        .aggregate("error", move |_: Group| {
            counted.fetch_add(1, Ordering::SeqCst);
            async { Err::<Task, _>(TaskError::retry("not today")) }
        })
        .aggregate("panic", |group: Group| async move {
            assert!(group.tasks().is_empty(), "at the disco");
            Task::new("never")
        })
        .aggregate("refused", |_: Group| async {
            Task::new("u").payload("p").unique(Duration::from_secs(600))
        });
    let worker = scene.worker(registry);
    for outcome in ["failed", "panicked", "refused"] {
        let line = format!(r#"runner_group_sets_total{{queue="default",outcome="{outcome}"}} 1"#);
        scene.metric(&line).await;
    }
    worker.drain(CancellationToken::new()).await;
    assert_eq!(calls.load(Ordering::SeqCst), 1, "not again before the set returned");
    assert!(
        scene.payloads(TaskState::Aggregating, 0).await.is_empty(),
        "they are staged"
    );
    let queues = [QueueName::default()];
    let early = scene.broker.reclaim(&queues, Duration::ZERO, 9).await.unwrap();
    assert!(early.is_empty(), "{early:?}");
    assert_eq!(scene.broker.audit().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_group_whose_aggregator_keeps_failing_is_metrics_of_and_left_alone() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let lines = Arc::new(log.reopen().unwrap());
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(lines).finish();
    let _listening = tracing::subscriber::set_default(subscriber);
    let scene = Scene::new().await;
    // As many as are ripe at once.
    let fill = async |group| scene.put_together(&["1", "2", "3"].map(|n| part(group, n))).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let registry = Registry::new()
        .aggregate("good", join)
        .aggregate("bad", move |_: Group| {
            counted.fetch_add(1, Ordering::SeqCst);
            async { Err::<Task, _>(TaskError::retry("not today")) }
        });
    let worker = scene.worker(registry);
    fill("bad").await;
    scene
        .metric(r#"runner_group_sets_total{queue="default",outcome="failed"} 1"#)
        .await;
    // Groups are visited by name, so an aggregator that reached this one has passed the other.
    fill("good").await;
    scene.payloads(TaskState::Pending, 1).await;
    fill("bad").await;
    scene
        .metric(r#"runner_group_repeated_failures_total{queue="default"} 1"#)
        .await;
    fill("bad").await;
    fill("good").await;
    scene.payloads(TaskState::Pending, 2).await;
    worker.drain(CancellationToken::new()).await;
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    scene.payloads(TaskState::Aggregating, 3).await;
    let log = std::fs::read_to_string(log.path()).unwrap();
    let warned: Vec<_> = log.lines().filter(|l| l.contains("aggregator_failing")).collect();
    assert_eq!(warned.len(), 1, "{log}");
    for word in ["WARN", "queue=default", r#"group="bad""#, "failures=2", "pause_s=240"] {
        assert!(warned[0].contains(word), "no {word} in {}", warned[0]);
    }
}

#[tokio::test]
async fn an_abandoned_set_is_aggregated_again() {
    use runner_core::clock::{Clock, ManualClock};

    let clock = Arc::new(ManualClock::at(runner_core::clock::SystemClock.now()));
    let scene = Scene::at(clock.clone()).await;
    scene.put(part("g", "1")).await;
    clock.advance(Duration::from_secs(60));
    // An aggregator took it, and died.
    let rule = runner_queue::GroupRule::default();
    let set = scene.broker.stage(&QueueName::default(), "g", &rule).await.unwrap();
    assert!(set.is_some());
    clock.advance(runner_queue::SET_DEADLINE + Duration::from_secs(5));
    let worker = scene.worker(Registry::new().aggregate("*", join));
    let one = scene.payloads(TaskState::Pending, 1).await;
    assert_eq!(one, ["g: 1"]);
    worker.drain(CancellationToken::new()).await;
}

#[tokio::test]
async fn a_drain_waits_for_the_set_in_hand() {
    let scene = Scene::new().await;
    scene.put(part("g", "1")).await;
    let (began, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (starts, waits) = (began.clone(), go.clone());
    let slow = move |group: Group| {
        let (starts, waits) = (starts.clone(), waits.clone());
        async move {
            starts.notify_one();
            waits.notified().await;
            join(group).await
        }
    };
    let worker = scene.worker(Registry::new().aggregate("*", slow));
    began.notified().await;
    let drained = tokio::spawn(worker.drain(CancellationToken::new()));
    go.notify_one();
    drained.await.unwrap();
    assert_eq!(scene.payloads(TaskState::Pending, 1).await, ["g: 1"]);
    assert_eq!(scene.broker.audit().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_task_that_its_own_lock_bars_is_known_by_its_id_and_what_it_says() {
    let scene = Scene::new().await;
    let id = TaskId::new("set").unwrap();
    let unique = |payload: &str| {
        let task = Task::new("joined").payload(payload.to_owned()).id(id.clone());
        task.unique(Duration::from_secs(60))
    };
    let broker = scene.broker.as_ref();
    assert!(!staged_group::is_written(broker, &unique("1")).await.unwrap());
    scene.put(unique("1")).await;
    let again = scene.broker.enqueue(&[unique("1")]).await.unwrap().remove(0);
    assert_eq!(again.unwrap_err(), runner_queue::Refusal::Duplicate);
    assert!(staged_group::is_written(broker, &unique("1")).await.unwrap());
    assert!(
        !staged_group::is_written(broker, &unique("2")).await.unwrap(),
        "another one"
    );
}
