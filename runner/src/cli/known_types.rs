//! Which task types live workers have handlers for, and which queues they serve: asked of the broker now and then, and
//! handed to the sources.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_queue::{Broker, ServerView};
use runner_sdk::Handlers;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::background::{self, BackgroundLoop};
use crate::source::Catalog;

/// What the worker of this process does.
pub(super) struct OwnWorker {
    /// Its handlers.
    pub(super) handlers: Handlers,
    /// The queues that it takes from, names or patterns.
    pub(super) queues: BTreeSet<String>,
}

struct KnownTypesLoop {
    broker: Arc<dyn Broker>,
    catalog: Catalog,
    own: Option<OwnWorker>,
}

/// Keeps the sources informed until `stop`. `own` is the worker of this process, if it has one.
pub(super) fn watch(broker: Arc<dyn Broker>, catalog: Catalog, own: Option<OwnWorker>, stop: CancellationToken) {
    tokio::spawn(async move { background::run(KnownTypesLoop { broker, catalog, own }, &Notify::new(), &stop).await });
}

#[async_trait]
impl BackgroundLoop for KnownTypesLoop {
    fn name(&self) -> &'static str {
        "types"
    }

    /// A worker shows up within two of its heartbeats.
    fn every(&self) -> Duration {
        Duration::from_secs(10)
    }

    async fn turn(&mut self) -> Option<Duration> {
        let servers = self.broker.servers().await.ok();
        self.catalog
            .set_known_types(servers.as_deref().and_then(|s| self.known(s)));
        self.catalog
            .set_served_queues(servers.as_deref().map(|s| self.served(s)));
        None
    }
}

impl KnownTypesLoop {
    /// `None` when it is not known: a worker in Go is there, which names no types.
    fn known(&self, servers: &[ServerView]) -> Option<BTreeSet<String>> {
        if servers.iter().any(|s| s.info.handlers.is_empty()) {
            return None;
        }
        let mut types: BTreeSet<String> = servers.iter().flat_map(|s| s.info.handlers.iter().cloned()).collect();
        types.extend(self.own.as_ref().map(|own| own.handlers.names()).unwrap_or_default());
        Some(types)
    }

    fn served(&self, servers: &[ServerView]) -> BTreeSet<String> {
        let live = servers.iter().flat_map(|s| s.info.queues.keys());
        let own = self.own.iter().flat_map(|own| own.queues.iter());
        live.chain(own).cloned().collect()
    }
}
