//! What other instances have: says which schedules this one has, looks at those of the others, reports what differs.
//!
//! Each instance keeps a short document in the broker, renewed while it lives, that names the set it has; equal sets are
//! kept once. Not here: how sets are compared (`versions`), and what comes of it in the plan.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_core::schedule::{Plan, Problem};
use runner_queue::{Broker, BrokerResult, MAX_DOCUMENT};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use super::versions::{Differences, PeerSet, ScheduleSet, VersionTimes, differences, digest_of, set_of, since_of};
use crate::background::BackgroundLoop;

/// How often the others are looked at: two deployments side by side are noticed within this time.
const EVERY: Duration = Duration::from_secs(5);

/// How often the own documents are renewed, and how long they last without: two renewals may fail.
const RENEW: Duration = Duration::from_secs(10);
const LASTS: Duration = Duration::from_secs(30);

/// How long a difference must last before it is a problem: instances read the same edit at different times.
const SETTLED: Duration = Duration::from_secs(12);

/// Differences reported at once.
const REPORTED: usize = 100;

/// Kinds of documents: instances by name, their sets by digest, and by name since when each has which version.
const INSTANCES: &str = "instances";
const SETS: &str = "sets";
const SINCE: &str = "since";

/// What an instance says of itself.
#[derive(Serialize, Deserialize)]
struct PeerStatement {
    set: String,
    /// Another number than before: it has another set.
    since: u64,
}

/// The background work.
pub struct Peers {
    broker: Arc<dyn Broker>,
    plan: watch::Receiver<Arc<Plan>>,
    instance: String,
    report: Box<dyn Fn(Differences) + Send + Sync>,
    own: OwnSet,
    /// Sets and since when, by digest, of those that were seen in the last look.
    sets: HashMap<String, ScheduleSet>,
    sinces: HashMap<String, VersionTimes>,
    /// When each difference was seen first, by its text, and whether it was logged.
    seen: BTreeMap<String, (Instant, bool)>,
    failures: u32,
}

#[derive(Default)]
struct OwnSet {
    set: ScheduleSet,
    since: VersionTimes,
    digest: String,
    /// Counts the sets that this instance had.
    generation: u64,
    renewed: Option<Instant>,
}

impl Peers {
    /// Of `instance`, which has the schedules of `plan`; `report` gets what differs, after each look.
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
            sets: HashMap::new(),
            sinces: HashMap::new(),
            seen: BTreeMap::new(),
            failures: 0,
        }
    }

    /// Looks once.
    ///
    /// # Errors
    ///
    /// If the broker cannot be asked; then all stays as it was.
    pub async fn look(&mut self) -> BrokerResult<()> {
        let peers = self.others().await?;
        self.say(&peers).await?;
        let found = differences(&self.own.set, &self.own.since, &peers);
        let found = self.settled(found);
        (self.report)(found);
        Ok(())
    }

    /// The live instances but this one.
    async fn others(&mut self) -> BrokerResult<Vec<PeerSet>> {
        let words = self.broker.documents(INSTANCES).await?;
        let (mut sets, mut sinces, mut peers) = (HashMap::new(), HashMap::new(), Vec::new());
        for (name, body) in words {
            let Ok(word) = serde_json::from_slice::<PeerStatement>(&body) else {
                continue;
            };
            if name == self.instance {
                continue;
            }
            let Some(set) = self.set(&word.set).await? else {
                continue;
            };
            let key = format!("{name} {}", word.since);
            let since = match self.sinces.remove(&key) {
                Some(since) => since,
                None => read(self.broker.document(SINCE, &name).await?).unwrap_or_default(),
            };
            peers.push(PeerSet {
                name: shown(&name),
                set: set.clone(),
                since: since.clone(),
            });
            sets.insert(word.set, set);
            sinces.insert(key, since);
        }
        (self.sets, self.sinces) = (sets, sinces);
        Ok(peers)
    }

    async fn set(&self, digest: &str) -> BrokerResult<Option<ScheduleSet>> {
        if digest == self.own.digest {
            return Ok(Some(self.own.set.clone()));
        }
        match self.sets.get(digest) {
            Some(set) => Ok(Some(set.clone())),
            None => Ok(read(self.broker.document(SETS, digest).await?)),
        }
    }

    /// Says what this instance has, if it is something else than before or was said some time ago.
    async fn say(&mut self, peers: &[PeerSet]) -> BrokerResult<()> {
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
                    "this instance has more schedules than fit into the document for others; differences are not seen"
                );
                return Ok(());
            }
            self.broker.keep_document(SETS, &digest, set_body, LASTS * 2).await?;
            self.broker
                .keep_document(SINCE, &self.instance, since_body, LASTS * 2)
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
        let there = self.broker.renew_document(SETS, &self.own.digest, LASTS * 2).await?
            && self.broker.renew_document(SINCE, &self.instance, LASTS * 2).await?;
        if !there {
            // The store forgot it: the next look says all of it again.
            self.own.digest.clear();
            return Ok(());
        }
        let word = PeerStatement {
            set: self.own.digest.clone(),
            since: self.own.generation,
        };
        self.broker
            .keep_document(INSTANCES, &self.instance, body(&word), LASTS)
            .await?;
        self.own.renewed = Some(now);
        Ok(())
    }

    /// Problems only of differences that last; what is superseded counts at once.
    fn settled(&mut self, mut found: Differences) -> Differences {
        let now = Instant::now();
        let texts: BTreeSet<String> = found.problems.iter().map(Problem::one_line).collect();
        self.seen.retain(|text, _| texts.contains(text));
        found.problems.truncate(REPORTED);
        found.problems.retain(|problem| {
            let text = problem.one_line();
            let (first, logged) = self.seen.entry(text.clone()).or_insert((now, false));
            let lasts = now.duration_since(*first) >= SETTLED;
            if lasts && !std::mem::replace(logged, true) {
                tracing::warn!(code = %problem.code, problem = %text, "instances differ");
            }
            lasts
        });
        found
    }

    /// The last word: the others need not wait until it is forgotten.
    ///
    /// # Errors
    ///
    /// If the broker cannot be asked.
    pub async fn leave(broker: &dyn Broker, instance: &str) -> BrokerResult<()> {
        broker.drop_document(INSTANCES, instance).await
    }
}

fn body(of: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(of).unwrap_or_default()
}

fn read<T: serde::de::DeserializeOwned>(body: Option<Vec<u8>>) -> Option<T> {
    serde_json::from_slice(&body?).ok()
}

/// `host:pid` of `host:pid:random`.
fn shown(instance: &str) -> String {
    instance.rsplit_once(':').map_or(instance, |(name, _)| name).to_owned()
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
                // That the broker is away is said by others.
                if self.failures == 0 {
                    tracing::debug!(error = %runner_core::chain::chain(&error), "other instances cannot be looked at");
                }
                self.failures = self.failures.saturating_add(1);
            }
        }
        None
    }
}
