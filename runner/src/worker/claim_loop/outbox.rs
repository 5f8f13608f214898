//! Where spawned attempts leave their settlements until the claim loop collects them.
//!
//! Bounded by the worker's slots: each attempt leaves one settlement, and its slot is taken until that is written.

use std::sync::{Mutex, MutexGuard, PoisonError};

use runner_queue::Settlement;
use tokio::sync::Notify;

use crate::worker::in_flight::Slot;

/// An attempt that is over. Without a settlement nothing may be written: its lease was lost.
pub(super) struct EndedAttempt {
    pub slot: Slot,
    pub settlement: Option<Settlement>,
    /// Whether its handler returned as soon as it was called.
    pub at_once: bool,
}

/// The attempts that ended since the loop last looked.
#[derive(Default)]
pub(super) struct Outbox {
    all: Mutex<Vec<EndedAttempt>>,
    /// Notified by the first entry only: the loop takes all of them.
    filled: Notify,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Vec<EndedAttempt>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, ended: EndedAttempt) {
        let mut all = self.lock();
        let first = all.is_empty();
        all.push(ended);
        // Unlock first: the woken loop would otherwise wait for the lock at once.
        drop(all);
        if first {
            self.filled.notify_one();
        }
    }

    /// Takes all of them, in the order in which they ended.
    pub(super) fn take(&self) -> Vec<EndedAttempt> {
        std::mem::take(&mut *self.lock())
    }

    /// Returns when an attempt ended since the last time. A notification is stored, so none is missed between two
    /// waits.
    pub(super) async fn changed(&self) {
        self.filled.notified().await;
    }
}

/// The duty of an attempt to leave something here. If it panics or is dropped, it leaves that nothing may be written:
/// otherwise its slot would stay taken forever, and a drain would wait for it.
pub(super) struct OutboxGuard<'a> {
    outbox: &'a Outbox,
    slot: Option<Slot>,
}

impl<'a> OutboxGuard<'a> {
    pub(super) fn new(outbox: &'a Outbox, slot: Slot) -> Self {
        let slot = Some(slot);
        Self { outbox, slot }
    }

    pub(super) fn post(mut self, settlement: Option<Settlement>, at_once: bool) {
        if let Some(slot) = self.slot.take() {
            self.outbox.put(EndedAttempt {
                slot,
                settlement,
                at_once,
            });
        }
    }
}

impl Drop for OutboxGuard<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            tracing::error!("an attempt panicked or was dropped; its task is taken back when its lease ends");
            self.outbox.put(EndedAttempt {
                slot,
                settlement: None,
                at_once: false,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_attempt_that_breaks_down_gives_its_slot_back() {
        let outbox = Outbox::default();
        OutboxGuard::new(&outbox, 3).post(None, false);
        drop(OutboxGuard::new(&outbox, 4));
        outbox.changed().await;
        let slots: Vec<_> = outbox.take().iter().map(|ended| ended.slot).collect();
        assert_eq!(slots, [3, 4]);
        assert!(outbox.take().is_empty());
    }
}
