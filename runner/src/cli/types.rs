//! Which task types live workers have handlers for: asked of the broker now and then, told to the sources.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use runner_queue::Broker;
use runner_sdk::Handlers;
use tokio_util::sync::CancellationToken;

use crate::source::Catalog;

/// A worker shows up within two of its heartbeats.
const EVERY: Duration = Duration::from_secs(10);

/// Keeps the sources informed until `stop`. `own` are the handlers of this process's worker, if it has one.
pub(super) fn watch(broker: Arc<dyn Broker>, catalog: Catalog, own: Option<Handlers>, stop: CancellationToken) {
    tokio::spawn(async move {
        loop {
            catalog.set_known_types(known(broker.as_ref(), own.as_ref()).await);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => (),
            }
        }
    });
}

/// `None` when nobody can tell: the broker is away, or a worker in Go is there, which names no types.
async fn known(broker: &dyn Broker, own: Option<&Handlers>) -> Option<BTreeSet<String>> {
    let servers = broker.servers().await.ok()?;
    if servers.iter().any(|s| s.info.handlers.is_empty()) {
        return None;
    }
    let mut types: BTreeSet<String> = servers.into_iter().flat_map(|s| s.info.handlers).collect();
    types.extend(own.map(Handlers::names).unwrap_or_default());
    Some(types)
}
