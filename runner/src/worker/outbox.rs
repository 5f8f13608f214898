//! Where attempts leave what came of them until the processor takes it to the broker.
//!
//! Bounded by the worker's slots: each attempt leaves one thing, and keeps its slot until that is written.

use std::sync::{Mutex, MutexGuard, PoisonError};

use runner_queue::Settlement;
use tokio::sync::Notify;

use super::in_flight::Slot;

/// An attempt that is over. Without a settlement nothing may be written: its lease was lost.
pub(super) struct EndedAttempt {
    pub place: Slot,
    pub settlement: Option<Settlement>,
    /// Whether its handler was done as soon as it was called.
    pub at_once: bool,
}

/// The attempts that ended since somebody looked.
#[derive(Default)]
pub(super) struct Outbox {
    all: Mutex<Vec<EndedAttempt>>,
    some: Notify,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Vec<EndedAttempt>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, ended: EndedAttempt) {
        let mut all = self.lock();
        let first = all.is_empty();
        all.push(ended);
        drop(all);
        if first {
            self.some.notify_one();
        }
    }

    /// Takes everything there is, in the order in which it ended.
    pub(super) fn take(&self) -> Vec<EndedAttempt> {
        std::mem::take(&mut *self.lock())
    }

    /// Returns when something ended since the last time.
    pub(super) async fn changed(&self) {
        self.some.notified().await;
    }
}

/// The promise of an attempt to leave something here. If it breaks down, it leaves that nothing may be written,
/// so that its slot is not lost.
pub(super) struct OutboxGuard<'a> {
    tray: &'a Outbox,
    place: Option<Slot>,
}

impl<'a> OutboxGuard<'a> {
    pub(super) fn new(tray: &'a Outbox, place: Slot) -> Self {
        let place = Some(place);
        Self { tray, place }
    }

    pub(super) fn post(mut self, settlement: Option<Settlement>, at_once: bool) {
        if let Some(place) = self.place.take() {
            self.tray.put(EndedAttempt {
                place,
                settlement,
                at_once,
            });
        }
    }
}

impl Drop for OutboxGuard<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            tracing::error!("an attempt broke down; its task is taken back when its lease ends");
            self.tray.put(EndedAttempt {
                place,
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
    async fn an_attempt_that_breaks_down_gives_its_place_back() {
        let tray = Outbox::default();
        OutboxGuard::new(&tray, 3).post(None, false);
        drop(OutboxGuard::new(&tray, 4));
        tray.changed().await;
        let places: Vec<_> = tray.take().iter().map(|e| e.place).collect();
        assert_eq!(places, [3, 4]);
        assert!(tray.take().is_empty());
    }
}
