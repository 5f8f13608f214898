//! How often the aggregator of a group failed in a row, and how long such a group is left alone.
//!
//! Kept in this process alone: what lies in the store is asynq's, which has no place for it. Other instances, and Go
//! servers, count for themselves; so a group that always fails is tried once a pause by each of them. Not here: how
//! long the tasks of one try are held, which is the deadline of their set.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runner_core::task::QueueName;
use tokio::time::Instant;

/// The pause after the second failure in a row; each further one doubles it. The first one has none: tasks that
/// joined since may be well.
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

/// What a failure makes of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupBackoff {
    /// Whether it made the row longer.
    pub another: bool,
    /// This one included.
    pub in_a_row: u32,
    /// How long the group is left alone from now on; no time after the first failure.
    pub pause: Duration,
}

impl GroupFailures {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, FailureCount>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the group is to be left alone now.
    pub(super) fn pauses(&self, queue: &QueueName, group: &str, now: Instant) -> bool {
        let all = self.lock();
        // Nearly always; and it saves the key.
        if all.is_empty() {
            return false;
        }
        let found = all.get(&(queue.clone(), group.to_owned()));
        found.is_some_and(|it| now.duration_since(it.last) < pause_after(it.in_a_row))
    }

    /// Its aggregator failed now with a set that was taken when it `began`. Sets that were in work together fail for
    /// one reason, and count once.
    pub(super) fn failed(&self, queue: &QueueName, group: &str, began: Instant, now: Instant) -> GroupBackoff {
        let key = (queue.clone(), group.to_owned());
        let mut all = self.lock();
        if all.len() >= MOST && !all.contains_key(&key) {
            let oldest = all.iter().min_by_key(|(_, it)| it.last).map(|(key, _)| key.clone());
            oldest.and_then(|key| all.remove(&key));
        }
        let setback = all.entry(key).or_insert(FailureCount {
            in_a_row: 0,
            last: began,
        });
        let another = began >= setback.last;
        if another {
            setback.in_a_row = setback.in_a_row.saturating_add(1);
            setback.last = now;
        }
        GroupBackoff {
            another,
            in_a_row: setback.in_a_row,
            pause: pause_after(setback.in_a_row),
        }
    }

    /// Its aggregator did well; how many failures in a row that ends.
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
    fn a_group_that_keeps_failing_is_left_alone_for_longer_and_longer() {
        let (setbacks, queue, mut now) = (GroupFailures::default(), QueueName::default(), Instant::now());
        let mut pauses = Vec::new();
        for times in 1..=8 {
            let again = setbacks.failed(&queue, "g", now, now);
            assert_eq!((again.another, again.in_a_row), (true, times));
            pauses.push(again.pause.as_secs() / 60);
            let almost = now + again.pause.saturating_sub(Duration::from_millis(1));
            assert_eq!(setbacks.pauses(&queue, "g", almost), times > 1);
            now += again.pause;
            assert!(!setbacks.pauses(&queue, "g", now), "{times}");
        }
        assert_eq!(pauses, [0, 4, 8, 16, 30, 30, 30, 30]);
        let endless = (0..100).map(|_| setbacks.failed(&queue, "g", now, now)).last();
        assert_eq!(endless.unwrap().pause, minutes(30));
    }

    #[test]
    fn a_success_ends_the_row_and_other_groups_have_rows_of_their_own() {
        let (setbacks, queue, now) = (GroupFailures::default(), QueueName::default(), Instant::now());
        let low = QueueName::new("low").unwrap();
        assert_eq!(setbacks.succeeded(&queue, "g"), 0);
        for _ in 0..2 {
            setbacks.failed(&queue, "g", now, now);
        }
        for (queue, group, paused) in [(&queue, "g", true), (&queue, "other", false), (&low, "g", false)] {
            assert_eq!(setbacks.pauses(queue, group, now), paused, "{queue} {group}");
            assert_eq!(setbacks.succeeded(queue, group), if paused { 2 } else { 0 });
        }
        assert!(!setbacks.pauses(&queue, "g", now));
        assert_eq!(setbacks.failed(&queue, "g", now, now).in_a_row, 1);
    }

    #[test]
    fn sets_that_were_in_work_together_count_once() {
        let (setbacks, queue, began) = (GroupFailures::default(), QueueName::default(), Instant::now());
        let later = |seconds| began + Duration::from_secs(seconds);
        let fail = |began, now| {
            let again = setbacks.failed(&queue, "g", began, now);
            (again.another, again.in_a_row)
        };
        assert_eq!(fail(began, later(2)), (true, 1));
        assert_eq!(fail(began, later(3)), (false, 1));
        assert_eq!(fail(later(1), later(4)), (false, 1));
        assert_eq!(fail(later(2), later(5)), (true, 2));
    }

    #[test]
    fn so_many_are_remembered_and_the_oldest_goes_first() {
        let (setbacks, queue, now) = (GroupFailures::default(), QueueName::default(), Instant::now());
        for n in 0..=MOST {
            let now = now + Duration::from_secs(n as u64);
            setbacks.failed(&queue, &n.to_string(), now, now);
        }
        assert_eq!(setbacks.lock().len(), MOST);
        assert_eq!(setbacks.succeeded(&queue, "0"), 0, "forgotten");
        assert_eq!(setbacks.succeeded(&queue, "1"), 1);
    }
}
