//! Suspects: which of them start, what is not claimed because of them, and that none waits forever.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use runner_core::clock::{Clock as _, ManualClock};
use runner_core::task::Task;
use runner_queue::{Claim, Claims as _, Upkeep as _};
use runner_sdk::Stop;

use super::*;
use crate::worker::DEFAULT_LEASE;
use crate::worker::claim_loop::until_done;
use crate::worker::tests::Scene;

const OPEN: WorkerLoad = WorkerLoad {
    open: true,
    alone: false,
};
const ALONE: WorkerLoad = WorkerLoad {
    open: true,
    alone: true,
};

/// A suspect with a number of crashes, as it is in flight.
async fn suspect(crashes: u32) -> InFlightTask {
    let clock = Arc::new(ManualClock::at(jiff::Timestamp::from_second(1_700_000_000).unwrap()));
    let scene = Scene::at(clock.clone()).await;
    scene.put(Task::new("a")).await;
    let mut claim: Option<Claim> = None;
    for _ in 0..=crashes {
        let queues = [runner_core::task::QueueName::default()];
        let mut claims = scene.broker.claim(&queues, 1, DEFAULT_LEASE).await.unwrap();
        claim = claims.pop();
        if claim
            .as_ref()
            .unwrap()
            .suspicion()
            .is_some_and(|s| s.crashes == crashes)
        {
            break;
        }
        clock.advance(DEFAULT_LEASE);
        scene.broker.recover(&queues, Duration::ZERO, 1, 0).await.unwrap();
        clock.advance(Duration::from_secs(3600));
        scene.broker.forward(&queues, 1).await.unwrap();
    }
    let now = clock.now();
    InFlightTask {
        claim: claim.unwrap(),
        stop: Stop::new(),
        started_at: now,
        deadline: now,
        extended_at: Instant::now(),
    }
}

fn word(step: &SuspectStep) -> &'static str {
    match step {
        SuspectStep::Wait => "wait",
        SuspectStep::Start { alone: true, .. } => "start alone",
        SuspectStep::Start { .. } => "start",
        SuspectStep::Postpone { .. } => "postpone",
        SuspectStep::HandBack { .. } => "hand back",
        SuspectStep::Pass { .. } => "pass",
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_one_has_room_once_the_first_has_passed_or_ended() {
    let first = suspect(1).await;
    let ran = first.claim.suspicion().unwrap().ran;
    assert_eq!(ran, DEFAULT_LEASE / 6, "its lease was never extended");
    let mut suspects = Suspects::default();
    suspects.admit(0, first.clone(), 3);
    assert!(!suspects.has_room());
    // One that is about to leave must not die with it.
    suspects.leave(1, 7);
    assert_eq!(word(&suspects.next(&OPEN)), "wait");
    assert!(!suspects.freed(&[1]));
    assert_eq!(word(&suspects.next(&OPEN)), "start");
    tokio::time::advance(ran - Duration::from_millis(1)).await;
    assert_eq!(word(&suspects.next(&OPEN)), "wait");
    assert!(!suspects.has_room());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(word(&suspects.next(&OPEN)), "wait");
    assert!(suspects.has_room(), "it has passed");
    suspects.admit(2, first, 3);
    assert_eq!(word(&suspects.next(&OPEN)), "start");
    assert!(suspects.freed(&[0, 2]) && suspects.has_room(), "it has ended");
}

#[tokio::test(start_paused = true)]
async fn others_are_handed_back_in_the_first_moment_and_postponed_later() {
    let mut suspects = Suspects::default();
    suspects.admit(0, suspect(1).await, 3);
    assert_eq!(suspects.leave(1, 7), None);
    assert!(suspects.blocks_claims(), "a claim would bring it again");
    suspects.freed(&[1]);
    assert_eq!(word(&suspects.next(&OPEN)), "start");
    assert!(!suspects.unblocked());
    until_done(&mut suspects.timer).await;
    assert_eq!(word(&suspects.next(&OPEN)), "wait");
    assert!(!suspects.has_room() && !suspects.blocks_claims());
    assert!(suspects.unblocked() && !suspects.unblocked());
    assert_eq!(suspects.leave(2, 7), Some(POSTPONED + Duration::from_millis(7)));
}

#[tokio::test(start_paused = true)]
async fn one_crash_before_the_last_it_runs_alone_until_it_has_passed() {
    let mut suspects = Suspects::default();
    suspects.admit(0, suspect(2).await, 3);
    assert!(suspects.blocks_claims());
    assert_eq!(word(&suspects.next(&OPEN)), "wait", "others still run");
    assert_eq!(word(&suspects.next(&ALONE)), "start alone");
    assert!(suspects.blocks_claims());
    tokio::time::advance(LONGEST_ALONE).await;
    assert_eq!(word(&suspects.next(&ALONE)), "pass");
    assert!(suspects.blocks_claims(), "the broker must know first");
    assert_eq!(word(&suspects.next(&ALONE)), "wait");
    suspects.passed();
    assert!(suspects.has_room() && !suspects.blocks_claims());
}

#[tokio::test(start_paused = true)]
async fn claims_are_blocked_only_for_a_while_and_no_suspect_waits_forever() {
    let task = suspect(2).await;
    let mut suspects = Suspects::default();
    let (began, mut holds) = (Instant::now(), 0);
    loop {
        suspects.admit(0, task.clone(), 3);
        assert_eq!(word(&suspects.next(&OPEN)), "wait");
        tokio::time::advance(HOLD).await;
        match suspects.next(&OPEN) {
            SuspectStep::Postpone { delay, .. } => {
                holds += 1;
                assert!(suspects.has_room() && !suspects.blocks_claims());
                assert!((FIRST_AGAIN..=LAST_AGAIN).contains(&delay));
                suspects.freed(&[0]);
                tokio::time::advance(delay).await;
            }
            step => {
                assert_eq!(word(&step), "start", "beside others, so its crash proves nothing");
                break;
            }
        }
        assert!(holds < 20);
    }
    assert!(began.elapsed() < PATIENCE * 2 + LAST_AGAIN, "{:?}", began.elapsed());
    assert!(
        HOLD * holds < began.elapsed() / 10,
        "intake stood still for a tenth of the time at most"
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_bound_no_suspect_has_to_be_alone() {
    for (crashes, poison_after, last) in [(5, 0, false), (1, 3, false), (2, 3, true), (1, 2, true), (1, 1, true)] {
        let mut suspects = Suspects::default();
        suspects.admit(0, suspect(crashes).await, poison_after);
        let waits = word(&suspects.next(&OPEN)) == "wait";
        assert_eq!(waits, last, "{crashes} of {poison_after}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_has_not_started_goes_back_when_the_worker_ends() {
    let mut suspects = Suspects::default();
    suspects.admit(0, suspect(2).await, 3);
    let closing = WorkerLoad { open: false, ..OPEN };
    assert_eq!(word(&suspects.next(&closing)), "hand back");
    assert!(suspects.has_room());
}
