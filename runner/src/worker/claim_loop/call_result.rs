//! What a call carries and what comes back from it. Calls are made in `call`; `answer` takes their results in.

use runner_core::task::QueueName;
use runner_queue::{BrokerResult, Exchanged, Settlement};
use tokio::time::Instant;

use crate::worker::in_flight::Slot;

/// Verdicts with the slots of their tasks, side by side: the broker takes a slice of settlements.
#[derive(Default)]
pub(super) struct VerdictBatch {
    pub slots: Vec<Slot>,
    pub settlements: Vec<Settlement>,
}

impl VerdictBatch {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn push(&mut self, slot: Slot, settlement: Settlement) {
        self.slots.push(slot);
        self.settlements.push(settlement);
    }

    /// Settlements with their slots, in order.
    pub(super) fn into_pairs(self) -> impl DoubleEndedIterator<Item = (Slot, Settlement)> + ExactSizeIterator {
        self.slots.into_iter().zip(self.settlements)
    }
}

/// A call that has returned.
pub(super) struct CallResult {
    /// The verdicts that the answer is about.
    pub sent: VerdictBatch,
    /// How many tasks were requested, and how many slots were reserved for them besides those of the verdicts.
    pub asked: usize,
    pub reserved: usize,
    /// Only notifications were requested.
    pub notifications: bool,
    /// Just before the call: leases of its claims are counted from then.
    pub began: Instant,
    pub answer: BrokerResult<Exchanged>,
    /// Slots of verdicts that will not be sent again.
    pub given_up: Vec<Slot>,
    /// The queues that were asked, when not all are asked each time.
    pub queues: Option<Vec<QueueName>>,
}
