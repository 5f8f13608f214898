//! Which task types live workers have handlers for: asked of the broker now and then, told to the sources.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_queue::Broker;
use runner_sdk::Handlers;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::role::{self, Role};
use crate::source::Catalog;

struct Types {
    broker: Arc<dyn Broker>,
    catalog: Catalog,
    own: Option<Handlers>,
}

/// Keeps the sources informed until `stop`. `own` are the handlers of this process's worker, if it has one.
pub(super) fn watch(broker: Arc<dyn Broker>, catalog: Catalog, own: Option<Handlers>, stop: CancellationToken) {
    tokio::spawn(async move { role::run(Types { broker, catalog, own }, &Notify::new(), &stop).await });
}

#[async_trait]
impl Role for Types {
    fn name(&self) -> &'static str {
        "types"
    }

    /// A worker shows up within two of its heartbeats.
    fn every(&self) -> Duration {
        Duration::from_secs(10)
    }

    async fn turn(&mut self) -> Option<Duration> {
        self.catalog.set_known_types(self.known().await);
        None
    }
}

impl Types {
    /// `None` when nobody can tell: the broker is away, or a worker in Go is there, which names no types.
    async fn known(&self) -> Option<BTreeSet<String>> {
        let servers = self.broker.servers().await.ok()?;
        if servers.iter().any(|s| s.info.handlers.is_empty()) {
            return None;
        }
        let mut types: BTreeSet<String> = servers.into_iter().flat_map(|s| s.info.handlers).collect();
        types.extend(self.own.as_ref().map(Handlers::names).unwrap_or_default());
        Some(types)
    }
}
