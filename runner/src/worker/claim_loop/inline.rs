//! Calls quick handlers in the claim loop itself: an optimisation; the rest of the loop can be understood without it.
//!
//! A handler that never waits and returns within microseconds is called by the loop, which costs half as much as a task
//! of the runtime; every other one is spawned, so that it does not delay others. Which types are quick is learned in
//! `inline_types`.

use super::inline_types::InlineBudget;
use super::spawn;
use super::state::ClaimLoop;
use crate::worker::attempt::{self, Started};
use crate::worker::in_flight::{InFlightTask, Slot};

impl ClaimLoop {
    /// Calls the handler of a task here if it most likely returns at once. Returns the task if not, or if the loop has
    /// called handlers for long enough: then the caller spawns it.
    pub(super) fn run_inline(
        &mut self,
        slot: Slot,
        task: InFlightTask,
        budget: &mut InlineBudget,
    ) -> Option<InFlightTask> {
        if budget.is_over() || !self.inline_types.is_at_once(&task.claim.task().kind) {
            return Some(task);
        }
        let claim = task.claim.clone();
        let over = match attempt::begin(&self.shared.worker, task) {
            // Directly into the queue of verdicts: the outbox is for other threads.
            Started::Over(Some(settlement)) => {
                self.end(slot, settlement);
                true
            }
            Started::Over(None) => {
                self.free(vec![slot]);
                true
            }
            // It waits after all: the rest runs beside the loop.
            Started::UnderWay(rest) => {
                tokio::spawn(spawn::rest_of(self.shared.clone(), slot, rest));
                false
            }
        };
        self.inline_types.called(&claim.task().kind, over, budget.lap());
        None
    }
}
