//! Runs that were lost although this process is alive. The heartbeat reports them, so that none of them counts as a
//! crash.
//!
//! A lease can be lost in an outage of the broker, in a frozen process, with a verdict that could not be written. Only
//! the process itself knows that it did not die; the worker that takes its tasks back does not.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runner_queue::Claim;
use tokio::time::Instant;

/// Claims that are remembered; the oldest are forgotten first.
const MOST: usize = 10_000;

/// For how long: any worker that serves the queue has taken the run back by then, or none ever will.
const REMEMBERED: Duration = Duration::from_secs(600);

/// Claims reported in one call.
const BATCH: usize = 500;

/// Claims of this process that ended without a verdict that was accepted.
#[derive(Default)]
pub(super) struct Survived(Mutex<VecDeque<(Instant, Claim)>>);

impl Survived {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(Instant, Claim)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers these claims.
    pub(super) fn add(&self, claims: impl IntoIterator<Item = Claim>) {
        let now = Instant::now();
        let mut all = self.lock();
        all.extend(claims.into_iter().map(|claim| (now, claim)));
        let surplus = all.len().saturating_sub(MOST);
        all.drain(..surplus);
    }

    /// Copies of all claims.
    pub(super) fn claims(&self) -> Vec<Claim> {
        self.lock().iter().map(|(_, claim)| claim.clone()).collect()
    }

    /// Takes the oldest, those of one call at most.
    pub(super) fn take(&self) -> Vec<(Instant, Claim)> {
        let mut all = self.lock();
        all.retain(|(since, _)| since.elapsed() < REMEMBERED);
        let count = all.len().min(BATCH);
        all.drain(..count).collect()
    }

    /// What could not be reported goes to the end, so that the rest has its turn.
    pub(super) fn put_back(&self, some: impl IntoIterator<Item = (Instant, Claim)>) {
        self.lock().extend(some);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use runner_core::task::{QueueName, Task};
    use runner_queue::Claims as _;

    use super::*;
    use crate::worker::DEFAULT_LEASE;
    use crate::worker::tests::Scene;

    #[tokio::test]
    async fn the_oldest_are_reported_first_and_forgotten_after_a_while() {
        let scene = Scene::new().await;
        scene.put(Task::new("a")).await;
        let claimed = scene.broker.claim(&[QueueName::default()], 1, DEFAULT_LEASE).await;
        let claim = claimed.unwrap().remove(0);
        // The broker is done: from here on only this clock counts.
        tokio::time::pause();
        let survived = Survived::default();
        survived.add(std::iter::repeat_n(claim.clone(), BATCH));
        tokio::time::advance(Duration::from_secs(1)).await;
        survived.add([claim.clone()]);
        let first = survived.take();
        let began = first[0].0;
        assert!(first.len() == BATCH && first.iter().all(|(since, _)| *since == began));
        // What could not be reported waits behind the others, and keeps its age.
        survived.put_back(first);
        assert!(survived.take()[0].0 > began);
        tokio::time::advance(REMEMBERED).await;
        assert!(survived.take().is_empty());
        survived.add(std::iter::repeat_n(claim, MOST + BATCH));
        assert_eq!(survived.lock().len(), MOST);
    }
}
