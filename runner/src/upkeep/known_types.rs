//! Which task types live workers have handlers for, and which queues they serve: the broker is asked periodically, and
//! the sources get the answer, so that they can warn of schedules that no worker would run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_queue::{Presence, ServerView};
use runner_sdk::Handlers;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::background::{self, BackgroundLoop};
use crate::source::{Catalog, Taken};

/// What the worker of this process serves: it counts before the broker lists it.
pub struct OwnWorker {
    /// Its handlers.
    pub handlers: Handlers,
    /// The queues that it claims from, names or patterns.
    pub queues: BTreeSet<String>,
}

struct KnownTypesLoop {
    broker: Arc<dyn Presence>,
    catalog: Catalog,
    own: Option<OwnWorker>,
}

/// Keeps the sources informed until `stop`. `own` is the worker of this process, if it has one.
pub fn watch(broker: Arc<dyn Presence>, catalog: Catalog, own: Option<OwnWorker>, stop: CancellationToken) {
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
        let taken = servers.map(|servers| taken(&servers, self.own.as_ref()));
        self.catalog.set_taken(taken.unwrap_or_default());
        None
    }
}

/// What live workers serve, asked once, for a command that only reads. Without live workers nothing is known: they may
/// not have been started yet.
pub async fn look_once(broker: &dyn Presence) -> Taken {
    match broker.servers().await {
        Ok(servers) if !servers.is_empty() => taken(&servers, None),
        Ok(_) | Err(_) => Taken::default(),
    }
}

fn taken(servers: &[ServerView], own: Option<&OwnWorker>) -> Taken {
    let mut queues: BTreeSet<String> = servers.iter().flat_map(|s| s.info.queues.keys().cloned()).collect();
    queues.extend(own.into_iter().flat_map(|own| own.queues.iter().cloned()));
    // A Go worker lists no types.
    let types = servers.iter().all(|s| !s.info.handlers.is_empty()).then(|| {
        let mut types: BTreeSet<String> = servers.iter().flat_map(|s| s.info.handlers.iter().cloned()).collect();
        types.extend(own.map(|own| own.handlers.names()).unwrap_or_default());
        types
    });
    Taken {
        types,
        queues: Some(queues),
    }
}
