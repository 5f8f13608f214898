//! How late a task begins whose time has come: tasks that were scheduled, and tasks that are tried again.
//!
//! All are due at whole seconds, because that is what a store may round an instant to.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use runner_core::clock::Clock;
use runner_core::task::{Run, Task};
use runner_sdk::{Ctx, Registry, TaskError};
use tokio_util::sync::CancellationToken;

use super::figure::Figure;
use super::meter::at;
use super::rig::{Bench, KIND, Seen, put};

/// Seconds over which the tasks are spread.
const SECONDS: i64 = 3;

/// How much later a task is tried again, from the second in which it began.
const AGAIN: i64 = 2;

/// When each task was due for its next try, and how late the tries began (ms): scheduled, tried again.
struct Log {
    clock: Arc<dyn Clock>,
    due: Mutex<Vec<(i64, bool)>>,
    late: [Mutex<Vec<f64>>; 2],
    seen: Seen,
}

/// Median and 99th percentile of the lateness, for both.
pub(super) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let tasks = (bench.tasks / 100).max(20);
    let first = bench.broker.now().await?.as_second() + 2;
    let due: Vec<i64> = (0..tasks as i64).map(|n| first + n % SECONDS).collect();
    let log = Arc::new(Log {
        clock: bench.clock.clone(),
        due: Mutex::new(due.iter().map(|second| (*second, false)).collect()),
        late: Default::default(),
        seen: Seen::for_tasks(2 * tasks),
    });
    let noted = log.clone();
    let handlers = Registry::new()
        .on(KIND, move |cx: Ctx| {
            let outcome = noted.began(cx.payload());
            std::future::ready(outcome)
        })
        .build()?;
    let worker = bench.worker(handlers, [(bench.queue.clone(), 1)].into());
    let scheduled = due.iter().enumerate().map(|(n, second)| {
        let at = Timestamp::from_second(*second)?;
        let task = Task::new(KIND).queue(bench.queue.clone()).payload(n.to_string());
        anyhow::Ok(task.run(Run::At(at)))
    });
    put(bench.broker.as_ref(), &scheduled.collect::<anyhow::Result<Vec<_>>>()?).await?;
    log.seen.wait().await?;
    worker.drain(CancellationToken::new()).await;
    let late = |which: usize, share| at(log.lateness(which).iter().copied(), share);
    Ok(vec![
        Figure::plain("due, scheduled, p50", late(0, 0.5), "ms"),
        Figure::plain("due, scheduled, p99", late(0, 0.99), "ms"),
        Figure::plain("due, tried again, p50", late(1, 0.5), "ms"),
        Figure::plain("due, tried again, p99", late(1, 0.99), "ms"),
    ])
}

impl Log {
    /// Notes how late this try is; the first one fails, and asks for another at a whole second.
    fn began(&self, payload: &[u8]) -> Result<(), TaskError> {
        let now = self.clock.now().as_microsecond();
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let place = std::str::from_utf8(payload).ok().and_then(|n| n.parse::<usize>().ok());
        let Some((second, again)) = place.and_then(|n| due.get_mut(n)) else {
            return Ok(());
        };
        let late = (now - *second * 1_000_000) as f64 / 1000.0;
        self.lateness(usize::from(*again)).push(late);
        self.seen.note();
        if *again {
            return Ok(());
        }
        *second = now.div_euclid(1_000_000) + AGAIN;
        *again = true;
        let delay = u64::try_from(*second * 1_000_000 - now).unwrap_or(0);
        Err(TaskError::retry_after(Duration::from_micros(delay), "once more"))
    }

    fn lateness(&self, which: usize) -> std::sync::MutexGuard<'_, Vec<f64>> {
        self.late[which].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
