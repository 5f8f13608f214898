//! Ends that cannot be written: again, a bounded number of times, and without holding up others. Real files, some spoiled.

#![allow(clippy::unwrap_used)]
use bytes::Bytes;
use runner_core::clock::{Clock, SystemClock};
use runner_core::task::Task;
use runner_queue::embedded::EmbeddedBroker;
use runner_queue::{
    Claims as _, NewWorkflow, WorkflowPlan, WorkflowState, WorkflowStep, Workflows as _, advance_workflow,
};
use sqlx::Connection as _;

use super::*;
use crate::metrics::Metrics;

const FILE: &str = "runner.db";

async fn open(directory: &tempfile::TempDir) -> EmbeddedBroker {
    let path = directory.path().join(FILE);
    EmbeddedBroker::open(path, Arc::new(SystemClock)).await.unwrap()
}

/// Runs a statement beside the broker.
async fn spoil(directory: &tempfile::TempDir, text: &'static str) {
    let url = format!("sqlite://{}", directory.path().join(FILE).display());
    let mut file = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(text).execute(&mut file).await.unwrap();
    file.close().await.unwrap();
}

fn ends() -> WorkflowEnds {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    WorkflowEnds::new(&Default::default(), &clock, &Arc::<Metrics>::default())
}

/// Begins a workflow of stages with these numbers of steps.
async fn begin(broker: &EmbeddedBroker, id: &str, stages: &[u32]) {
    let step = WorkflowStep::of(&Task::new("s"), None);
    let new = NewWorkflow {
        id: id.to_owned(),
        plan: WorkflowPlan {
            name: "w".to_owned(),
            stages: stages.to_vec(),
            ..WorkflowPlan::default()
        },
        steps: vec![(step, Bytes::new()); stages.iter().sum::<u32>() as usize],
    };
    assert!(broker.keep_workflow(&new).await.unwrap());
    advance_workflow(broker, id, None).await.unwrap();
}

/// Settles all tasks that wait.
async fn settle(broker: &EmbeddedBroker, verdict: Verdict) -> Vec<Settlement> {
    let claims = broker
        .claim(&[QueueName::default()], 1_000, Duration::from_secs(30))
        .await;
    let each = claims.unwrap().into_iter().map(|claim| Settlement {
        claim,
        verdict: verdict.clone(),
        result: None,
        attempt: None,
    });
    let all: Vec<_> = each.collect();
    broker.settle(&all).await.unwrap();
    all
}

async fn state(broker: &EmbeddedBroker, id: &str) -> WorkflowState {
    broker.workflow(id).await.unwrap().unwrap().place.state
}

#[tokio::test]
async fn what_could_not_be_written_is_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(&directory).await;
    begin(&broker, "w", &[1]).await;
    let settlement = settle(&broker, Verdict::Revoke).await.remove(0);
    let (settled, ends) = (SettledSteps::default(), ends());
    settled.settled(&settlement);
    broker.close().await;
    for _ in 1..MOST_TRIES {
        assert!(settled.write(&broker, &ends).await.is_err());
        assert!(settled.has_some());
    }
    let opened = open(&directory).await;
    settled.write(&opened, &ends).await.unwrap();
    assert!(!settled.has_some());
    assert_eq!(state(&opened, "w").await, WorkflowState::Done);
    // It is bounded how often.
    settled.settled(&settlement);
    for _ in 0..MOST_TRIES {
        assert!(settled.has_some());
        assert!(settled.write(&broker, &ends).await.is_err());
    }
    assert!(!settled.has_some());
    opened.close().await;
}

#[tokio::test]
async fn workflows_that_cannot_be_written_hold_up_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(&directory).await;
    for id in ["a", "b", "c", "d"] {
        begin(&broker, id, &[1]).await;
    }
    let (settled, ends) = (SettledSteps::default(), ends());
    for settlement in settle(&broker, Verdict::Done).await {
        settled.settled(&settlement);
    }
    spoil(
        &directory,
        "CREATE TRIGGER spoiled BEFORE UPDATE ON workflows WHEN old.id < 'd' BEGIN SELECT RAISE(ABORT, 'spoiled'); END",
    )
    .await;
    assert!(settled.write(&broker, &ends).await.is_err());
    assert_eq!(state(&broker, "d").await, WorkflowState::Running);
    assert!(settled.write(&broker, &ends).await.is_err());
    assert_eq!(state(&broker, "d").await, WorkflowState::Done);
    spoil(&directory, "DROP TRIGGER spoiled").await;
    settled.write(&broker, &ends).await.unwrap();
    for id in ["a", "b", "c"] {
        assert_eq!(state(&broker, id).await, WorkflowState::Done, "{id}");
    }
    broker.close().await;
}

#[tokio::test]
async fn after_an_error_no_more_tasks_of_a_workflow_are_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(&directory).await;
    begin(&broker, "w", &[120]).await;
    let (settled, ends) = (SettledSteps::default(), ends());
    let archive = Verdict::Archive { error: "no".to_owned() };
    for settlement in settle(&broker, archive).await {
        settled.settled(&settlement);
    }
    spoil(&directory, "ALTER TABLE tasks RENAME TO away").await;
    assert!(settled.write(&broker, &ends).await.is_err());
    // Those that were asked for come last the next time.
    let again: Vec<u8> = settled.ends().steps.iter().map(|step| step.tries).collect();
    assert_eq!(again, [vec![0; 120 - ASKED_AT_ONCE], vec![1; ASKED_AT_ONCE]].concat());
    spoil(&directory, "ALTER TABLE away RENAME TO tasks").await;
    settled.write(&broker, &ends).await.unwrap();
    assert!(!settled.has_some());
    assert_eq!(broker.workflow("w").await.unwrap().unwrap().failed, 120);
    broker.close().await;
}

#[tokio::test]
async fn ends_are_not_written_again_when_only_the_continuing_failed() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(&directory).await;
    begin(&broker, "w", &[1, 1]).await;
    let (settled, ends) = (SettledSteps::default(), ends());
    settled.settled(&settle(&broker, Verdict::Done).await.remove(0));
    spoil(
        &directory,
        "CREATE TRIGGER full BEFORE INSERT ON tasks BEGIN SELECT RAISE(ABORT, 'full'); END",
    )
    .await;
    assert!(settled.write(&broker, &ends).await.is_err());
    assert!(!settled.has_some());
    let place = broker.workflow("w").await.unwrap().unwrap();
    assert_eq!((place.done, place.place.state), (1, WorkflowState::Running));
    spoil(&directory, "DROP TRIGGER full").await;
    advance_workflow(&broker, "w", None).await.unwrap();
    assert_eq!(settle(&broker, Verdict::Done).await.len(), 1, "of the second stage");
    broker.close().await;
}

#[test]
fn what_waits_is_bounded_in_number_and_bytes() {
    let step = |bytes: usize| SettledStep {
        step: StepOfTask {
            workflow: "w".to_owned(),
            number: 0,
            created_ms: 0,
        },
        task: (QueueName::default(), TaskId::random()),
        end: StepEnd::Failed("x".repeat(bytes)),
        tries: 0,
    };
    let mut ends = Ends::default();
    assert!(ends.push(step(MOST_BYTES - 1)));
    assert!(!ends.push(step(2)) && ends.push(step(1)));
    let mut ends = Ends::default();
    for _ in 0..MOST_ENDS {
        assert!(ends.push(step(0)));
    }
    assert!(!ends.push(step(0)));
}
