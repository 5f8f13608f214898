//! Taking the time of a piece of work, and the processor time of this process and of the store.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use runner_queue::{Broker, StoreUsage};
use tokio::time::Instant;

/// One measurement of a rate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Tasks a second.
    pub(super) rate: f64,
    /// Processor time of this process for each task, microseconds.
    pub(super) cpu: f64,
    /// The same of the store's own process, if it has one.
    pub(super) store_cpu: Option<f64>,
}

/// What was used between start and stop.
pub(super) struct Used {
    pub(super) took: Duration,
    pub(super) cpu: Duration,
    /// Of the store's own process; the question itself is not counted.
    pub(super) store: Option<StoreUsage>,
}

/// Runs from [`Meter::start`] to [`Meter::stop`].
pub(super) struct Meter<'a> {
    store: &'a dyn Broker,
    store_before: Option<StoreUsage>,
    cpu_before: Duration,
    begun: Instant,
}

impl<'a> Meter<'a> {
    pub(super) async fn start(store: &'a dyn Broker) -> anyhow::Result<Self> {
        Ok(Self {
            store,
            store_before: store.usage().await?,
            cpu_before: own_cpu()?,
            begun: Instant::now(),
        })
    }

    pub(super) async fn stop(self) -> anyhow::Result<Used> {
        let took = self.begun.elapsed();
        let cpu = own_cpu()?.saturating_sub(self.cpu_before);
        let after = self.store.usage().await?;
        let store = self.store_before.zip(after).map(|(before, after)| StoreUsage {
            cpu: after.cpu.saturating_sub(before.cpu),
            commands: after.commands.saturating_sub(before.commands).saturating_sub(1),
        });
        Ok(Used { took, cpu, store })
    }
}

impl Used {
    /// Per task, for this many tasks.
    pub(super) fn over(&self, tasks: usize) -> Sample {
        let tasks = tasks.max(1) as f64;
        let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / tasks;
        Sample {
            rate: tasks / self.took.as_secs_f64().max(1e-9),
            cpu: each(self.cpu),
            store_cpu: self.store.map(|used| each(used.cpu)),
        }
    }
}

/// Processor time of all threads of this process.
fn own_cpu() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let of = |time: TimeVal| {
        let micros = time.tv_sec().saturating_mul(1_000_000).saturating_add(time.tv_usec());
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    };
    Ok(of(usage.user_time()) + of(usage.system_time()))
}

/// The value in the middle; of an even number the upper one.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    at(values, 0.5)
}

/// The value below which this share of all values lies; 0 when there are none.
pub(super) fn at(values: impl IntoIterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a place in the list
    let place = ((values.len().saturating_sub(1)) as f64 * share).round() as usize;
    values.get(place).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_a_list() {
        let list = || (1..=100).rev().map(f64::from);
        assert!((median([3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((at(list(), 0.99) - 99.0).abs() < f64::EPSILON);
        assert!((at(list(), 0.0) - 1.0).abs() < f64::EPSILON);
        assert!((at([], 0.5)).abs() < f64::EPSILON);
    }
}
