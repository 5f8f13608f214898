//! Task types that no worker claims, for the overview and the metrics: cached, whatever the number of readers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use runner_queue::{Broker, QueueInfo, Unclaimed, UnclaimedTypes, unclaimed};
use serde::Serialize;
use tokio::time::{Instant, timeout};

use super::format::{self, Locale};
use super::urls;

/// How long a result is valid: many may open the page, and a search costs the broker some milliseconds.
const GOOD_FOR: Duration = Duration::from_secs(5);

/// How long the broker may take; a page shows the previous result instead of waiting longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Characters of a type on a page.
const LONGEST: usize = 200;

/// The last result.
#[derive(Default)]
pub(super) struct UnclaimedCache {
    last: Mutex<Option<(Instant, Arc<UnclaimedTypes>)>>,
    looking: tokio::sync::Mutex<()>,
}

impl UnclaimedCache {
    /// The types, oldest first. During a search other callers get the previous result.
    pub(super) async fn look(&self, broker: &dyn Broker, queues: &[QueueInfo]) -> Arc<UnclaimedTypes> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, found)) = &last
            && at.elapsed() < GOOD_FOR
        {
            return Arc::clone(found);
        }
        let last = last.map(|(_, found)| found).unwrap_or_default();
        let Ok(_looking) = self.looking.try_lock() else {
            return last;
        };
        let found = match timeout(PATIENCE, unclaimed(broker, queues)).await {
            Ok(Ok(found)) => Arc::new(found),
            Ok(Err(_)) | Err(_) => last,
        };
        let answer = (Instant::now(), Arc::clone(&found));
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        found
    }
}

/// One type on a page.
#[derive(Debug, Serialize)]
pub(super) struct UnclaimedRow {
    queue: String,
    queue_url: String,
    kind: String,
    n: u64,
    waits: String,
}

impl UnclaimedRow {
    pub(super) fn new(locale: &Locale, found: &Unclaimed) -> Self {
        Self {
            queue: found.queue.to_string(),
            queue_url: urls::tasks(found.queue.as_str(), "pending"),
            kind: format::cut(&found.kind, LONGEST),
            n: found.count,
            waits: locale.span(found.oldest.duration_until(locale.now).unsigned_abs()),
        }
    }
}
