//! Tasks of dead processes, and only those, are recovered before their leases end.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use runner_core::task::{Task, TaskState};

use super::tests::{clock, open_with, sound};
use super::*;
use crate::{Claim, Claims as _, InspectQueues as _, Producer as _, Upkeep as _};

const LEASE: Duration = Duration::from_secs(30);

/// No process has this id.
const UNUSED_PID: u32 = 4_194_306;

async fn claim(broker: &EmbeddedBroker) -> Vec<Claim> {
    broker.claim(&[QueueName::default()], 9, LEASE).await.unwrap()
}

async fn states(broker: &EmbeddedBroker) -> (u64, u64) {
    let info = broker.queues().await.unwrap().remove(0);
    (info.counts[&TaskState::Active], info.counts[&TaskState::Retry])
}

#[tokio::test]
async fn tasks_of_a_dead_process_are_recovered_at_once() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), clock());
    let first = open_with(&directory, clock.clone()).await;
    first.claims_as("here", UNUSED_PID);
    first.enqueue(&[Task::new("a"), Task::new("b")]).await.unwrap();
    let held = claim(&first).await;
    assert_eq!(held.len(), 2);
    first
        .settle(&[crate::Settlement {
            claim: held[0].clone(),
            verdict: crate::Verdict::Done,
            result: None,
            attempt: None,
        }])
        .await
        .unwrap();
    drop(first);
    let second = open_with(&directory, clock.clone()).await;
    second.claims_as("here", std::process::id());
    second.enqueue(&[Task::new("c")]).await.unwrap();
    assert_eq!(claim(&second).await.len(), 1);
    assert!(
        second.recover_dead(LEASE, 9, 3).await.unwrap().is_empty(),
        "its commands may still end"
    );
    let recovered = second.recover_dead(Duration::ZERO, 9, 3).await.unwrap();
    assert_eq!(recovered.len(), 1);
    assert_eq!(
        (recovered[0].id.as_str(), recovered[0].lost),
        (held[1].task().id.as_str(), 1)
    );
    assert_eq!(states(&second).await, (1, 1), "its own task stays");
    assert!(second.recover_dead(Duration::ZERO, 9, 3).await.unwrap().is_empty());
    sound(&second).await;
}

#[tokio::test]
async fn tasks_of_a_possibly_live_process_are_not_recovered() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), clock());
    let first = open_with(&directory, clock.clone()).await;
    first.claims_as("here", UNUSED_PID);
    first.enqueue(&[Task::new("a")]).await.unwrap();
    assert_eq!(claim(&first).await.len(), 1);
    // While the first one holds its lock nothing is proven.
    let second = open_with(&directory, clock.clone()).await;
    second.claims_as("here", std::process::id());
    assert!(claim(&second).await.is_empty());
    assert!(second.recover_dead(Duration::ZERO, 9, 3).await.unwrap().is_empty());
    drop((first, second));
    // Processes of another host cannot be checked.
    for me in ["there", "here"] {
        let third = open_with(&directory, clock.clone()).await;
        third.claims_as(me, std::process::id());
        assert!(claim(&third).await.is_empty());
        let recovered = third.recover_dead(Duration::ZERO, 9, 3).await.unwrap();
        assert_eq!(recovered.len(), usize::from(me == "here"), "{me}");
    }
}
