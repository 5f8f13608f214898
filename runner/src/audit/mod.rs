//! The audit list: what people and programs did, on its way to the broker.
//!
//! An action leaves its entry here and does not wait for the broker: entries wait in a bounded outbox, from which a background
//! loop writes them. Not here: the lines of the log that say the same, and what may be done.

mod search;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use runner_queue::{AuditEntry, Broker, BrokerResult, MAX_AUDIT_ADDED};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::background::{self, BackgroundLoop};
use crate::health::Health;
use crate::metrics::Metrics;

pub use search::{AuditFilter, search};

/// Entries that wait, some 500 KB: a minute of a person who works by script while the broker is away.
const MOST: usize = 1_000;

/// How often the outbox is looked at when nothing wakes the loop.
const EVERY: Duration = Duration::from_secs(10);

/// The time until the next attempt when the broker refused entries.
const AGAIN: Duration = Duration::from_secs(1);

struct AuditOutbox {
    waiting: Mutex<VecDeque<AuditEntry>>,
    filled: Notify,
    metrics: Arc<Metrics>,
}

impl AuditOutbox {
    fn lock(&self) -> MutexGuard<'_, VecDeque<AuditEntry>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shorten(&self, waiting: &mut VecDeque<AuditEntry>) {
        let over = waiting.len().saturating_sub(MOST);
        if over > 0 {
            waiting.drain(..over);
            self.metrics.audit_entries_dropped(over);
            tracing::warn!(
                code = "audit_dropped",
                entries = over,
                "entries of the audit list were dropped because the broker takes none; the log has them"
            );
        }
    }
}

/// Takes entries. Cheap to clone; the default one drops them.
#[derive(Clone, Default)]
pub struct AuditLog(Option<Arc<AuditOutbox>>);

impl AuditLog {
    /// An empty outbox.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self(Some(Arc::new(AuditOutbox {
            waiting: Mutex::default(),
            filled: Notify::new(),
            metrics,
        })))
    }

    /// Adds an entry, with bounded texts. When the outbox is full, its oldest entry is dropped, counted and logged.
    pub fn put(&self, entry: AuditEntry) {
        let Some(outbox) = &self.0 else { return };
        let mut waiting = outbox.lock();
        waiting.push_back(entry.bounded());
        outbox.shorten(&mut waiting);
        drop(waiting);
        outbox.filled.notify_one();
    }

    /// Writes what waits. What could not be written waits further; it may be written twice if the answer was lost.
    ///
    /// # Errors
    ///
    /// Those of the broker.
    pub async fn write(&self, broker: &dyn Broker) -> BrokerResult<()> {
        let Some(outbox) = &self.0 else { return Ok(()) };
        loop {
            let some: Vec<AuditEntry> = {
                let mut waiting = outbox.lock();
                let count = waiting.len().min(MAX_AUDIT_ADDED);
                waiting.drain(..count).collect()
            };
            if some.is_empty() {
                return Ok(());
            }
            // Put back unless they are written, also when this call is given up.
            let mut taken = Taken { outbox, some };
            broker.add_audit_entries(&taken.some).await?;
            taken.some.clear();
        }
    }

    /// Entries that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.as_ref().map_or(0, |outbox| outbox.lock().len())
    }
}

/// Entries that are being written.
struct Taken<'a> {
    outbox: &'a AuditOutbox,
    some: Vec<AuditEntry>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if self.some.is_empty() {
            return;
        }
        let mut waiting = self.outbox.lock();
        for entry in self.some.drain(..).rev() {
            waiting.push_front(entry);
        }
        self.outbox.shorten(&mut waiting);
    }
}

struct AuditLoop {
    log: AuditLog,
    broker: Arc<dyn Broker>,
    health: Arc<Health>,
}

#[async_trait]
impl BackgroundLoop for AuditLoop {
    fn name(&self) -> &'static str {
        "audit list"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        match self.log.write(&*self.broker).await {
            Ok(()) => None,
            Err(error) => {
                self.health.failed("write the audit list", &error);
                Some(AGAIN)
            }
        }
    }
}

/// Writes entries until `stop`.
pub fn watch(log: &AuditLog, broker: Arc<dyn Broker>, health: Arc<Health>, stop: CancellationToken) {
    let Some(outbox) = log.0.clone() else { return };
    let writing = AuditLoop {
        log: log.clone(),
        broker,
        health,
    };
    tokio::spawn(async move { background::run(writing, &outbox.filled, &stop).await });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use runner_queue::AuditList as _;
    use runner_queue::embedded::EmbeddedBroker;

    fn entry(n: usize) -> AuditEntry {
        AuditEntry {
            target: n.to_string(),
            ..AuditEntry::default()
        }
    }

    #[tokio::test]
    async fn what_waits_is_written_in_order_and_what_is_too_much_is_dropped_and_counted() {
        let metrics = Arc::new(Metrics::default());
        let log = AuditLog::new(Arc::clone(&metrics));
        for n in 0..MOST + 2 {
            log.put(entry(n));
        }
        assert_eq!(log.waiting(), MOST);
        assert!(metrics.render().contains("runner_audit_entries_dropped_total 2"));
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(runner_core::clock::SystemClock);
        let broker = EmbeddedBroker::open(&dir.path().join("a.db"), clock).await.unwrap();
        log.write(&broker).await.unwrap();
        assert_eq!(log.waiting(), 0);
        let page = broker.audit_entries(None, 1).await.unwrap();
        assert_eq!(page.entries[0].1.target, (MOST + 1).to_string());
    }

    #[tokio::test]
    async fn what_is_not_written_waits_further() {
        let log = AuditLog::new(Arc::default());
        log.put(entry(1));
        let outbox = log.0.as_ref().unwrap();
        let some = outbox.lock().drain(..).collect();
        drop(Taken { outbox, some });
        assert_eq!(log.waiting(), 1);
        AuditLog::default().put(entry(2));
    }
}
