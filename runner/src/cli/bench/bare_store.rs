//! The bare store, measured in turn with the program: the best that the broker's store can do.
//!
//! Only in programs that are built with the feature `ceiling`; releases are not.

use std::sync::Arc;

use runner_core::clock::Clock;
use runner_core::task::Task;
use runner_queue::Broker;

use super::meter::Sample;
use super::rate::Rate;
use crate::config::Settings;

#[cfg(feature = "ceiling")]
mod built_in {
    use runner_queue::Ceiling;
    use runner_queue::embedded::EmbeddedBroker;
    use runner_queue::redis::RedisBroker;

    use super::{Arc, Broker, Clock, Rate, Sample, Settings, Task};
    use crate::cli::bench::meter::Meter;
    use crate::config::BrokerSettings;

    /// The configured store without the broker.
    pub(in crate::cli::bench) struct BareStore(Box<dyn Ceiling>);

    impl BareStore {
        /// The store of these settings, to be measured with tasks like this one.
        pub(in crate::cli::bench) async fn open(
            settings: &Settings,
            clock: Arc<dyn Clock>,
            like: &Task,
        ) -> anyhow::Result<Self> {
            Ok(Self(match &settings.broker {
                BrokerSettings::Embedded { path } => {
                    Box::new(EmbeddedBroker::open(path, clock).await?.ceiling(like).await?)
                }
                BrokerSettings::Redis(settings) => Box::new(RedisBroker::lazy(settings)?.ceiling(like).await?),
            }))
        }

        /// Tasks in one script or transaction that are worth comparing.
        pub(in crate::cli::bench) fn batches(&self) -> &'static [usize] {
            self.0.batches()
        }

        /// One measurement of a rate with this many tasks. Leaves its queue empty. `broker` tells what the store used.
        pub(in crate::cli::bench) async fn rate(
            &self,
            broker: &dyn Broker,
            rate: Rate,
            tasks: usize,
            batch: usize,
        ) -> anyhow::Result<Sample> {
            let store = self.0.as_ref();
            if rate == Rate::Drain {
                store.enqueue(tasks, batch).await?;
            }
            let meter = Meter::start(broker).await?;
            match rate {
                Rate::Batches => store.enqueue(tasks, batch).await?,
                Rate::Singly => store.enqueue_singly(tasks).await?,
                Rate::Drain => store.drain(tasks, batch).await?,
                Rate::Steady => store.steady(tasks, batch).await?,
            }
            let used = meter.stop().await?;
            if matches!(rate, Rate::Batches | Rate::Singly) {
                store.drain(tasks, batch).await?;
            }
            Ok(used.over(tasks))
        }

        /// Waits for the end of a measurement that was abandoned.
        pub(in crate::cli::bench) async fn settle(&self) -> anyhow::Result<()> {
            // It does nothing, but waits until the worker has finished.
            Ok(self.0.drain(0, 1).await?)
        }
    }
}

#[cfg(feature = "ceiling")]
pub(super) use built_in::BareStore;

/// There is none in this program.
#[cfg(not(feature = "ceiling"))]
pub(super) enum BareStore {}

#[cfg(not(feature = "ceiling"))]
impl BareStore {
    pub(super) async fn open(_: &Settings, _: Arc<dyn Clock>, _: &Task) -> anyhow::Result<Self> {
        anyhow::bail!("--ceiling needs a program built by `cargo build --release --features ceiling`")
    }

    pub(super) fn batches(&self) -> &'static [usize] {
        match *self {}
    }

    pub(super) async fn rate(&self, _: &dyn Broker, _: Rate, _: usize, _: usize) -> anyhow::Result<Sample> {
        match *self {}
    }

    pub(super) async fn settle(&self) -> anyhow::Result<()> {
        match *self {}
    }
}
