//! How late a task begins whose time has come: tasks that were scheduled, and tasks that are tried again.
//!
//! Scheduled ones are due at whole seconds, because a store may round instants to these. When a retry is due
//! is decided by the store: it counts the delay from the moment at which it accepts the verdict.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use jiff::Timestamp;
use runner_core::clock::Clock;
use runner_core::task::{Run, Task, TaskState};
use runner_queue::Page;
use runner_sdk::{Ctx, Registry, TaskError};

use super::figure::Figure;
use super::rig::{BATCH, Bench, KIND, Observed, put};

/// Seconds over which the tasks are spread.
const SECONDS: i64 = 3;

/// Seconds from the first task's enqueue to the first due one, beside those that enqueueing takes.
const LEAD: i64 = 2;

/// Tasks that any store accepts in a second.
const PACE: usize = 2_000;

/// After which time a task is tried again: the first tries of all are over by then, and it has been read when the
/// next ones are due.
const AGAIN: Duration = Duration::from_secs(SECONDS.cast_unsigned() + 3);

/// Tasks on a page of those that are due again.
const PAGE: usize = 1_000;

/// When the first and second attempt of each task began, in microseconds.
struct Log {
    clock: Arc<dyn Clock>,
    began: Mutex<Vec<[Option<i64>; 2]>>,
    seen: Observed,
}

/// Median and 99th percentile of the lateness, for both.
pub(super) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let tasks = (bench.tasks / 100).max(20);
    let log = Arc::new(Log {
        clock: bench.clock.clone(),
        began: Mutex::new(vec![[None; 2]; tasks]),
        seen: Observed::for_tasks(tasks),
    });
    let noted = log.clone();
    let handlers = Registry::new()
        .on(KIND, move |cx: Ctx| {
            let outcome = noted.began(cx.payload());
            std::future::ready(outcome)
        })
        .build()?;
    bench.start(handlers, [(bench.queue.clone(), 1)].into()).await;
    let due = schedule(bench, tasks).await?;
    bench.drained(&log.seen).await?;
    log.seen.expect(2 * tasks);
    let again = due_again(bench, tasks).await?;
    bench.drained(&log.seen).await?;
    bench.end().await;
    let names = ["due, scheduled, p50", "due, scheduled, p99"];
    let mut figures = Figure::shares(names, &log.late(0, |n| due.get(n).copied()), "ms");
    let names = ["due, tried again, p50", "due, tried again, p99"];
    figures.extend(Figure::shares(names, &log.late(1, |n| again.get(&n).copied()), "ms"));
    Ok(figures)
}

/// Enqueues the tasks before the first of them is due; when each is, microseconds.
async fn schedule(bench: &Bench, tasks: usize) -> anyhow::Result<Vec<i64>> {
    let lead = LEAD + (tasks / PACE) as i64;
    let first = bench.broker.now().await?.as_second() + lead;
    let due: Vec<i64> = (0..tasks as i64).map(|n| first + n % SECONDS).collect();
    let scheduled = due.iter().enumerate().map(|(n, second)| {
        let at = Timestamp::from_second(*second)?;
        let task = Task::new(KIND).queue(bench.queue.clone()).payload(n.to_string());
        anyhow::Ok(task.run(Run::At(at)))
    });
    let scheduled: Vec<Task> = scheduled.collect::<anyhow::Result<_>>()?;
    for batch in scheduled.chunks(BATCH) {
        put(&*bench.broker, batch).await?;
    }
    ensure!(
        bench.broker.now().await?.as_second() < first,
        "{tasks} tasks could not be scheduled within {lead} s, so some were late before they were enqueued; measure \
         with fewer --tasks"
    );
    Ok(due.into_iter().map(|second| second * 1_000_000).collect())
}

/// When the store will retry each task, in microseconds.
async fn due_again(bench: &Bench, tasks: usize) -> anyhow::Result<HashMap<usize, i64>> {
    let mut due = HashMap::with_capacity(tasks);
    for number in 1..=tasks.div_ceil(PAGE) {
        let page = Page { number, size: PAGE };
        for task in bench.broker.tasks(&bench.queue, TaskState::Retry, page).await?.tasks {
            if let (Some(n), Some(at)) = (place(&task.record.payload), task.next_run) {
                due.insert(n, at.as_microsecond());
            }
        }
    }
    Ok(due)
}

/// The number of the task that has this payload.
fn place(payload: &[u8]) -> Option<usize> {
    std::str::from_utf8(payload).ok()?.parse().ok()
}

impl Log {
    /// Notes when this attempt began; the first one fails and asks for a retry.
    fn began(&self, payload: &[u8]) -> Result<(), TaskError> {
        let now = self.clock.now().as_microsecond();
        let mut began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        let Some([first, again]) = place(payload).and_then(|n| began.get_mut(n)) else {
            return Ok(());
        };
        self.seen.note();
        if first.is_some() {
            *again = Some(now);
            return Ok(());
        }
        *first = Some(now);
        Err(TaskError::retry_after(AGAIN, "once more"))
    }

    /// How late the first or second attempts began that were due at a known time, in milliseconds.
    fn late(&self, which: usize, due: impl Fn(usize) -> Option<i64>) -> Vec<f64> {
        let began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        let tries = began.iter().enumerate();
        let late = tries.filter_map(|(n, tries)| Some((tries[which]? - due(n)?) as f64 / 1000.0));
        late.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use runner_core::clock::ManualClock;

    use super::*;

    #[test]
    fn a_second_try_is_held_against_what_the_store_said() {
        let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
        let log = Log {
            clock: clock.clone(),
            began: Mutex::new(vec![[None; 2]; 2]),
            seen: Observed::for_tasks(2),
        };
        assert!(log.began(b"0").is_err(), "the first try asks for another");
        // The verdict takes a while to reach the store, which counts from then on.
        clock.advance(Duration::from_millis(40));
        let due = BTreeMap::from([(0, 6_040_000)]);
        clock.advance(Duration::from_millis(6_003));
        assert!(log.began(b"0").is_ok());
        assert!(
            log.began(b"7").is_ok() && log.began(b"x").is_ok(),
            "no task of the measurement"
        );
        assert_eq!(log.late(0, |_| Some(0)), [0.0]);
        assert_eq!(log.late(1, |n| due.get(&n).copied()), [3.0]);
    }
}
