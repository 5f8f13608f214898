//! The step that starts tasks: each claim gets a slot in the table of tasks in flight, and its handler is called.

use runner_queue::{Claim, Verdict};
use runner_sdk::Stop;
use tokio::time::Instant;

use super::inline_types::InlineBudget;
use super::spawn;
use super::state::ClaimLoop;
use crate::worker::attempt;
use crate::worker::in_flight::{InFlightTask, Slot};

impl ClaimLoop {
    /// Starts the handler of each claim. `began`: when the call that brought them was made.
    pub(super) fn start(&mut self, claims: Vec<Claim>, began: Instant) {
        let mut budget = InlineBudget::new();
        for (slot, task) in self.put_in_flight(claims, began) {
            // Only what returns at once is called here; everything else runs beside the loop.
            if let Some(task) = self.run_inline(slot, task, &mut budget) {
                tokio::spawn(spawn::attempt(self.shared.clone(), slot, task));
            }
        }
    }

    /// Gives claims back to the front of their queues. Their leases are extended until that is written, so that they do
    /// not seem lost.
    pub(super) fn hand_back(&mut self, claims: Vec<Claim>, began: Instant) {
        for (slot, task) in self.put_in_flight(claims, began) {
            self.end_unstarted(slot, task.claim, Verdict::HandBack);
        }
    }

    /// Gives each claim a slot. From here on the heartbeat extends its lease and a cancellation finds it, so this comes
    /// before its handler is called.
    pub(super) fn put_in_flight(&mut self, claims: Vec<Claim>, began: Instant) -> Vec<(Slot, InFlightTask)> {
        let worker = &self.shared.worker;
        let now = worker.clock.now();
        // The lease began no sooner than the call.
        let hold = worker.settings.hold(began);
        let with_limits = || {
            let stop = Stop::new();
            stop.hold(hold);
            stop
        };
        let tasks: Vec<InFlightTask> = claims
            .into_iter()
            .map(|claim| InFlightTask {
                stop: with_limits(),
                started_at: now,
                deadline: attempt::deadline_of(claim.task(), now),
                extended_at: began,
                claim,
            })
            .collect();
        let slots = worker.in_flight.add(tasks.iter().cloned());
        for (slot, task) in slots.iter().zip(&tasks) {
            match self.spare.is_own(&task.claim) {
                true => self.spare.take(*slot),
                false => self.slots.taken += 1,
            }
        }
        slots.into_iter().zip(tasks).collect()
    }
}
