//! The table of tasks in flight: those that this process has claimed and whose verdicts are not written yet.
//!
//! Only the claim loop adds and removes entries. The heartbeat extends leases and notes that here, the watchdog and the
//! canceller stop handlers, a drain waits for the table to be empty.
//!
//! A slot is reused as soon as it is free, and the heartbeat works on copies while calls to the broker are under way.
//! So callers that return with a slot also name the claim; an answer about a task that has left its slot changes
//! nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use runner_queue::{Claim, StopRequest, Working};
use runner_sdk::{LeaseLimits, Stop, StopReason};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A task in flight.
#[derive(Clone)]
pub(super) struct InFlightTask {
    /// The claim it runs under.
    pub claim: Claim,
    /// How to stop its handler.
    pub stop: Stop,
    /// When it was taken.
    pub started_at: Timestamp,
    /// When the attempt must end.
    pub deadline: Timestamp,
    /// When its lease was last known to be extended, by the monotonic clock.
    pub extended_at: Instant,
}

/// The index of a task in the table. Reused once it is free.
pub(super) type Slot = usize;

#[derive(Default)]
struct SlotTable {
    tasks: Vec<Option<InFlightTask>>,
    free: Vec<Slot>,
}

/// All tasks in flight. The lock is held for look-ups only, never across an await.
#[derive(Default)]
pub(super) struct InFlight {
    slots: Mutex<SlotTable>,
    /// Notified by each removal.
    changed: Notify,
    /// Cancelled once handlers that ignore their stop must be dropped.
    abandoned: CancellationToken,
}

impl SlotTable {
    fn all(&self) -> impl Iterator<Item = (Slot, &InFlightTask)> {
        let slots = self.tasks.iter().enumerate();
        slots.filter_map(|(slot, task)| Some((slot, task.as_ref()?)))
    }

    /// The task in this slot, if it still is the one of this claim. The run number tells two claims of one task apart.
    fn of(&mut self, slot: Slot, claim: &Claim) -> Option<&mut InFlightTask> {
        let task = self.tasks.get_mut(slot)?.as_mut()?;
        let same = task.claim.run() == claim.run() && task.claim.task().id == claim.task().id;
        same.then_some(task)
    }
}

impl InFlight {
    fn lock(&self) -> MutexGuard<'_, SlotTable> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives each task a slot; returns these in order.
    pub(super) fn add(&self, tasks: impl IntoIterator<Item = InFlightTask>) -> Vec<Slot> {
        let mut slots = self.lock();
        let tasks = tasks.into_iter().map(|task| match slots.free.pop() {
            Some(slot) => {
                slots.tasks[slot] = Some(task);
                slot
            }
            None => {
                slots.tasks.push(Some(task));
                slots.tasks.len() - 1
            }
        });
        tasks.collect()
    }

    /// The claims in these slots.
    pub(super) fn claims_at(&self, slots: &[Slot]) -> Vec<Claim> {
        let all = self.lock();
        let tasks = slots.iter().filter_map(|slot| all.tasks.get(*slot)?.as_ref());
        tasks.map(|task| task.claim.clone()).collect()
    }

    /// Frees slots, each of which holds a task.
    pub(super) fn remove(&self, gone: impl IntoIterator<Item = Slot>) {
        let mut slots = self.lock();
        for slot in gone {
            // Only if a task was there: a slot that is listed as free twice would be given to two tasks.
            if slots.tasks.get_mut(slot).is_some_and(|task| task.take().is_some()) {
                slots.free.push(slot);
            }
        }
        drop(slots);
        self.changed.notify_waiters();
    }

    /// How many tasks are in flight.
    pub(super) fn len(&self) -> usize {
        let slots = self.lock();
        slots.tasks.len() - slots.free.len()
    }

    /// Returns once no task is in flight.
    pub(super) async fn emptied(&self) {
        loop {
            // Registered before the look: a removal between the two would otherwise be missed, and this would wait
            // forever.
            let changed = self.changed.notified();
            if self.len() == 0 {
                return;
            }
            changed.await;
        }
    }

    /// Copies of all tasks: calls to the broker about them must not hold the lock.
    pub(super) fn all(&self) -> Vec<(Slot, InFlightTask)> {
        let slots = self.lock();
        slots.all().map(|(slot, task)| (slot, task.clone())).collect()
    }

    /// All claims.
    pub(super) fn claims(&self) -> Vec<Claim> {
        let slots = self.lock();
        slots.all().map(|(_, task)| task.claim.clone()).collect()
    }

    /// All tasks as the broker lists them.
    pub(super) fn working(&self) -> Vec<Working> {
        let slots = self.lock();
        let working = slots.all().map(|(_, w)| {
            let task = w.claim.task();
            Working {
                id: task.id.clone(),
                kind: task.kind.clone(),
                queue: task.queue.clone(),
                started_at: w.started_at,
                deadline: w.deadline,
            }
        });
        working.collect()
    }

    /// Notes that the lease of `claim` was extended in a call that began at `at`, and how long its handler may run on
    /// now. The beginning counts: when the broker wrote the lease is not known.
    pub(super) fn extended(&self, slot: Slot, claim: &Claim, at: Instant, hold: LeaseLimits) {
        if let Some(task) = self.lock().of(slot, claim) {
            task.extended_at = at;
            task.stop.hold(hold);
        }
    }

    /// Whether `claim` was extended within the last `lease`.
    pub(super) fn holds(&self, slot: Slot, claim: &Claim, lease: Duration) -> bool {
        let mut slots = self.lock();
        slots.of(slot, claim).is_some_and(|w| w.extended_at.elapsed() < lease)
    }

    /// Whether a lease was not extended for `limit` and its handler has not been stopped for that yet.
    pub(super) fn is_overdue(&self, limit: Duration) -> bool {
        let slots = self.lock();
        let overdue = |w: &InFlightTask| w.extended_at.elapsed() >= limit && !w.stop.is_lease_lost();
        slots.all().any(|(_, w)| overdue(w))
    }

    /// Lets handlers run on whose leases were not extended for `limit`, or will not have been at the next look: no
    /// other worker can have taken their tasks until now. Only until the next look, as another worker may have started
    /// by then.
    pub(super) fn hold_overdue(&self, limit: Duration, next_look: Duration, hold: LeaseLimits) {
        // Set back to just under the limit instead of to now: without another look they are overdue by the next one.
        let just_now = limit.saturating_sub(next_look);
        for task in self.lock().tasks.iter_mut().flatten() {
            if task.extended_at.elapsed() > just_now {
                // A clock that began less than a lease ago has no such instant, and nothing is overdue then.
                task.extended_at = Instant::now().checked_sub(just_now).unwrap_or(task.extended_at);
                task.stop.hold(hold);
            }
        }
    }

    /// Stops the handlers whose lease was not extended for `limit`, even if they were stopped for another reason: a
    /// lost lease leaves them less time. Returns their number; each counts once.
    pub(super) fn stop_overdue(&self, limit: Duration) -> usize {
        let slots = self.lock();
        let overdue = slots
            .all()
            .filter(|(_, w)| w.extended_at.elapsed() >= limit && !w.stop.is_lease_lost());
        overdue.map(|(_, w)| w.stop.stop(StopReason::LeaseLost)).count()
    }

    /// Stops the handler of a claim that the broker says is lost.
    pub(super) fn lost(&self, slot: Slot, claim: &Claim) {
        if let Some(task) = self.lock().of(slot, claim) {
            task.stop.stop(StopReason::LeaseLost);
        }
    }

    /// Stops the handlers of the tasks that the request names. Returns their number.
    pub(super) fn stop_wanted(&self, wanted: &StopRequest) -> usize {
        let slots = self.lock();
        let is_named = |w: &InFlightTask| {
            let task = w.claim.task();
            task.id == wanted.id && wanted.queue.as_ref().is_none_or(|queue| *queue == task.queue)
        };
        let hit: Vec<_> = slots.all().filter(|(_, w)| is_named(w)).collect();
        for (_, w) in &hit {
            match &wanted.for_good {
                Some(reason) => w.stop.end(reason.clone()),
                None => w.stop.stop(StopReason::Cancelled),
            }
        }
        hit.len()
    }

    /// Stops all handlers.
    pub(super) fn stop_all(&self, reason: StopReason) {
        self.lock().all().for_each(|(_, w)| w.stop.stop(reason));
    }

    /// Has handlers dropped that ignore their stop.
    pub(super) fn abandon_all(&self) {
        self.abandoned.cancel();
    }

    /// Returns once handlers must be dropped.
    pub(super) async fn abandoned(&self) {
        self.abandoned.cancelled().await;
    }
}

#[cfg(test)]
#[path = "in_flight_tests.rs"]
mod tests;
