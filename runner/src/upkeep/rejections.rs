//! Reports manifests and rows of which nothing is in force to other programs, each once until it is repaired.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::background::{self, BackgroundLoop};
use crate::events::Events;
use crate::source::Catalog;

struct RejectionLoop {
    catalog: Catalog,
    events: Events,
    /// Those that were reported: name, place, codes.
    reported: BTreeSet<(String, String, Vec<String>)>,
}

/// Looks until `stop`, if events are sent.
pub fn watch(catalog: Catalog, events: Events, stop: CancellationToken) {
    if !events.are_on() {
        return;
    }
    let rejections = RejectionLoop {
        catalog,
        events,
        reported: BTreeSet::new(),
    };
    tokio::spawn(async move { background::run(rejections, &Notify::new(), &stop).await });
}

#[async_trait]
impl BackgroundLoop for RejectionLoop {
    fn name(&self) -> &'static str {
        "rejections"
    }

    fn every(&self) -> Duration {
        Duration::from_secs(2)
    }

    async fn turn(&mut self) -> Option<Duration> {
        let rejected = self.catalog.rejected().into_iter().map(|one| {
            let codes = one.problems.iter().map(|problem| problem.code.to_string()).collect();
            (one.name, one.origin.place, codes)
        });
        let now: BTreeSet<_> = rejected.collect();
        for (name, place, codes) in now.difference(&self.reported) {
            self.events.rejected(name, place, codes.clone());
        }
        self.reported = now;
        None
    }
}
