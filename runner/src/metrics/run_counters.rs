//! Counts how runs end, how long they take and how long their tasks waited since the last look, for each queue and type: what is added to the store every
//! few seconds. Not what `/metrics` shows.
//!
//! A success costs two additions for its queue and one for its type, to cells that their callers already hold.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use runner_core::task::{AttemptOutcome, RUN_TIME_BUCKETS, RunCounts, RunSeries, run_time_bucket};

/// Queues of this process that are counted each for itself; those beyond are in the total only.
const QUEUES: usize = 500;

/// The same of task types.
pub(super) const TYPES: usize = 200;

/// What a run counts as; `None` for one that did not end its attempt: it continues later.
fn failed(outcome: AttemptOutcome) -> Option<bool> {
    match outcome {
        AttemptOutcome::Success | AttemptOutcome::Revoked => Some(false),
        AttemptOutcome::Retry | AttemptOutcome::Archived | AttemptOutcome::Cancelled | AttemptOutcome::Lost => {
            Some(true)
        }
        AttemptOutcome::Snoozed | AttemptOutcome::Requeued | AttemptOutcome::NoHandler | AttemptOutcome::Unknown => {
            None
        }
    }
}

/// The counts of one queue or type since the last look.
#[derive(Debug, Default)]
pub(super) struct RunCell {
    took: [AtomicU64; RUN_TIME_BUCKETS],
    waited: [AtomicU64; RUN_TIME_BUCKETS],
    failed: AtomicU64,
    /// Failed without a known run time.
    lost: AtomicU64,
}

impl RunCell {
    /// A run succeeded.
    pub(super) fn success(&self, took: Duration) {
        if let Some(bucket) = self.took.get(run_time_bucket(took)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A run begins. `length`: how long its task was pending.
    pub(super) fn waited(&self, length: Duration) {
        if let Some(bucket) = self.waited.get(run_time_bucket(length)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A run ended in any way.
    pub(super) fn ended(&self, outcome: AttemptOutcome, took: Duration) {
        let Some(failed) = failed(outcome) else {
            return;
        };
        // Before the run time: a look between the two must not count a failure as done.
        if failed {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        self.success(took);
    }

    fn take(&self) -> RunCounts {
        let mut counts = RunCounts::default();
        let buckets = self.took.iter().chain(&self.waited);
        for (n, bucket) in counts.took.iter_mut().chain(&mut counts.waited).zip(buckets) {
            // Nearly all are zero: a read leaves the others' caches alone.
            if bucket.load(Ordering::Relaxed) > 0 {
                *n = bucket.swap(0, Ordering::Relaxed);
            }
        }
        let timed: u64 = counts.took.iter().sum();
        let failed = self.failed.swap(0, Ordering::Relaxed);
        counts.done = timed.saturating_sub(failed);
        // One whose run time is counted at the next look.
        self.failed.fetch_add(failed.saturating_sub(timed), Ordering::Relaxed);
        counts.failed = failed.min(timed) + self.lost.swap(0, Ordering::Relaxed);
        counts
    }
}

type Cells = RwLock<HashMap<String, Arc<RunCell>>>;

/// The cells of all queues and types.
#[derive(Debug, Default)]
pub(super) struct RunCounters {
    queues: Cells,
    types: Cells,
    /// Of all queues beyond the bound.
    others: Arc<RunCell>,
}

/// The cell under a name, made if there is room.
fn cell(cells: &Cells, name: &str, most: usize) -> Option<Arc<RunCell>> {
    if let Some(known) = cells.read().unwrap_or_else(PoisonError::into_inner).get(name) {
        return Some(Arc::clone(known));
    }
    let mut cells = cells.write().unwrap_or_else(PoisonError::into_inner);
    if cells.len() >= most && !cells.contains_key(name) {
        return None;
    }
    Some(Arc::clone(cells.entry(name.to_owned()).or_default()))
}

impl RunCounters {
    /// The cell of a queue; beyond the bound one that many share.
    pub(super) fn queue(&self, name: &str) -> Arc<RunCell> {
        cell(&self.queues, name, QUEUES).unwrap_or_else(|| Arc::clone(&self.others))
    }

    /// The cell of a type; beyond the bound one that is not read.
    pub(super) fn of_type(&self, name: &str) -> Arc<RunCell> {
        cell(&self.types, name, TYPES).unwrap_or_default()
    }

    /// A run of this queue ended without a report.
    pub(super) fn lost(&self, queue: &str) {
        self.queue(queue).lost.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted since the last look, the total included; nothing if nothing ended.
    pub(super) fn take(&self) -> Vec<(RunSeries, RunCounts)> {
        let taken = |cells: &Cells, series: fn(String) -> RunSeries| -> Vec<(RunSeries, RunCounts)> {
            let cells = cells.read().unwrap_or_else(PoisonError::into_inner);
            let each = cells.iter().map(|(name, cell)| (name, cell.take()));
            let each = each.filter(|(_, counts)| !counts.is_empty());
            each.map(|(name, counts)| (series(name.clone()), counts)).collect()
        };
        let queues = taken(&self.queues, RunSeries::Queue);
        let mut total = self.others.take();
        for (_, counts) in &queues {
            total.add(counts);
        }
        if total.is_empty() {
            return Vec::new();
        }
        let types = taken(&self.types, RunSeries::Type);
        [(RunSeries::All, total)]
            .into_iter()
            .chain(queues)
            .chain(types)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_was_counted_is_taken_once() {
        let counters = RunCounters::default();
        assert_eq!(counters.take(), []);
        let (mail, kind) = (counters.queue("mail"), counters.of_type("mail:send"));
        for cell in [&mail, &kind] {
            cell.success(MS);
            cell.ended(AttemptOutcome::Retry, MS * 3);
            cell.ended(AttemptOutcome::Revoked, MS);
            cell.ended(AttemptOutcome::Snoozed, MS);
        }
        counters.lost("mail");
        let taken = counters.take();
        let names: Vec<&RunSeries> = taken.iter().map(|(series, _)| series).collect();
        let queue = RunSeries::Queue("mail".to_owned());
        assert_eq!(
            names,
            [&RunSeries::All, &queue, &RunSeries::Type("mail:send".to_owned())]
        );
        let sums: Vec<_> = taken
            .iter()
            .map(|(_, n)| (n.done, n.failed, n.took[1], n.took[2]))
            .collect();
        assert_eq!(sums, [(2, 2, 2, 1), (2, 2, 2, 1), (2, 1, 2, 1)]);
        assert_eq!(counters.take(), []);
    }

    #[test]
    fn a_failure_whose_run_time_is_not_counted_yet_waits_for_the_next_look() {
        let cell = RunCell::default();
        cell.failed.fetch_add(1, Ordering::Relaxed);
        assert!(cell.take().is_empty());
        cell.success(MS);
        let counts = cell.take();
        assert_eq!((counts.done, counts.failed), (0, 1));
    }

    #[test]
    fn queues_beyond_the_bound_are_in_the_total() {
        let counters = RunCounters::default();
        for n in 0..QUEUES + 2 {
            counters.queue(&format!("q{n}")).success(MS);
            counters.of_type(&format!("t{n}")).success(MS);
        }
        let taken = counters.take();
        assert_eq!(taken.len(), 1 + QUEUES + TYPES);
        assert_eq!(taken[0].1.done, u64::try_from(QUEUES + 2).unwrap_or(0));
    }
}
