//! How the backlog of each queue changes while the page is open, and when it will be gone at that rate.
//!
//! From what this process has seen within minutes; nothing is stored.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use runner_core::task::{QueueName, TaskState};
use runner_queue::QueueInfo;

/// BacklogSamples are kept for this long.
const KEPT_FOR: Duration = Duration::from_secs(300);
/// The shortest time between two looks that are kept, and the shortest over which a change says anything.
const APART: Duration = Duration::from_secs(15);
/// Queues that are watched, the last ones that were looked at.
const QUEUES: usize = 1_000;

/// Where a backlog is going.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forecast {
    /// Gone after this time.
    Drains(Duration),
    /// This many more an hour.
    Grows(u64),
    /// It stays as it is.
    Steady,
}

/// Numbers of pending tasks, with when they were seen.
type BacklogSamples = VecDeque<(Timestamp, u64)>;

/// What was seen lately.
#[derive(Default)]
pub(super) struct Backlogs(Mutex<HashMap<QueueName, BacklogSamples>>);

impl Backlogs {
    /// Notes what was just seen of queues, and says where their backlogs are going, in the same order; `None` for a queue
    /// without one, or of which too little is known.
    pub(super) fn look(&self, now: Timestamp, queues: &[QueueInfo]) -> Vec<Option<Forecast>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() > QUEUES {
            kept.retain(|_, looks| looks.back().is_some_and(|(at, _)| age(*at, now) < KEPT_FOR));
        }
        let room = kept.len() <= QUEUES;
        let each = queues.iter().map(|queue| {
            let pending = queue.counts.get(&TaskState::Pending).copied().unwrap_or_default();
            if !room && !kept.contains_key(&queue.name) {
                return None;
            }
            look(kept.entry(queue.name.clone()).or_default(), now, pending)
        });
        each.collect()
    }
}

fn age(at: Timestamp, now: Timestamp) -> Duration {
    now.duration_since(at).unsigned_abs()
}

fn look(looks: &mut BacklogSamples, now: Timestamp, pending: u64) -> Option<Forecast> {
    looks.retain(|(at, _)| age(*at, now) < KEPT_FOR);
    let first = looks.front().copied();
    if looks.back().is_none_or(|(at, _)| age(*at, now) >= APART) {
        looks.push_back((now, pending));
    }
    let (since, before) = first.filter(|(at, _)| pending > 0 && age(*at, now) >= APART)?;
    Some(forecast(before, pending, age(since, now)))
}

fn forecast(before: u64, now: u64, took: Duration) -> Forecast {
    let change = before.abs_diff(now);
    // Less than a hundredth is noise.
    if change < 2 || change < before.max(now) / 100 {
        return Forecast::Steady;
    }
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    if before > now {
        let left = u128::from(now) * u128::from(ms) / u128::from(change);
        return Forecast::Drains(Duration::from_millis(u64::try_from(left).unwrap_or(u64::MAX)));
    }
    let an_hour = u128::from(change) * 3_600_000 / u128::from(ms);
    Forecast::Grows(u64::try_from(an_hour).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn after(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_backlog_that_shrinks_is_gone_at_that_rate() {
        let mut looks = BacklogSamples::default();
        assert_eq!(look(&mut looks, after(0), 1_000), None);
        assert_eq!(look(&mut looks, after(5), 900), None, "too soon");
        assert_eq!(
            look(&mut looks, after(60), 400),
            Some(Forecast::Drains(Duration::from_secs(40)))
        );
        assert_eq!(look(&mut looks, after(90), 0), None);
        assert_eq!(looks.len(), 3);
        // What is old does not count.
        assert_eq!(look(&mut looks, after(1_000), 5), None);
        assert_eq!(look(&mut looks, after(1_060), 65), Some(Forecast::Grows(3_600)));
    }

    #[test]
    fn small_changes_are_noise() {
        for (before, now) in [(10_000, 10_050), (5, 6), (7, 7)] {
            assert_eq!(forecast(before, now, APART), Forecast::Steady);
        }
        assert_eq!(forecast(u64::MAX, 1, APART), Forecast::Drains(Duration::ZERO));
        assert_eq!(
            forecast(0, u64::MAX, Duration::from_millis(1)),
            Forecast::Grows(u64::MAX)
        );
    }

    #[test]
    fn looks_are_bounded() {
        let mut looks = BacklogSamples::default();
        for second in 0..5_000 {
            look(&mut looks, after(second), 3);
        }
        assert!(looks.len() <= 21, "{}", looks.len());
    }
}
