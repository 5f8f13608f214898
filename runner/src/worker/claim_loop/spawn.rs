//! Attempts as tasks of the runtime, beside the loop. Each leaves its settlement in the outbox, whatever happens.

use std::sync::Arc;

use super::inline_types::{self, InlineBudget};
use super::outbox::OutboxGuard;
use super::state::LoopShared;
use crate::worker::attempt::{RunningAttempt, Started, begin};
use crate::worker::in_flight::{InFlightTask, Slot};

/// An attempt from start to end.
pub(super) async fn attempt(shared: Arc<LoopShared>, slot: Slot, task: InFlightTask) {
    // Made first: it gives the slot back even if the attempt panics or the runtime drops it.
    let guard = OutboxGuard::new(&shared.outbox, slot);
    let mut budget = InlineBudget::new();
    match begin(&shared.worker, task) {
        Started::Over(settlement) => guard.post(settlement, inline_types::is_moment(budget.lap())),
        Started::UnderWay(rest) => guard.post(rest.end(&shared.worker).await, false),
    }
}

/// The rest of an attempt that began in the loop and waits for something.
pub(super) async fn rest_of(shared: Arc<LoopShared>, slot: Slot, rest: Box<RunningAttempt>) {
    let guard = OutboxGuard::new(&shared.outbox, slot);
    guard.post(rest.end(&shared.worker).await, false);
}
