//! What the loop does for suspects; `suspects` decides what that is.

use std::sync::Arc;
use std::time::Duration;

use runner_queue::{Claim, Verdict};
use tokio::time::{Instant, timeout};

use super::outbox::OutboxGuard;
use super::spawn;
use super::state::{ClaimLoop, LoopShared};
use super::suspects::{SuspectStep, WorkerLoad};
use crate::worker::attempt;
use crate::worker::context::WorkerContext;
use crate::worker::in_flight::{InFlightTask, Slot};

/// What postponed suspects wait for.
const ONE_AT_A_TIME: &str = "its turn: its last worker died, and such tasks start one at a time";
const NOTHING_BESIDE: &str = "a worker that runs nothing else: its last workers died";

/// How long the broker may take to note whether a run is alone, and the pause before it is asked again.
const NOTE_LIMIT: Duration = Duration::from_secs(5);
const NOTE_AGAIN: Duration = Duration::from_millis(500);

impl ClaimLoop {
    /// Whether this task may kill the process. One without a handler here is not called, so it cannot; a notification only calls
    /// a receiver, and must not wait for its turn just after a crash.
    pub(super) fn is_suspect(&self, claim: &Claim) -> bool {
        claim.suspicion().is_some()
            && !self.spare.is_own(claim)
            && self.shared.worker.handlers.find(&claim.task().kind).is_some()
    }

    /// Admits one suspect if none is on trial, and hands back or postpones the others. The first starts in a later step,
    /// after the verdicts about the others are written: it must not take them down with it.
    pub(super) fn take_suspects(&mut self, claims: Vec<Claim>, began: Instant) {
        for (slot, task) in self.put_in_flight(claims, began) {
            if self.suspects.has_room() {
                let poison_after = self.shared.worker.changeable.now().poison_after;
                self.suspects.admit(slot, task, poison_after);
            } else {
                // A random id serves as the random number.
                let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
                match self.suspects.leave(slot, random) {
                    Some(delay) => self.postpone(slot, task.claim, delay, ONE_AT_A_TIME),
                    None => self.end_unstarted(slot, task.claim, Verdict::HandBack),
                }
            }
        }
    }

    fn postpone(&mut self, slot: Slot, claim: Claim, delay: Duration, waiting_for: &str) {
        let worker = &self.shared.worker;
        worker.metrics.suspect_put_off(claim.task().queue.as_str());
        let waiting_for = Some(waiting_for.to_owned());
        self.end_unstarted(slot, claim, Verdict::Snooze { delay, waiting_for });
    }

    /// Performs the next step of the suspect on trial.
    pub(super) fn step_suspects(&mut self) {
        let load = WorkerLoad {
            open: self.is_open(),
            // A call under way may bring claims that start beside it, and so may the answer that one did not bring.
            alone: self.slots.taken + self.spare.taken() == 1
                && self.calls.is_empty()
                && !self.unanswered.may_bring_claims(),
        };
        match self.suspects.next(&load) {
            SuspectStep::Wait => (),
            SuspectStep::Start { slot, mut task, alone } => {
                // It waited since its claim: its time limit begins now.
                task.started_at = self.shared.worker.clock.now();
                task.deadline = attempt::deadline_of(task.claim.task(), task.started_at);
                let shared = self.shared.clone();
                match alone {
                    true => drop(tokio::spawn(run_alone(shared, slot, task))),
                    false => drop(tokio::spawn(spawn::attempt(shared, slot, task))),
                }
            }
            SuspectStep::Postpone { slot, task, delay } => {
                self.postpone(slot, task.claim, delay, NOTHING_BESIDE);
            }
            SuspectStep::HandBack { slot, task } => self.end_unstarted(slot, task.claim, Verdict::HandBack),
            SuspectStep::Pass { task } => {
                let worker = self.shared.worker.clone();
                self.suspects.passing = Some(Box::pin(async move { not_alone(&worker, &task.claim).await }));
            }
        }
        // Nothing was asked for meanwhile.
        if self.suspects.unblocked() {
            self.queues.may_have_tasks = true;
            self.spare.may_have_tasks = true;
        }
    }

    /// From now on others may start beside it.
    pub(super) fn suspect_passed(&mut self) {
        self.suspects.passed();
        self.queues.may_have_tasks = true;
    }
}

/// An attempt of a suspect that has the process to itself. The broker notes that before the handler is called: if the
/// process dies then, only this task can have killed it.
async fn run_alone(shared: Arc<LoopShared>, slot: Slot, task: InFlightTask) {
    let noted = timeout(NOTE_LIMIT, shared.worker.broker.run_alone(&task.claim, true)).await;
    match noted {
        // The claim is lost; nothing may run.
        Ok(Ok(false)) => OutboxGuard::new(&shared.outbox, slot).post(None, false),
        // Without the note a crash would prove nothing, but the task has waited long enough.
        Ok(Ok(true) | Err(_)) | Err(_) => spawn::attempt(shared, slot, task).await,
    }
}

/// Removes the note that a run is alone, until the broker has done so or the run is over. Only then may others start:
/// otherwise a crash that one of them causes would be held against the suspect.
#[allow(clippy::disallowed_methods)] // a named back-off; the end of the run ends it
async fn not_alone(worker: &WorkerContext, claim: &Claim) {
    loop {
        match timeout(NOTE_LIMIT, worker.broker.run_alone(claim, false)).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => worker.broker_failed("note that a run is not alone", &error),
            Err(_) => (),
        }
        tokio::time::sleep(NOTE_AGAIN).await;
    }
}
