//! Compares the schedules of live instances: announces this instance's set, reads the others', reports differences.
//!
//! Each instance stores a short document in the broker that names its set and is renewed while it lives; equal sets are
//! stored once. Not here: how documents are read (`peer_reader`), how sets are
//! compared (`versions`), and how the plan uses the result.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_core::schedule::{Plan, Problem};
use runner_queue::{Broker, BrokerResult, Documents, MAX_DOCUMENT};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::peer_reader::{INSTANCES, OwnDocuments, PeerReader, PeerStatement, SETS, SINCE};
use super::versions::{Differences, PeerSet, ScheduleSet, VersionTimes, differences, digest_of, set_of, since_of};
use crate::background::BackgroundLoop;

/// How often the other instances are read: two differing deployments are detected within this time.
const EVERY: Duration = Duration::from_secs(5);

/// How often this instance's documents are renewed, and how long they last without: two renewals may fail.
const RENEW: Duration = Duration::from_secs(10);
const DOCUMENT_TTL: Duration = Duration::from_secs(30);

/// How long a difference must last before it is a problem: instances read the same edit at different times.
pub(super) const SETTLED: Duration = Duration::from_secs(12);

/// Differences reported at once.
const REPORTED: usize = 100;

/// The background loop.
pub struct Peers {
    broker: Arc<dyn Broker>,
    plan: watch::Receiver<Arc<Plan>>,
    instance: String,
    report: Box<dyn Fn(Differences) + Send + Sync>,
    own: OwnSet,
    reader: PeerReader,
    /// When each difference was first seen, by its text, and whether it was logged.
    seen: BTreeMap<String, (Instant, bool)>,
    failures: u32,
}

#[derive(Default)]
struct OwnSet {
    set: ScheduleSet,
    since: VersionTimes,
    digest: String,
    /// Number of sets that this instance has had.
    generation: u64,
    renewed: Option<Instant>,
}

impl Peers {
    /// Compares `instance`, which has the schedules of `plan`, with its peers; `report` gets the result of each look.
    pub fn new(
        broker: Arc<dyn Broker>,
        plan: watch::Receiver<Arc<Plan>>,
        instance: String,
        report: impl Fn(Differences) + Send + Sync + 'static,
    ) -> Self {
        Self {
            broker,
            plan,
            instance,
            report: Box::new(report),
            own: OwnSet::default(),
            reader: PeerReader::default(),
            seen: BTreeMap::new(),
            failures: 0,
        }
    }

    /// Looks once.
    ///
    /// # Errors
    ///
    /// Those of the broker; the last reported result stays in force.
    pub async fn look(&mut self) -> BrokerResult<()> {
        // First read, then announce: a new set takes over the version times that a peer already has for it, so that a
        // restart does not count as a newer version.
        let own = OwnDocuments {
            instance: &self.instance,
            digest: &self.own.digest,
            set: &self.own.set,
        };
        let peers = self.reader.read(&*self.broker, &own).await?;
        self.announce(&peers).await?;
        let found = differences(&self.own.set, &self.own.since, &peers);
        let found = self.settled(found);
        (self.report)(found);
        Ok(())
    }

    /// Stores this instance's set if it changed, and renews its statement when due.
    async fn announce(&mut self, peers: &[PeerSet]) -> BrokerResult<()> {
        let plan = self.plan.borrow_and_update().clone();
        let (set, now) = (set_of(&plan), Instant::now());
        let digest = digest_of(&set);
        if digest != self.own.digest {
            let before = (&self.own.set, &self.own.since);
            let since = since_of(&set, before, peers, self.broker.now().await?);
            let generation = self.own.generation + 1;
            let (set_body, since_body) = (body(&set), body(&since));
            if set_body.len().max(since_body.len()) > MAX_DOCUMENT {
                tracing::warn!(
                    code = "set_too_large",
                    bytes = set_body.len(),
                    "this instance has more schedules than fit into the document for others; differences are not detected"
                );
                return Ok(());
            }
            // The set and its times before the statement that names them: a reader that sees the statement finds both.
            // They outlive the statement, for the same reason.
            self.broker
                .keep_document(SETS, &digest, set_body, DOCUMENT_TTL * 2)
                .await?;
            self.broker
                .keep_document(SINCE, &self.instance, since_body, DOCUMENT_TTL * 2)
                .await?;
            self.own = OwnSet {
                set,
                since,
                digest,
                generation,
                renewed: None,
            };
        }
        if self.own.renewed.is_some_and(|at| now.duration_since(at) < RENEW) {
            return Ok(());
        }
        let stored = self
            .broker
            .renew_document(SETS, &self.own.digest, DOCUMENT_TTL * 2)
            .await?
            && self
                .broker
                .renew_document(SINCE, &self.instance, DOCUMENT_TTL * 2)
                .await?;
        if !stored {
            // The broker lost the documents. An empty digest makes the next look store everything again.
            self.own.digest.clear();
            return Ok(());
        }
        let statement = PeerStatement {
            set: self.own.digest.clone(),
            since: self.own.generation,
        };
        self.broker
            .keep_document(INSTANCES, &self.instance, body(&statement), DOCUMENT_TTL)
            .await?;
        self.own.renewed = Some(now);
        Ok(())
    }

    /// Drops problems that have not lasted long enough; `superseded` takes effect at once.
    fn settled(&mut self, mut found: Differences) -> Differences {
        let now = Instant::now();
        let texts: BTreeSet<String> = found.problems.iter().map(Problem::one_line).collect();
        // A difference that disappeared and returns starts again.
        self.seen.retain(|text, _| texts.contains(text));
        found.problems.truncate(REPORTED);
        found.problems.retain(|problem| {
            let text = problem.one_line();
            let (first, logged) = self.seen.entry(text.clone()).or_insert((now, false));
            let settled = now.duration_since(*first) >= SETTLED;
            if settled && !std::mem::replace(logged, true) {
                tracing::warn!(code = %problem.code, problem = %text, "instances differ");
            }
            settled
        });
        found
    }

    /// Removes this instance's statement, so that its peers need not wait until it expires.
    ///
    /// # Errors
    ///
    /// Those of the broker.
    pub async fn leave(broker: &dyn Documents, instance: &str) -> BrokerResult<()> {
        broker.drop_document(INSTANCES, instance).await
    }
}

fn body(of: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(of).unwrap_or_default()
}

#[async_trait]
impl BackgroundLoop for Peers {
    fn name(&self) -> &'static str {
        "peers"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        match self.look().await {
            Ok(()) => self.failures = 0,
            Err(error) => {
                // An unreachable broker is logged by `health`.
                if self.failures == 0 {
                    tracing::debug!(error = %runner_core::chain::chain(&error), "other instances cannot be looked at");
                }
                self.failures = self.failures.saturating_add(1);
            }
        }
        None
    }
}
