//! What this process has in work: the one table that the processor, the heartbeat and the canceller share.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use runner_core::task::{QueueName, TaskId};
use runner_queue::{Claim, StopRequest, Working};
use runner_sdk::{LeaseLimits, Stop, StopReason};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A task in work.
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

/// Where a task in work stands on the board. Given out anew once it is free.
pub(super) type Slot = usize;

#[derive(Default)]
struct Slots {
    tasks: Vec<Option<InFlightTask>>,
    free: Vec<Slot>,
}

/// What a claim is known by.
fn key_of(claim: &Claim) -> (&QueueName, &TaskId, u64) {
    (&claim.task().queue, &claim.task().id, claim.run())
}

/// All tasks in work. The lock is held for look-ups only, never across an await.
#[derive(Default)]
pub(super) struct InFlight {
    places: Mutex<Slots>,
    changed: Notify,
    /// Falls when handlers that did not return when asked are to be dropped.
    abandoned: CancellationToken,
}

impl Slots {
    fn all(&self) -> impl Iterator<Item = (Slot, &InFlightTask)> {
        let places = self.tasks.iter().enumerate();
        places.filter_map(|(place, task)| Some((place, task.as_ref()?)))
    }

    /// The task at this place, if it still is the one of this claim.
    fn of(&mut self, place: Slot, claim: &Claim) -> Option<&mut InFlightTask> {
        let task = self.tasks.get_mut(place)?.as_mut()?;
        let same = task.claim.run() == claim.run() && task.claim.task().id == claim.task().id;
        same.then_some(task)
    }
}

impl InFlight {
    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes tasks down; their places, in order.
    pub(super) fn add(&self, tasks: impl IntoIterator<Item = InFlightTask>) -> Vec<Slot> {
        let mut places = self.lock();
        let tasks = tasks.into_iter().map(|task| match places.free.pop() {
            Some(place) => {
                places.tasks[place] = Some(task);
                place
            }
            None => {
                places.tasks.push(Some(task));
                places.tasks.len() - 1
            }
        });
        tasks.collect()
    }

    /// The claims at these places.
    pub(super) fn claims_at(&self, places: &[Slot]) -> Vec<Claim> {
        let all = self.lock();
        let tasks = places.iter().filter_map(|place| all.tasks.get(*place)?.as_ref());
        tasks.map(|task| task.claim.clone()).collect()
    }

    /// Frees places, each of which holds a task.
    pub(super) fn remove(&self, gone: impl IntoIterator<Item = Slot>) {
        let mut places = self.lock();
        for place in gone {
            if places.tasks.get_mut(place).is_some_and(|task| task.take().is_some()) {
                places.free.push(place);
            }
        }
        drop(places);
        self.changed.notify_waiters();
    }

    pub(super) fn len(&self) -> usize {
        let places = self.lock();
        places.tasks.len() - places.free.len()
    }

    /// Returns once nothing is in work.
    pub(super) async fn emptied(&self) {
        loop {
            // Registered before the look, so that a removal between the two is not missed.
            let changed = self.changed.notified();
            if self.len() == 0 {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn all(&self) -> Vec<(Slot, InFlightTask)> {
        let places = self.lock();
        places.all().map(|(place, task)| (place, task.clone())).collect()
    }

    /// Those of `claims` that are not in work here.
    pub(super) fn without_known(&self, claims: Vec<Claim>) -> Vec<Claim> {
        let slots = self.lock();
        let known: HashSet<(&QueueName, &TaskId, u64)> = slots.all().map(|(_, task)| key_of(&task.claim)).collect();
        claims
            .into_iter()
            .filter(|claim| !known.contains(&key_of(claim)))
            .collect()
    }

    pub(super) fn working(&self) -> Vec<Working> {
        let places = self.lock();
        let working = places.all().map(|(_, w)| {
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

    /// Notes that the lease of `claim` was extended in a call that began at `at`, and how long it may go on now.
    pub(super) fn extended(&self, place: Slot, claim: &Claim, at: Instant, hold: LeaseLimits) {
        if let Some(task) = self.lock().of(place, claim) {
            task.extended_at = at;
            task.stop.hold(hold);
        }
    }

    /// Whether `claim` was extended within the last `lease`.
    pub(super) fn holds(&self, place: Slot, claim: &Claim, lease: Duration) -> bool {
        let mut places = self.lock();
        places.of(place, claim).is_some_and(|w| w.extended_at.elapsed() < lease)
    }

    /// Whether the lease of a handler that was not told so was not extended for `limit`.
    pub(super) fn is_overdue(&self, limit: Duration) -> bool {
        let places = self.lock();
        let overdue = |w: &InFlightTask| w.extended_at.elapsed() >= limit && !w.stop.is_lease_lost();
        places.all().any(|(_, w)| overdue(w))
    }

    /// No other worker can have taken these tasks until now: their leases are as good as extended, but no longer than until the
    /// next look.
    pub(super) fn hold_overdue(&self, limit: Duration, next_look: Duration, hold: LeaseLimits) {
        let just_now = limit.saturating_sub(next_look);
        for task in self.lock().tasks.iter_mut().flatten() {
            if task.extended_at.elapsed() > just_now {
                // A clock that began less than a lease ago has no such instant, and nothing overdue either.
                task.extended_at = Instant::now().checked_sub(just_now).unwrap_or(task.extended_at);
                task.stop.hold(hold);
            }
        }
    }

    /// Stops the handlers whose lease was not extended for `limit`, those too that were told to stop for another
    /// reason; how many hear of it for the first time.
    pub(super) fn stop_overdue(&self, limit: Duration) -> usize {
        let places = self.lock();
        let overdue = places
            .all()
            .filter(|(_, w)| w.extended_at.elapsed() >= limit && !w.stop.is_lease_lost());
        overdue.map(|(_, w)| w.stop.stop(StopReason::LeaseLost)).count()
    }

    /// Stops the handler of a claim that is not ours any more.
    pub(super) fn lost(&self, place: Slot, claim: &Claim) {
        if let Some(task) = self.lock().of(place, claim) {
            task.stop.stop(StopReason::LeaseLost);
        }
    }

    /// Stops the handlers of the tasks that are meant; how many.
    pub(super) fn stop_wanted(&self, wanted: &StopRequest) -> usize {
        let places = self.lock();
        let meant = |w: &InFlightTask| {
            let task = w.claim.task();
            task.id == wanted.id && wanted.queue.as_ref().is_none_or(|queue| *queue == task.queue)
        };
        let hit: Vec<_> = places.all().filter(|(_, w)| meant(w)).collect();
        for (_, w) in &hit {
            match &wanted.for_good {
                Some(words) => w.stop.end(words.clone()),
                None => w.stop.stop(StopReason::Cancelled),
            }
        }
        hit.len()
    }

    pub(super) fn stop_all(&self, reason: StopReason) {
        self.lock().all().for_each(|(_, w)| w.stop.stop(reason));
    }

    /// Drops the futures of handlers that did not return when asked.
    pub(super) fn abandon_all(&self) {
        self.abandoned.cancel();
    }

    /// Returns once handlers are to be dropped.
    pub(super) async fn abandoned(&self) {
        self.abandoned.cancelled().await;
    }
}
