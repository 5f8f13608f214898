//! What this process has in work: the one table that the processor, the heartbeat and the canceller share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use runner_core::task::{QueueName, TaskId};
use runner_queue::{Claim, Working};
use runner_sdk::{Stop, StopReason};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// A task in work.
#[derive(Clone)]
pub(super) struct InWork {
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
    /// Drops the handler's future.
    pub abort: Option<AbortHandle>,
}

type Key = (QueueName, TaskId);

/// All tasks in work. The lock is held for look-ups only, never across an await.
#[derive(Default)]
pub(super) struct Board {
    tasks: Mutex<HashMap<Key, InWork>>,
    changed: Notify,
    broker_down: AtomicBool,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, InWork>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, in_work: InWork) {
        let task = in_work.claim.task();
        let key = (task.queue.clone(), task.id.clone());
        self.lock().insert(key, in_work);
    }

    pub(super) fn set_abort(&self, claim: &Claim, abort: AbortHandle) {
        let task = claim.task();
        if let Some(in_work) = self.lock().get_mut(&(task.queue.clone(), task.id.clone())) {
            in_work.abort = Some(abort);
        }
    }

    pub(super) fn remove(&self, claim: &Claim) {
        let task = claim.task();
        self.lock().remove(&(task.queue.clone(), task.id.clone()));
        self.changed.notify_waiters();
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
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

    pub(super) fn all(&self) -> Vec<InWork> {
        self.lock().values().cloned().collect()
    }

    pub(super) fn working(&self) -> Vec<Working> {
        let all = self.lock();
        let working = all.values().map(|w| {
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

    /// Notes that the lease of `claim` was extended in a call that began at `at`.
    pub(super) fn extended(&self, claim: &Claim, at: Instant) {
        let task = claim.task();
        if let Some(in_work) = self.lock().get_mut(&(task.queue.clone(), task.id.clone())) {
            in_work.extended_at = at;
        }
    }

    /// Whether `claim` was extended within the last `lease`.
    pub(super) fn holds(&self, claim: &Claim, lease: Duration) -> bool {
        let task = claim.task();
        let all = self.lock();
        all.get(&(task.queue.clone(), task.id.clone()))
            .is_some_and(|w| w.extended_at.elapsed() < lease)
    }

    /// Stops the handler of a claim that is not ours any more.
    pub(super) fn lost(&self, claim: &Claim) {
        let task = claim.task();
        if let Some(in_work) = self.lock().get(&(task.queue.clone(), task.id.clone()))
            && in_work.claim.run() == claim.run()
        {
            in_work.stop.stop(StopReason::LeaseLost);
        }
    }

    /// Stops the handlers whose lease was not extended for `limit`; how many are told for the first time.
    pub(super) fn stop_overdue(&self, limit: Duration) -> usize {
        let all = self.lock();
        let overdue = all
            .values()
            .filter(|w| w.extended_at.elapsed() >= limit && w.stop.reason().is_none());
        overdue.map(|w| w.stop.stop(StopReason::LeaseLost)).count()
    }

    /// Stops the handlers of every task with this id, whatever its queue; how many.
    pub(super) fn stop_id(&self, id: &TaskId, reason: StopReason) -> usize {
        let all = self.lock();
        let hit: Vec<_> = all.values().filter(|w| w.claim.task().id == *id).collect();
        hit.iter().for_each(|w| w.stop.stop(reason));
        hit.len()
    }

    pub(super) fn stop_all(&self, reason: StopReason) {
        self.lock().values().for_each(|w| w.stop.stop(reason));
    }

    /// Drops the futures of handlers that did not return when asked.
    pub(super) fn abandon_all(&self) {
        self.lock()
            .values()
            .filter_map(|w| w.abort.as_ref())
            .for_each(AbortHandle::abort);
    }

    /// Whether this is news.
    pub(super) fn broker_went_down(&self) -> bool {
        !self.broker_down.swap(true, Ordering::Relaxed)
    }

    /// Whether this is news.
    pub(super) fn broker_came_back(&self) -> bool {
        self.broker_down.load(Ordering::Relaxed) && self.broker_down.swap(false, Ordering::Relaxed)
    }
}
