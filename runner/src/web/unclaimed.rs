//! Task types that no worker takes, as the first page and the figures show them: looked for now and then, whoever asks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use runner_queue::{Broker, QueueInfo, Unclaimed, unclaimed};
use serde::Serialize;
use tokio::time::{Instant, timeout};

use super::format::{self, Locale};
use super::urls;

/// How long an answer is good for: many may look at the page, and a look costs the store some milliseconds.
const GOOD_FOR: Duration = Duration::from_secs(5);

/// How long the broker has for an answer; a page shows the last one instead of waiting for longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Characters of a type on a page.
const LONGEST: usize = 200;

/// What was found last.
#[derive(Default)]
pub(super) struct UnclaimedCache {
    last: Mutex<Option<(Instant, Arc<Vec<Unclaimed>>)>>,
    looking: tokio::sync::Mutex<()>,
}

impl UnclaimedCache {
    /// The types, oldest first. One who asks while another looks is given the last answer.
    pub(super) async fn look(&self, broker: &dyn Broker, queues: &[QueueInfo]) -> Arc<Vec<Unclaimed>> {
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
