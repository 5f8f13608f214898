//! Slots that only notifications use, beside those of all other tasks: what goes wrong is reported at once, and not when a task ends;
//! and receivers that do not answer hold up no task.
//!
//! What is known of these slots and of their queue; the steps are in `spare_steps`.

use std::collections::{HashSet, VecDeque};

use futures_util::future::BoxFuture;
use runner_core::task::QueueName;
use runner_queue::{Claim, Settlement};

use super::pause::FailurePause;
use crate::worker::in_flight::Slot;

/// The slots of notifications.
pub(super) struct SpareSlots {
    /// The queue, where there are such slots. No other call asks it.
    queue: Option<QueueName>,
    /// How many there are.
    total: usize,
    /// Those with a notification.
    taken: HashSet<Slot>,
    /// Those that calls under way may fill.
    pub reserved: usize,
    /// Whether a claim may find something.
    pub may_have_tasks: bool,
    /// Ends when the queue may have got a task.
    pub wake_up: Option<BoxFuture<'static, ()>>,
    /// Verdicts to write, oldest first.
    pub verdicts: VecDeque<(Slot, Settlement)>,
    /// Whether a call is under way; there is one at a time, beside those for tasks.
    pub is_calling: bool,
    /// No such call begins before it is over.
    pub pause: FailurePause,
}

impl SpareSlots {
    pub(super) fn new(queue: Option<QueueName>, slots: usize) -> Self {
        Self {
            total: if queue.is_some() { slots } else { 0 },
            queue,
            taken: HashSet::new(),
            reserved: 0,
            may_have_tasks: true,
            wake_up: None,
            verdicts: VecDeque::new(),
            is_calling: false,
            pause: FailurePause::default(),
        }
    }

    /// The queue to ask; none where there are no such slots.
    pub(super) fn queues(&self) -> Vec<QueueName> {
        self.queue.iter().cloned().collect()
    }

    /// Whether this is a notification, and runs in such a slot.
    pub(super) fn is_own(&self, claim: &Claim) -> bool {
        self.queue.as_ref() == Some(&claim.task().queue)
    }

    /// A notification has this slot.
    pub(super) fn take(&mut self, slot: Slot) {
        self.taken.insert(slot);
    }

    /// Frees a slot. Returns whether it was one of these.
    pub(super) fn free_slot(&mut self, slot: Slot) -> bool {
        self.taken.remove(&slot)
    }

    /// Whether a notification has this slot.
    pub(super) fn has(&self, slot: Slot) -> bool {
        !self.taken.is_empty() && self.taken.contains(&slot)
    }

    /// How many have one.
    pub(super) fn taken(&self) -> usize {
        self.taken.len()
    }

    /// How many are free once this many verdicts are written.
    pub(super) fn free_after(&self, written: usize) -> usize {
        let used = (self.taken.len() + self.reserved).saturating_sub(written);
        self.total.saturating_sub(used)
    }

    /// Learns from a call that requested `asked` notifications.
    pub(super) fn learn(&mut self, asked: usize, claimed: usize, more: bool) {
        if asked > 0 {
            self.may_have_tasks = claimed == asked || more;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn slots_are_counted_beside_the_others() {
        let mut spare = SpareSlots::new(Some(QueueName::new("q").unwrap()), 2);
        spare.take(7);
        spare.reserved = 1;
        assert_eq!((spare.free_after(0), spare.free_after(1)), (0, 1));
        assert_eq!((spare.has(1), spare.has(7), spare.taken()), (false, true, 1));
        assert!(spare.free_slot(7) && !spare.free_slot(7) && !spare.free_slot(1));
        spare.learn(0, 0, false);
        assert!(spare.may_have_tasks, "nothing was asked");
        spare.learn(2, 1, false);
        assert!(!spare.may_have_tasks);
        assert_eq!(SpareSlots::new(None, 2).free_after(0), 0);
    }
}
