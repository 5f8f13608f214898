//! The broker as the place where sources keep what was last in force.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_queue::Broker;

use crate::source::Keep;

/// How long rows are kept after they were last seen: longer than any outage that nobody looks after.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// The kind of these documents.
const ROWS: &str = "rows";

/// See the head of this file.
pub(super) struct InBroker {
    broker: Arc<dyn Broker>,
    writes: bool,
}

impl InBroker {
    /// For a program that runs, or for a command that only looks.
    pub(super) fn shared(broker: Arc<dyn Broker>, writes: bool) -> Arc<dyn Keep> {
        Arc::new(Self { broker, writes })
    }
}

#[async_trait]
impl Keep for InBroker {
    async fn put(&self, name: &str, body: Vec<u8>) -> Result<(), String> {
        let kept = self.broker.keep_document(ROWS, name, body, KEPT).await;
        kept.map_err(|error| crate::log::chain(&error))
    }

    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        let found = self.broker.document(ROWS, name).await;
        found.map_err(|error| crate::log::chain(&error))
    }

    fn writes(&self) -> bool {
        self.writes
    }
}
