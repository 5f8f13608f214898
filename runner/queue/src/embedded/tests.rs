//! Guarantees that only this broker makes: about its file, its processes and its one writer. The rest is the contract.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use bytes::Bytes;
use runner_core::clock::ManualClock;
use runner_core::schedule::ScheduleId;
use runner_core::task::{Task, TaskId, TaskState};
use tempfile::TempDir;

use super::*;
use crate::{
    Actions as _, ArchiveBounds, BrokerError, Claim, Claims as _, Commit, Committed, InspectQueues as _,
    InspectTasks as _, NewWorkflow, Page, Producer, Registration, Repaired, Schedules as _, Settlement, Signals as _,
    Upkeep as _, Verdict, WorkflowPlan, WorkflowState, WorkflowStep, Workflows as _, advance_workflow, cancel_workflow,
};

const LEASE: Duration = Duration::from_secs(30);

pub(super) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_second(1_893_553_445).unwrap()))
}

async fn open(directory: &TempDir) -> EmbeddedBroker {
    open_with(directory, clock()).await
}

pub(super) async fn open_with(directory: &TempDir, clock: Arc<ManualClock>) -> EmbeddedBroker {
    let path = directory.path().join("deep/er/runner.db");
    EmbeddedBroker::open(path, clock).await.unwrap()
}

fn queues() -> [QueueName; 1] {
    [QueueName::default()]
}

pub(super) async fn sound(broker: &EmbeddedBroker) {
    assert_eq!(broker.audit().await.unwrap(), Vec::<String>::new());
}

/// A connection that bypasses the broker.
pub(super) fn meddle(broker: &EmbeddedBroker, statements: &str) {
    let other = rusqlite::Connection::open(broker.path()).unwrap();
    other.execute_batch(statements).unwrap();
}

#[tokio::test]
async fn a_file_is_opened_while_another_process_writes() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(&directory).await;
    let other = rusqlite::Connection::open(first.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let second = open(&directory).await;
    assert_eq!(second.queues().await.unwrap(), []);
    other.execute_batch("ROLLBACK").unwrap();
}

#[tokio::test]
async fn a_workflow_with_a_damaged_place_is_left_to_the_next_look() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(&directory).await;
    let step = WorkflowStep::of(&Task::new("s"), None);
    let new = NewWorkflow {
        id: "w".to_owned(),
        plan: WorkflowPlan {
            name: "w".to_owned(),
            stages: vec![1],
            ..WorkflowPlan::default()
        },
        steps: vec![(step, Bytes::new())],
    };
    assert!(broker.keep_workflow(&new).await.unwrap());
    // It is read as 0, and never equal to that.
    meddle(&broker, "UPDATE workflows SET sent = -1");
    let calls = async {
        advance_workflow(&broker, "w", None).await.unwrap();
        cancel_workflow(&broker, "w", None).await.unwrap();
    };
    let limit = Duration::from_secs(60);
    assert!(
        tokio::time::timeout(limit, calls).await.is_ok(),
        "it is tried without end"
    );
    assert_eq!(
        broker.workflow("w").await.unwrap().unwrap().place.state,
        WorkflowState::Running
    );
}

#[tokio::test]
#[cfg(unix)]
async fn only_the_owner_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let broker = open(&directory).await;
    broker.enqueue(&[Task::new("a")]).await.unwrap();
    for file in std::fs::read_dir(broker.path().parent().unwrap()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?} has mode {mode:o}", file.path());
    }
}

#[tokio::test]
async fn tasks_outlive_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(&directory).await;
    broker.enqueue(&[Task::new("a")]).await.unwrap();
    drop(broker);
    let broker = open(&directory).await;
    let claims = broker.claim(&queues(), 9, LEASE).await.unwrap();
    assert_eq!(claims.len(), 1);
    sound(&broker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_processes_share_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let first = Arc::new(open(&directory).await);
    let mut writers = Vec::new();
    for process in 0..3 {
        let broker = open(&directory).await;
        writers.push(tokio::spawn(async move {
            for n in 0..50 {
                let task = Task::new("a").id(TaskId::new(format!("{process}-{n}")).unwrap());
                broker.enqueue(&[task]).await.unwrap().remove(0).unwrap();
            }
        }));
    }
    let mut done = 0;
    while done < 150 {
        let claims = first.claim(&queues(), 16, LEASE).await.unwrap();
        let ends: Vec<_> = claims.into_iter().map(done_with).collect();
        done += first.settle(&ends).await.unwrap().len();
        if ends.is_empty() {
            first.wait_for_work(&queues(), Duration::from_secs(5)).await;
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(first.queues().await.unwrap()[0].processed, 150);
    sound(&first).await;
}

fn done_with(claim: Claim) -> Settlement {
    Settlement {
        claim,
        verdict: Verdict::Done,
        result: None,
        attempt: None,
    }
}

#[tokio::test]
async fn a_cancellation_reaches_another_process() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (open(&directory).await, open(&directory).await);
    let wanted = TaskId::new("a").unwrap();
    one.cancel(&TaskId::new("before").unwrap()).await.unwrap();
    let mut received = other.cancellations().await.unwrap();
    one.cancel(&wanted).await.unwrap();
    let id = tokio::time::timeout(Duration::from_secs(10), received.recv()).await;
    assert_eq!(id.unwrap(), Some(crate::StopRequest::cancel(wanted)));
}

#[tokio::test]
async fn rows_whose_ids_cannot_be_read_hold_up_no_pass() {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let broker = open_with(&directory, clock.clone()).await;
    broker.enqueue(&["a", "b"].map(Task::new)).await.unwrap();
    broker.claim(&queues(), 2, LEASE).await.unwrap();
    meddle(&broker, "UPDATE tasks SET id = CAST(x'61ff' AS TEXT) WHERE kind = 'a'");
    clock.advance(LEASE + Duration::from_secs(1));
    let recovered = broker.recover(&queues(), Duration::ZERO, 10, 0).await.unwrap();
    let kinds: Vec<_> = recovered.iter().map(|r| r.kind.as_str()).collect();
    assert_eq!(kinds, ["b"], "the other one is taken back");
    let archive = ArchiveBounds {
        most: 0,
        ..ArchiveBounds::default()
    };
    assert_eq!(broker.sweep(&queues(), 10, archive).await.unwrap().trimmed, 1);
    broker.enqueue(&["c", "d"].map(Task::new)).await.unwrap();
    meddle(&broker, "UPDATE tasks SET id = CAST(x'61ff' AS TEXT) WHERE kind = 'c'");
    let deleted = broker
        .act_all(&queues()[0], TaskState::Pending, crate::Action::Delete)
        .await;
    assert_eq!(deleted.unwrap().tasks, 2);
    sound(&broker).await;
}

#[tokio::test]
async fn a_task_of_another_process_is_noticed_long_before_the_next_look() {
    let directory = tempfile::tempdir().unwrap();
    let (first, other) = (open(&directory).await, open(&directory).await);
    let mut shortest = Duration::MAX;
    // A busy machine may sometimes be slow.
    for _ in 0..5 {
        let all = queues();
        let mut wait = std::pin::pin!(first.wait_for_work(&all, Duration::from_secs(60)));
        let early = tokio::time::timeout(Duration::from_millis(50), &mut wait).await;
        assert!(early.is_err(), "there is nothing");
        other.enqueue(&[Task::new("a")]).await.unwrap().remove(0).unwrap();
        let written = tokio::time::Instant::now();
        wait.await;
        shortest = shortest.min(written.elapsed());
        assert_eq!(first.claim(&all, 2, LEASE).await.unwrap().len(), 1);
    }
    assert!(shortest < Duration::from_millis(250), "{shortest:?}");
}

#[tokio::test]
async fn a_wrong_sum_wakes_no_waiter() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(&directory).await;
    broker.enqueue(&[Task::new("a")]).await.unwrap();
    broker.claim(&queues(), 1, LEASE).await.unwrap();
    meddle(&broker, "UPDATE queues SET pending = 7");
    let all = queues();
    let wait = broker.wait_for_work(&all, Duration::from_secs(60));
    assert!(tokio::time::timeout(Duration::from_millis(400), wait).await.is_err());
}

#[tokio::test]
async fn an_occurrence_of_a_task_that_is_not_valid_is_skipped() {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let broker = open_with(&directory, clock.clone()).await;
    let id = ScheduleId::from_text("s".to_owned());
    let registration = Registration {
        id: id.clone(),
        revision: "1".to_owned(),
    };
    let from = broker.register(&[registration]).await.unwrap()[0].cursor;
    clock.advance(Duration::from_secs(60));
    let fire = crate::CommitFire {
        nominal: clock.now(),
        fire_at: clock.now(),
        task: Task::new(" "),
        catch_up: false,
    };
    let commit = Commit {
        id,
        from,
        to: clock.now(),
        fires: vec![fire],
        missed: None,
        overlap: runner_core::schedule::Overlap::Allow,
        unserved: false,
        instance: "i".to_owned(),
    };
    let answer = broker.commit(&[commit]).await.unwrap().remove(0);
    let Committed::Done(decisions) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(decisions[0].kind, crate::DecisionKind::Skipped);
    assert!(decisions[0].reason.starts_with("invalid: "), "{}", decisions[0].reason);
    assert!(broker.queues().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_unreadable_row_is_archived_and_blocks_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(&directory).await;
    let named = |id: &str| Task::new("t").id(TaskId::new(id).unwrap());
    broker.enqueue(&[named("a"), named("bad"), named("c")]).await.unwrap();
    meddle(&broker, "UPDATE tasks SET headers = '{nonsense' WHERE id = 'bad'");
    let page = |state| {
        let broker = &broker;
        async move {
            let queue = QueueName::default();
            broker.tasks(&queue, state, Page::default()).await.unwrap()
        }
    };
    let listed = page(TaskState::Pending).await;
    assert_eq!((listed.total, listed.tasks.len()), (3, 2));
    let claims = broker.claim(&queues(), 9, LEASE).await.unwrap();
    assert_eq!(claims.len(), 2);
    assert_eq!(page(TaskState::Archived).await.total, 1);
    sound(&broker).await;
}

#[tokio::test]
async fn an_unreadable_active_row_is_recovered_into_the_archive() {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let broker = open_with(&directory, clock.clone()).await;
    broker.enqueue(&[Task::new("a"), Task::new("b")]).await.unwrap();
    broker.claim(&queues(), 2, LEASE).await.unwrap();
    meddle(&broker, "UPDATE tasks SET headers = '[' WHERE kind = 'a'");
    clock.advance(LEASE * 2);
    let recovered = broker.recover(&queues(), Duration::ZERO, 10, 0).await.unwrap();
    let states: Vec<_> = recovered.iter().map(|r| (r.kind.as_str(), r.state)).collect();
    assert_eq!(states, [("", TaskState::Archived), ("b", TaskState::Retry)]);
    sound(&broker).await;
}

#[tokio::test]
async fn a_file_from_a_newer_program_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(&directory).await;
    meddle(&broker, "PRAGMA user_version = 1000");
    let path = broker.path().to_path_buf();
    drop(broker);
    let refused = EmbeddedBroker::open(path, clock()).await;
    assert!(matches!(refused, Err(BrokerError::Refused { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_file_that_is_not_a_database_is_refused_and_not_changed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notes.txt");
    let text = "not a database, but a user's notes\n".repeat(100);
    std::fs::write(&path, &text).unwrap();
    let refused = EmbeddedBroker::open(&path, clock()).await;
    let code = refused.err().map(|e| e.code());
    assert_eq!(code, Some("broker_corrupt"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn a_full_store_refuses_until_there_is_room_again() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(&directory).await;
    broker.enqueue(&[Task::new("small")]).await.unwrap();
    let limit = async |pages: &'static str| {
        let say = move |tx: &mut writer::Tx<'_>| Ok(tx.conn.execute_batch(pages)?);
        broker.writer.write("try something", say).await.unwrap();
    };
    limit("PRAGMA max_page_count = 60").await;
    let big = Task::new("big").payload(vec![7_u8; 1 << 20]);
    // In one group with other writes, which are not refused with it.
    let (small, large, other) = ([Task::new("small")], [big.clone()], [Task::new("small")]);
    let (a, b, c) = tokio::join!(broker.enqueue(&small), broker.enqueue(&large), broker.enqueue(&other));
    assert!(a.is_ok() && c.is_ok(), "{a:?} {c:?}");
    let error = b.unwrap_err();
    assert!(matches!(error, BrokerError::Full { .. }), "{error:?}");
    limit("PRAGMA max_page_count = 100000").await;
    broker.enqueue(&[big]).await.unwrap();
    assert_eq!(broker.queues().await.unwrap()[0].counts[&TaskState::Pending], 4);
    sound(&broker).await;
}

/// Every statement of a claim, a settlement or a pass finds its rows by an index.
#[tokio::test]
async fn no_statement_on_a_hot_path_scans_the_tasks() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(&directory).await;
    let sources = [
        include_str!("claim.rs"),
        include_str!("forward.rs"),
        include_str!("settle.rs"),
        include_str!("moves.rs"),
        include_str!("sweep.rs"),
        include_str!("tally.rs"),
        include_str!("put.rs"),
        include_str!("schedule.rs"),
        include_str!("inspect_queues.rs"),
        include_str!("inspect_tasks.rs"),
        include_str!("wait.rs"),
        include_str!("cancel.rs"),
        include_str!("recover.rs"),
        include_str!("runs.rs"),
        include_str!("group.rs"),
        include_str!("staged.rs"),
        include_str!("type_filter.rs"),
        include_str!("held.rs"),
    ];
    let conn = rusqlite::Connection::open(broker.path()).unwrap();
    let mut seen = 0;
    for statement in sources.iter().flat_map(|source| statements(source)) {
        let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
        // Nothing is bound: the plan does not depend on it.
        let mut plan = explain.raw_query();
        while let Some(step) = plan.next().unwrap() {
            let step: String = step.get(3).unwrap();
            let scans = ["SCAN tasks", "SCAN t", "SCAN locks", "SCAN attempts"];
            assert!(!scans.contains(&step.as_str()), "{statement}\n{step}");
        }
        seen += 1;
    }
    assert!(seen > 40, "only {seen} statements were found in the sources");
}

/// The texts in a source that begin like a statement, with this room's own columns inserted.
fn statements(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for piece in source.split('"').skip(1).step_by(2) {
        let text = piece.replace("\\\n", " ");
        let text = text
            .replace("{RECORD}", rows::RECORD)
            .replace("{RUN}", recover::RUN)
            .replace("{INFO}", rows::INFO)
            .replace("{state}", "pending")
            .replace(
                "{sum}",
                "pending + EXISTS (SELECT 1 FROM staged_sets s WHERE s.queue = q.name)",
            )
            .replace("{columns}", rows::RECORD)
            .replace("{order}", "t.at, t.seq")
            .replace("{since}", "pending_since <= ?2")
            .replace("{}", rows::on_list(TaskState::Aggregating))
            .replace("{places}", "(?, ?, ?, ?)");
        let verbs = ["SELECT ", "UPDATE ", "DELETE ", "WITH "];
        if verbs.iter().any(|verb| text.starts_with(verb)) {
            found.push(text);
        }
    }
    found
}

#[tokio::test]
async fn damage_is_found_and_repaired() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(&directory).await;
    let tasks: Vec<Task> = ["a", "b", "c"].map(Task::new).into();
    broker.enqueue(&tasks).await.unwrap();
    broker.claim(&queues(), 1, LEASE).await.unwrap();
    sound(&broker).await;
    meddle(
        &broker,
        "UPDATE queues SET pending = 7, retry = 2; \
         UPDATE tasks SET waiting_for = 'x' WHERE kind = 'b'; \
         UPDATE tasks SET at = at + 864000000000 WHERE state = 'active'; \
         INSERT INTO attempts (task, body) VALUES (999, '{}'), (998, '{}'); \
         INSERT INTO tasks (queue, id, kind, payload, state, at, max_retry, timeout_s, deadline_s, retention_s) \
         VALUES ('lost', 'd', 'd', x'', 'pending', 0, 1, 1, 0, 0)",
    );
    assert!(broker.audit().await.unwrap().len() >= 4);
    let repaired = broker.repair(&queues(), 100).await.unwrap();
    let expected = Repaired {
        ghosts: 2,
        unleased: 1,
        // Two sums, a note, a queue without a row and its sum.
        misplaced: 5,
        ..Repaired::default()
    };
    assert_eq!(repaired, expected);
    sound(&broker).await;
    assert_eq!(broker.repair(&queues(), 100).await.unwrap(), Repaired::default());
    let recovered = broker.recover(&queues(), Duration::ZERO, 10, 3).await.unwrap();
    assert_eq!(recovered.len(), 1, "the task with the odd lease runs again");
}

/// Writes a row and panics.
fn stumble(tx: &mut writer::Tx<'_>) -> Result<(), SqlError> {
    tx.conn.exec("INSERT INTO queues (name) VALUES ('half')", [])?;
    panic!("over its feet")
}

#[tokio::test]
async fn a_write_that_panics_costs_itself_only() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(&directory).await;
    let tasks = [Task::new("a")];
    let (stumbled, stood) = tokio::join!(broker.writer.write("stumble", stumble), broker.enqueue(&tasks));
    assert!(matches!(stumbled, Err(BrokerError::Refused { .. })), "{stumbled:?}");
    stood.unwrap().remove(0).unwrap();
    assert_eq!(broker.enqueue(&tasks).await.unwrap().len(), 1);
    let queues = broker.queues().await.unwrap();
    assert_eq!(queues.len(), 1, "nothing of it stays: {queues:?}");
    sound(&broker).await;
}
