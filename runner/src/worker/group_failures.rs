//! How often the aggregator of a group failed in a row, and how long such a group is skipped after that.
//!
//! In the memory of this process only: the keys of a group are asynq's, which have no field for it. Other instances,
//! and Go servers, count separately, so each of them tries a group that always fails once a pause. Not here: how long
//! the tasks of one try are held, which is the deadline of their set.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runner_core::task::QueueName;
use tokio::time::Instant;

/// The pause after the second failure in a row; each further one doubles it. The first one has none: it may have been
/// one of its tasks, and the next set has others.
const SHORTEST: Duration = Duration::from_secs(4 * 60);

/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// Groups that are remembered; beyond, the one that failed longest ago is forgotten.
const MOST: usize = 1000;

type Key = (QueueName, String);

#[derive(Debug, Clone, Copy)]
struct FailureCount {
    in_a_row: u32,
    last: Instant,
}

/// Failures of aggregators by group.
#[derive(Debug, Default)]
pub(super) struct GroupFailures(Mutex<HashMap<Key, FailureCount>>);

/// The consequences of a failure for its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupBackoff {
    /// Whether it counts as another failure in the row.
    pub another: bool,
    /// This one included.
    pub in_a_row: u32,
    /// How long the group is skipped from now on; zero after the first failure.
    pub pause: Duration,
}

impl GroupFailures {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, FailureCount>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the group is skipped now.
    pub(super) fn pauses(&self, queue: &QueueName, group: &str, now: Instant) -> bool {
        let all = self.lock();
        // The usual case: no aggregator fails, and no key has to be built.
        if all.is_empty() {
            return false;
        }
        let found = all.get(&(queue.clone(), group.to_owned()));
        found.is_some_and(|it| now.duration_since(it.last) < pause_after(it.in_a_row))
    }

    /// Its aggregator failed now with a set that was taken at `began`. Sets that were aggregated at the same time fail
    /// for one reason, and count once: those that began before the last failure was counted.
    pub(super) fn failed(&self, queue: &QueueName, group: &str, began: Instant, now: Instant) -> GroupBackoff {
        let key = (queue.clone(), group.to_owned());
        let mut all = self.lock();
        if all.len() >= MOST && !all.contains_key(&key) {
            let oldest = all.iter().min_by_key(|(_, it)| it.last).map(|(key, _)| key.clone());
            oldest.and_then(|key| all.remove(&key));
        }
        let count = all.entry(key).or_insert(FailureCount {
            in_a_row: 0,
            last: began,
        });
        let another = began >= count.last;
        if another {
            count.in_a_row = count.in_a_row.saturating_add(1);
            count.last = now;
        }
        GroupBackoff {
            another,
            in_a_row: count.in_a_row,
            pause: pause_after(count.in_a_row),
        }
    }

    /// Its aggregator succeeded; how many failures in a row that ends.
    pub(super) fn succeeded(&self, queue: &QueueName, group: &str) -> u32 {
        let mut all = self.lock();
        if all.is_empty() {
            return 0;
        }
        let ended = all.remove(&(queue.clone(), group.to_owned()));
        ended.map_or(0, |it| it.in_a_row)
    }
}

fn pause_after(in_a_row: u32) -> Duration {
    match in_a_row.checked_sub(2) {
        None => Duration::ZERO,
        Some(doublings) => SHORTEST.saturating_mul(1 << doublings.min(10)).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn minutes(n: u64) -> Duration {
        Duration::from_secs(60 * n)
    }

    #[test]
    fn a_group_that_keeps_failing_is_left_out_for_longer_and_longer() {
        let (failures, queue, mut now) = (GroupFailures::default(), QueueName::default(), Instant::now());
        let mut pauses = Vec::new();
        for times in 1..=8 {
            let again = failures.failed(&queue, "g", now, now);
            assert_eq!((again.another, again.in_a_row), (true, times));
            pauses.push(again.pause.as_secs() / 60);
            let almost = now + again.pause.saturating_sub(Duration::from_millis(1));
            assert_eq!(failures.pauses(&queue, "g", almost), times > 1);
            now += again.pause;
            assert!(!failures.pauses(&queue, "g", now), "{times}");
        }
        assert_eq!(pauses, [0, 4, 8, 16, 30, 30, 30, 30]);
        let endless = (0..100).map(|_| failures.failed(&queue, "g", now, now)).last();
        assert_eq!(endless.unwrap().pause, minutes(30));
    }

    #[test]
    fn a_success_ends_the_row_and_other_groups_have_rows_of_their_own() {
        let (failures, queue, now) = (GroupFailures::default(), QueueName::default(), Instant::now());
        let low = QueueName::new("low").unwrap();
        assert_eq!(failures.succeeded(&queue, "g"), 0);
        for _ in 0..2 {
            failures.failed(&queue, "g", now, now);
        }
        for (queue, group, paused) in [(&queue, "g", true), (&queue, "other", false), (&low, "g", false)] {
            assert_eq!(failures.pauses(queue, group, now), paused, "{queue} {group}");
            assert_eq!(failures.succeeded(queue, group), if paused { 2 } else { 0 });
        }
        assert!(!failures.pauses(&queue, "g", now));
        assert_eq!(failures.failed(&queue, "g", now, now).in_a_row, 1);
    }

    #[test]
    fn sets_that_were_put_together_at_once_count_once() {
        let (failures, queue, began) = (GroupFailures::default(), QueueName::default(), Instant::now());
        let later = |seconds| began + Duration::from_secs(seconds);
        let fail = |began, now| {
            let again = failures.failed(&queue, "g", began, now);
            (again.another, again.in_a_row)
        };
        assert_eq!(fail(began, later(2)), (true, 1));
        assert_eq!(fail(began, later(3)), (false, 1));
        assert_eq!(fail(later(1), later(4)), (false, 1));
        assert_eq!(fail(later(2), later(5)), (true, 2));
    }

    #[test]
    fn the_number_of_groups_is_bounded_and_the_oldest_goes_first() {
        let (failures, queue, now) = (GroupFailures::default(), QueueName::default(), Instant::now());
        for n in 0..=MOST {
            let now = now + Duration::from_secs(n as u64);
            failures.failed(&queue, &n.to_string(), now, now);
        }
        assert_eq!(failures.lock().len(), MOST);
        assert_eq!(failures.succeeded(&queue, "0"), 0, "forgotten");
        assert_eq!(failures.succeeded(&queue, "1"), 1);
    }
}
