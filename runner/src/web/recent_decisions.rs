//! The decisions of the last hours, for the chart of the overview and the list behind it: read once for all readers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use runner_queue::{Broker, BrokerResult, Decision};
use tokio::time::Instant;

/// How many decisions are read, and how long the answer is valid: the more there are, the more seldom. The last number is
/// the most that a broker gives in one answer.
const READS: [(usize, Duration); 3] = [
    (500, Duration::from_secs(3)),
    (2_000, Duration::from_secs(8)),
    (10_000, Duration::from_secs(30)),
];

/// The decisions made since an instant, newest first.
#[derive(Debug, Default)]
pub(super) struct RecentDecisions {
    pub(super) decisions: Vec<Decision>,
    /// Everything decided from here on is among them; later than what was asked for if there were too many.
    pub(super) since: Timestamp,
}

#[derive(Default)]
struct CachedRead {
    /// When it was read, and with which of [`READS`].
    read: Option<(Instant, usize, Arc<RecentDecisions>)>,
}

/// The last answer.
#[derive(Default)]
pub(super) struct RecentDecisionsCache {
    kept: Mutex<CachedRead>,
    reading: tokio::sync::Mutex<()>,
}

impl RecentDecisionsCache {
    /// The decisions made since `since`. One caller reads, the others wait for it.
    ///
    /// # Errors
    ///
    /// Those of the broker.
    pub(super) async fn look(&self, broker: &dyn Broker, since: Timestamp) -> BrokerResult<Arc<RecentDecisions>> {
        if let Some(found) = self.valid() {
            return Ok(found);
        }
        let _reading = self.reading.lock().await;
        if let Some(found) = self.valid() {
            return Ok(found);
        }
        // As many as sufficed the last time.
        let mut size = self.kept().read.as_ref().map_or(0, |(_, size, _)| *size);
        let found = loop {
            let (limit, _) = READS[size];
            let decisions = broker.decisions(None, limit).await?;
            let oldest = decisions.last().map(|oldest| oldest.decided_at);
            let reached = decisions.len() < limit || oldest.is_none_or(|oldest| oldest <= since);
            if reached || size + 1 == READS.len() {
                let since = if reached { since } else { oldest.unwrap_or(since) };
                break Arc::new(RecentDecisions { decisions, since });
            }
            size += 1;
        };
        // A quiet time needs fewer again.
        let few = size > 0 && found.decisions.iter().filter(|d| d.decided_at > since).count() < READS[size - 1].0;
        let size = if few { size - 1 } else { size };
        self.kept().read = Some((Instant::now(), size, Arc::clone(&found)));
        Ok(found)
    }

    fn valid(&self) -> Option<Arc<RecentDecisions>> {
        let kept = self.kept();
        let (at, size, found) = kept.read.as_ref()?;
        (at.elapsed() < READS[*size].1).then(|| Arc::clone(found))
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, CachedRead> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
