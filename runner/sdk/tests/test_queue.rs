//! The queue in memory: what tests of handlers can rely on.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use runner_sdk::testing::TestQueue;
use runner_sdk::{
    Ctx, Group, NotEnqueued, Outcome, Payload, QueueName, Registry, RegistryError, ResultExt, State, Task, TaskError,
    TaskState,
};

const MINUTE: Duration = Duration::from_secs(60);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn failures_are_retried_with_back_off_until_the_last_one() {
    async fn fail() -> Result<(), TaskError> {
        Err("no luck".into())
    }
    let queue = TestQueue::new(Registry::new().on("fail", fail)).unwrap();
    let start = queue.now();
    let id = queue.enqueue(Task::new("fail").retry(3)).unwrap();
    assert_eq!(queue.run_due().await, 1);
    assert_eq!(queue.next_due(), Some(start + secs(15)));
    queue.advance(secs(14));
    assert_eq!(queue.run_due().await, 0);
    queue.advance(secs(1));
    assert_eq!(queue.run_due().await, 1);
    assert_eq!(queue.run_to_end().await, 2);
    let task = queue.task(&id).unwrap();
    assert_eq!((task.state, task.retried, task.due), (TaskState::Archived, 3, None));
    assert_eq!(task.last_error, "no luck");
    let at: Vec<_> = queue
        .attempts()
        .iter()
        .map(|a| (a.number, (a.at - start).get_seconds()))
        .collect();
    assert_eq!(at, [(1, 0), (2, 15), (3, 15 + 16), (4, 15 + 16 + 31)]);
}

#[tokio::test]
async fn each_outcome_leads_to_its_state() {
    async fn follow(Payload(word): Payload<String>, cx: Ctx) -> Outcome {
        cx.log().push("log", &word);
        match word.as_str() {
            "done" => Outcome::success("result"),
            "skip" => Outcome::Skip("bad".into()),
            "revoke" => Outcome::Revoke("not needed".into()),
            "snooze" if cx.attempt() == 1 && cx.scheduled_at().is_none() => Outcome::Snooze { delay: MINUTE },
            "after" => Outcome::RetryAfter {
                after: MINUTE,
                error: "busy".into(),
            },
            _ => panic!("at the disco"),
        }
    }
    let queue = TestQueue::new(Registry::new().on("follow", follow)).unwrap();
    let put = |word: &str| queue.enqueue(Task::new("follow").id(word).json(word).unwrap()).unwrap();
    let ids = ["done", "skip", "revoke", "snooze", "after", "panic"].map(put);
    assert_eq!(queue.run_due().await, 6);
    let states = ids.map(|id| queue.task(&id).map(|t| (t.state, t.retried)));
    let expected = [
        Some((TaskState::Completed, 0)),
        Some((TaskState::Archived, 0)),
        None,
        Some((TaskState::Scheduled, 0)),
        Some((TaskState::Retry, 1)),
        Some((TaskState::Retry, 1)),
    ];
    assert_eq!(states, expected);
    let last = queue.attempts().pop().unwrap();
    assert_eq!(last.outcome, Outcome::Retry("panic: at the disco".into()));
    assert!(last.log.contains("log: panic"), "{}", last.log);
}

#[tokio::test(start_paused = true)]
async fn time_limits_hold_and_a_passed_deadline_archives() {
    async fn hang(cx: Ctx) -> Result<(), TaskError> {
        cx.cancelled().await;
        Err("stopped").skip_retry()
    }
    async fn ignore() {
        std::future::pending().await
    }
    let registry = Registry::new()
        .on("hang", hang)
        .on("ignore", ignore)
        .with(|ignore| ignore.timeout(secs(5)));
    let queue = TestQueue::new(registry).unwrap();
    let hanging = queue.enqueue(Task::new("hang").timeout(secs(3))).unwrap();
    let ignoring = queue.enqueue(Task::new("ignore")).unwrap();
    let late = queue
        .enqueue(Task::new("hang").deadline(queue.now() - secs(1)))
        .unwrap();
    queue.run_due().await;
    let error = |id| queue.task(id).map(|t| (t.state, t.last_error)).unwrap();
    let exceeded = "context deadline exceeded";
    assert_eq!(error(&hanging), (TaskState::Retry, format!("{exceeded}: stopped")));
    assert_eq!(error(&ignoring), (TaskState::Retry, exceeded.to_owned()));
    assert_eq!(error(&late).0, TaskState::Archived);
}

#[tokio::test]
async fn ids_and_locks_are_taken_as_long_as_a_broker_would_hold_them() {
    async fn quick() {}
    let queue = TestQueue::new(Registry::new().on("quick", quick)).unwrap();
    let named = || Task::new("quick").id("one");
    queue.enqueue(named()).unwrap();
    assert_eq!(queue.enqueue(named()), Err(NotEnqueued::Duplicate));
    queue.enqueue(named().queue("low")).unwrap();
    queue.run_due().await;
    queue.enqueue(named()).unwrap();
    let unique = || Task::new("quick").payload("p").unique(MINUTE);
    queue.enqueue(unique().delay(MINUTE)).unwrap();
    assert_eq!(queue.enqueue(unique()), Err(NotEnqueued::Duplicate));
    queue.run_for(secs(59)).await;
    assert_eq!(queue.enqueue(unique()), Err(NotEnqueued::Duplicate));
    queue.run_for(secs(1)).await;
    queue.enqueue(unique()).unwrap();
    assert!(matches!(
        queue.enqueue(Task::new("quick").unique(Duration::from_millis(1))),
        Err(NotEnqueued::Invalid(_))
    ));
}

#[tokio::test]
async fn tasks_of_handlers_run_too_and_an_endless_chain_is_bounded() {
    async fn again(cx: Ctx) -> Result<(), TaskError> {
        cx.enqueue(Task::new("again")).await?;
        Ok(())
    }
    let queue = TestQueue::new(Registry::new().on("again", again)).unwrap();
    queue.enqueue(Task::new("again")).unwrap();
    queue.enqueue(Task::new("unknown")).unwrap();
    assert_eq!(queue.run_due().await, 10_000);
    assert_eq!(queue.tasks_of("unknown")[0].state, TaskState::Pending);
}

#[tokio::test]
async fn groups_wait_for_the_test_to_combine_them() {
    async fn join(group: Group) -> Result<Task, TaskError> {
        match group.tasks() {
            [_] => Err("too few".into()),
            tasks => Ok(Task::new("joined").payload(tasks.len().to_string())),
        }
    }
    async fn joined(Payload(count): Payload<u32>) -> String {
        format!("{count} tasks")
    }
    let registry = Registry::new().aggregate("mail", join).on("joined", joined);
    let queue = TestQueue::new(registry).unwrap();
    queue.enqueue(Task::new("mail").group("mail")).unwrap();
    assert_eq!(queue.aggregate("mail").await.unwrap_err().to_string(), "too few");
    queue.enqueue(Task::new("mail").group("mail")).unwrap();
    assert_eq!(queue.run_due().await, 0);
    let id = queue.aggregate("mail").await.unwrap().unwrap();
    queue.run_due().await;
    assert_eq!(queue.task(&id).unwrap().result.as_deref(), Some(&b"2 tasks"[..]));
    assert_eq!(queue.aggregate("mail").await, Ok(None));
    let other = QueueName::new("other").unwrap();
    assert_eq!(queue.aggregate_in(&other, "mail").await, Ok(None));
}

#[tokio::test]
async fn a_registry_that_lacks_a_state_makes_no_queue() {
    async fn needy(State(_): State<String>) {}
    let refused = TestQueue::new(Registry::new().on("needy", needy)).err();
    assert!(
        matches!(refused, Some(RegistryError::MissingState { .. })),
        "{refused:?}"
    );
}
