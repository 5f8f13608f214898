//! Counts runs of workers in Go, which add no counts themselves: from the counters of their queues, by the process whose
//! scheduler leads.
//!
//! These counters have the runs of all workers, so what this program's workers have counted is taken off. Run times and
//! types are not known. What ends while no process leads, or within a look of a new leader, is not counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::clock::Clock;
use runner_core::task::{QueueName, RunCounts, RunSeries};
use runner_queue::{Broker, BrokerResult, CountedBy, CountedPeriods, QueueInfo, ServerView};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::background::{self, BackgroundLoop};
use crate::health::Health;
use crate::metrics::Metrics;

/// How often the counters are looked at. More than workers of this program take to add their counts.
const EVERY: Duration = Duration::from_secs(15);
/// Queues of workers in Go that are counted.
const QUEUES: usize = 200;
/// After how long the comparison begins again, so that few hours are read.
const AGAIN_AFTER: Duration = Duration::from_secs(6 * 3600);

/// Numbers of runs: all that ended, and those of them that failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ended {
    all: u64,
    failed: u64,
}

impl Ended {
    fn of_queue(queue: &QueueInfo) -> Self {
        Self {
            all: queue.processed,
            failed: queue.failed,
        }
    }

    fn of_counts(periods: &CountedPeriods) -> Self {
        let mut sum = RunCounts::default();
        periods.iter().for_each(|(_, counts)| sum.add(counts));
        Self {
            all: sum.ended(),
            failed: sum.failed,
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            all: self.all.saturating_sub(other.all),
            failed: self.failed.saturating_sub(other.failed),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            all: self.all.saturating_add(other.all),
            failed: self.failed.saturating_add(other.failed),
        }
    }
}

/// What is known of one queue.
#[derive(Debug, Clone, Copy)]
struct GoQueue {
    /// Its counters and its counts at the first look.
    first: (Ended, Ended),
    /// Its counters at the last look.
    last: Ended,
    /// Runs that were counted as those of workers in Go since the first look.
    added: Ended,
}

impl GoQueue {
    fn new(counters: Ended, counts: Ended) -> Self {
        Self {
            first: (counters, counts),
            last: counters,
            added: Ended::default(),
        }
    }

    /// The runs to add. Counters of the look before are compared with counts of now: by then workers of this program have
    /// added theirs, and a run is rather counted a look later than twice.
    fn look(&mut self, counters: Ended, counts: Ended) -> Ended {
        if counters.all < self.last.all {
            // They began again, with another store or at the end of numbers.
            *self = Self::new(counters, counts);
            return Ended::default();
        }
        let ended = std::mem::replace(&mut self.last, counters).minus(self.first.0);
        let own = counts.minus(self.first.1).minus(self.added);
        let new = ended.minus(own).minus(self.added);
        let new = Ended {
            failed: new.failed.min(new.all),
            ..new
        };
        self.added = self.added.plus(new);
        new
    }
}

struct GoRunsLoop {
    broker: Arc<dyn Broker>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    clock: Arc<dyn Clock>,
    queues: BTreeMap<QueueName, GoQueue>,
    /// Since when they are compared.
    since: Option<Timestamp>,
}

/// Counts until `stop`, while this process leads.
pub fn watch(
    broker: Arc<dyn Broker>,
    (metrics, health): (Arc<Metrics>, Arc<Health>),
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let runs = GoRunsLoop {
        broker,
        metrics,
        health,
        clock,
        queues: BTreeMap::new(),
        since: None,
    };
    tokio::spawn(async move { background::run(runs, &Notify::new(), &stop).await });
}

/// The queues that workers in Go take from, by name.
fn queues_of_go(servers: &[ServerView]) -> Vec<QueueName> {
    let in_go = servers.iter().filter(|server| server.info.handlers.is_empty());
    let names: BTreeSet<&String> = in_go.flat_map(|server| server.info.queues.keys()).collect();
    let names = names.into_iter().filter_map(|name| QueueName::new(name.clone()).ok());
    names.take(QUEUES).collect()
}

impl GoRunsLoop {
    async fn look(&mut self) -> BrokerResult<()> {
        let names = match self.metrics.leads() {
            true => queues_of_go(&self.broker.servers().await?),
            false => Vec::new(),
        };
        let now = self.clock.now();
        let too_old = |since: Timestamp| now.duration_since(since).unsigned_abs() > AGAIN_AFTER;
        if names.is_empty() || self.since.is_some_and(too_old) {
            self.queues.clear();
            self.since = None;
        }
        if names.is_empty() {
            return Ok(());
        }
        let since = *self.since.get_or_insert(now);
        let series: Vec<RunSeries> = names.iter().map(|name| RunSeries::Queue(name.to_string())).collect();
        // An hour more than needed: the clock of the store may be behind.
        let span = (since - Duration::from_secs(3600), now + Duration::from_secs(3600));
        let (queues, counts) = tokio::try_join!(
            self.broker.queues_of(&names),
            self.broker.run_counts(&series, CountedBy::Hour, span)
        )?;
        let counts: BTreeMap<&QueueName, Ended> = names.iter().zip(counts.iter().map(Ended::of_counts)).collect();
        let mut added = Vec::new();
        let mut total = RunCounts::default();
        for queue in &queues {
            let counted = counts.get(&queue.name).copied().unwrap_or_default();
            let counters = Ended::of_queue(queue);
            let known = self.queues.entry(queue.name.clone());
            let new = known
                .or_insert_with(|| GoQueue::new(counters, counted))
                .look(counters, counted);
            let counts = RunCounts {
                done: new.all - new.failed,
                failed: new.failed,
                ..RunCounts::default()
            };
            total.add(&counts);
            added.push((RunSeries::Queue(queue.name.to_string()), counts));
        }
        if total.is_empty() {
            return Ok(());
        }
        added.push((RunSeries::All, total));
        // They ended between the last look and the one before it.
        self.broker.add_run_counts(&added, EVERY * 3 / 2).await
    }
}

#[async_trait]
impl BackgroundLoop for GoRunsLoop {
    fn name(&self) -> &'static str {
        "go runs"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        if let Err(error) = self.look().await {
            self.health.failed("count runs of workers in Go", &error);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(all: u64, failed: u64) -> Ended {
        Ended { all, failed }
    }

    #[test]
    fn runs_of_go_are_what_counters_have_and_counts_have_not() {
        let mut queue = GoQueue::new(ended(1_000, 10), ended(40, 1));
        assert_eq!(queue.look(ended(1_000, 10), ended(40, 1)), ended(0, 0));
        assert_eq!(queue.look(ended(1_030, 12), ended(40, 1)), ended(0, 0), "a look later");
        assert_eq!(queue.look(ended(1_050, 12), ended(40, 1)), ended(30, 2));
        // What was added is among the counts from now on; a worker of this program has counted five more.
        assert_eq!(queue.look(ended(1_060, 12), ended(75, 3)), ended(15, 0));
        assert_eq!(queue.look(ended(1_060, 12), ended(90, 3)), ended(10, 0));
        assert_eq!(queue.look(ended(1_060, 12), ended(100, 3)), ended(0, 0));
        // Between all looks: 60 ended, five of them in workers of this program.
        assert_eq!(queue.added, ended(55, 2));
    }

    #[test]
    fn workers_of_this_program_alone_add_nothing() {
        let mut queue = GoQueue::new(ended(0, 0), ended(0, 0));
        for n in 1..50 {
            // Counts lag behind the counters by less than a look.
            assert_eq!(
                queue.look(ended(n * 100, n), ended((n - 1) * 100 + 50, n - 1)),
                ended(0, 0)
            );
        }
    }

    #[test]
    fn counters_that_begin_again_make_no_leap() {
        let mut queue = GoQueue::new(ended(5_000, 0), ended(0, 0));
        assert_eq!(queue.look(ended(7, 0), ended(0, 0)), ended(0, 0));
        assert_eq!(queue.look(ended(9, 9), ended(0, 0)), ended(0, 0));
        assert_eq!(queue.look(ended(9, 9), ended(0, 0)), ended(2, 2));
    }
}
