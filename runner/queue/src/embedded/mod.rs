//! The embedded broker: one SQLite file, for one host and as many processes on it as open it.
//!
//! Nothing is configured and nothing else has to run. Every change goes through one writing task, which
//! shares the sync of the disk between whatever came in meanwhile (`writer`); questions are answered from
//! connections that cannot write. Each subject of the seam has its file; this one puts them together.

mod act;
mod audit;
mod backup;
#[cfg(test)]
mod backup_tests;
#[cfg(feature = "ceiling")]
mod ceiling;
#[cfg(all(test, feature = "ceiling"))]
mod ceiling_tests;
mod cells;
mod condition;
#[cfg(test)]
mod condition_tests;
mod dead;
#[cfg(all(test, target_os = "linux"))]
mod dead_tests;
mod documents;
mod group;
#[cfg(test)]
mod group_tests;
mod held;
mod history;
mod inspect;
mod link;
mod manual;
mod moves;
mod passed;
mod pause;
mod probe;
mod produce;
mod readers;
mod recover;
mod remove;
mod repair;
mod rows;
mod runs;
mod schedule;
mod servers;
mod settle;
mod signals;
mod staged;
mod store;
mod sweep;
mod tally;
#[cfg(test)]
mod tests;
mod upkeep;
#[cfg(test)]
mod upkeep_tests;
mod work;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::clock::Clock;
use runner_core::schedule::ScheduleId;
use runner_core::task::QueueName;
use tokio::sync::mpsc;

use crate::{
    Absolved, ArchiveBounds, Broker, BrokerError, BrokerResult, Caveat, Claim, Commit, Committed, Corrections,
    Decision, EntryView, Exchanged, Forwarded, HOLD_AFTER_END, Held, KnownTypes, Lists, ManualRun, ManuallyRun, Pause,
    Recovered, Registration, Repaired, Resume, Resumed, Schedules, ServerInfo, Settled, Settlement, Standing,
    StopRequest, Swept, Work, Working,
};
use condition::Condition;
#[cfg(test)]
use link::built;
use link::{SqlError, sql};
use passed::Passed;
use probe::Probes;
use readers::Readers;
use rows::{column, micros};
use signals::Signals;
use store::error;
use writer::Writer;

pub use backup::{BackedUp, BackupError, backup};
#[cfg(feature = "ceiling")]
pub use ceiling::EmbeddedCeiling;
pub use store::make_file;

/// Waiting tasks that are released in one transaction.
const RELEASE_CHUNK: usize = 1_000;

/// Commits in one transaction.
const COMMITTED_AT_ONCE: usize = 200;

/// Decisions in one answer, at most.
const MOST_DECISIONS: usize = 10_000;

/// A store of tasks in one SQLite file. Cheap to share behind an `Arc`; the file is closed when the last
/// holder is gone.
pub struct EmbeddedBroker {
    path: PathBuf,
    readers: Readers,
    writer: Writer,
    signals: Arc<Signals>,
    clock: Arc<dyn Clock>,
    /// The server that claims are noted for, once a heartbeat has told.
    claimant: OnceLock<String>,
    passed: Arc<Passed>,
    presence: Arc<servers::Presence>,
    dead: dead::Dead,
    /// The record of an attempt at which the last repair ended.
    repaired_to: AtomicI64,
    /// Records deleted to keep bounds that nobody has counted yet.
    trimmed: Arc<AtomicU64>,
    condition: Arc<Condition>,
    probes: Probes,
}

impl std::fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedBroker")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl EmbeddedBroker {
    /// Opens the file, which is made (readable by its owner only) if it is missing, and brings it up to date.
    ///
    /// # Errors
    ///
    /// `Refused` when the file cannot be made, is no database or comes from a newer program; `Unreachable`
    /// when another process keeps it locked; `Full` when the disk is.
    pub async fn open(path: impl AsRef<Path>, clock: Arc<dyn Clock>) -> BrokerResult<Self> {
        let path = path.as_ref().to_path_buf();
        let failed = |source| BrokerError::Unreachable {
            doing: "start the thread that writes",
            source,
        };
        let opened = path.clone();
        let opened = tokio::task::spawn_blocking(move || store::open(&opened));
        let (link, readers, condition) = opened.await.map_err(|e| failed(e.into()))??;
        let signals = Arc::new(Signals::default());
        let trimmed = Arc::<AtomicU64>::default();
        let writer = Writer::start(
            link,
            path.clone(),
            Arc::clone(&condition),
            Arc::clone(&clock),
            Arc::clone(&signals),
            Arc::clone(&trimmed),
        );
        let writer = writer.map_err(|e| failed(e.into()))?;
        Ok(Self {
            path,
            readers,
            writer,
            signals,
            clock,
            claimant: OnceLock::new(),
            passed: Arc::default(),
            presence: Arc::default(),
            dead: dead::Dead::default(),
            repaired_to: AtomicI64::new(0),
            trimmed,
            condition,
            probes: Probes::default(),
        })
    }

    /// The file, for others that keep tables of their own in it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks for contradictions in the file: counts that are off, locks and attempts without a task, a damaged
    /// index. One line each; empty when all is well. Reads every row: for tests and for repair.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub async fn audit(&self) -> BrokerResult<Vec<String>> {
        audit::audit(self.readers(), micros(self.clock.now()))
            .await
            .map_err(|e| error("audit its file", e))
    }

    /// Rewrites the whole file without gaps, so that it gives the space of deleted tasks back from then on. Whoever
    /// writes waits meanwhile, and the disk needs room for a second copy.
    ///
    /// # Errors
    ///
    /// `Unreachable` when others keep the file in use, `Full` when there is no room.
    pub async fn compact(&self) -> BrokerResult<()> {
        const DOING: &str = "rewrite its file";
        let path = self.path.clone();
        let done = tokio::task::spawn_blocking(move || upkeep::rewrite(&link::Link::open(&path)?));
        let gone = |_| SqlError::Gone("the thread that rewrites has ended");
        done.await
            .map_err(gone)
            .and_then(|done| done)
            .map_err(|e| error(DOING, e))
    }

    fn readers(&self) -> &Readers {
        &self.readers
    }

    fn taking(&self, queues: &[QueueName], max: usize, lease: Duration) -> work::TakeClaims {
        work::TakeClaims {
            queues: queues.to_vec(),
            max,
            lease,
            by: self.claimant.get().cloned(),
            passed: Arc::clone(&self.passed),
        }
    }
}

#[async_trait]
impl Broker for EmbeddedBroker {
    fn describe(&self) -> String {
        format!("embedded {}", self.path.display())
    }

    async fn now(&self) -> BrokerResult<Timestamp> {
        const DOING: &str = "see whether it answers";
        self.condition.in_place().map_err(|e| error(DOING, e))?;
        sql("SELECT count(*) FROM sqlite_schema")
            .fetch_one(self.readers())
            .await
            .map_err(|e| error(DOING, e))?;
        Ok(self.clock.now())
    }

    async fn probe(&self, _: &[QueueName]) -> BrokerResult<()> {
        self.probes.probe(&self.condition, &self.path, &self.writer).await
    }

    async fn caveats(&self) -> BrokerResult<Vec<Caveat>> {
        let failed = |e| error("ask how its file was made", e);
        // The table makes the connection look at the file again; it answers from memory otherwise.
        let row = sql("SELECT auto_vacuum, (SELECT count(*) FROM sqlite_schema) FROM pragma_auto_vacuum")
            .fetch_one(self.readers())
            .await;
        let how: i64 = row.and_then(|row| row.try_get(0)).map_err(failed)?;
        Ok(upkeep::caveat(how).into_iter().collect())
    }

    fn trimmed_records(&self) -> u64 {
        self.trimmed.swap(0, Ordering::Relaxed)
    }

    /// Everything is in the one file then, and nothing beside it, so that it can be copied.
    async fn close(&self) {
        self.readers.close();
        self.writer.close().await;
    }
}

#[async_trait]
impl Work for EmbeddedBroker {
    fn claims_as(&self, host: &str, pid: u32) {
        self.claimant.get_or_init(|| format!("{host}:{pid}"));
        self.dead.announce(&self.path);
    }

    fn claims_types(&self, types: &KnownTypes) {
        self.signals.wake(self.passed.know(types));
    }

    async fn claim(&self, queues: &[QueueName], max: usize, lease: Duration) -> BrokerResult<Vec<Claim>> {
        self.presence.claims_for(lease);
        self.dead.look(self.readers(), self.claimant.get()).await;
        self.writer.write(self.taking(queues, max, lease)).await
    }

    async fn narrow(&self, queues: &[QueueName], lists: Lists) -> BrokerResult<Vec<QueueName>> {
        inspect::having(self.readers(), queues, lists)
            .await
            .map_err(|e| error("look which queues have tasks", e))
    }

    async fn settle(&self, settlements: &[Settlement]) -> BrokerResult<Vec<Settled>> {
        self.writer.write(settle::Settle(settlements.to_vec())).await
    }

    /// One transaction for both: neither half fails alone.
    async fn exchange(
        &self,
        settlements: &[Settlement],
        queues: &[QueueName],
        max: usize,
        lease: Duration,
    ) -> BrokerResult<Exchanged> {
        self.presence.claims_for(lease);
        self.dead.look(self.readers(), self.claimant.get()).await;
        let (settled, claims) = match (settlements, max) {
            ([], _) => (Vec::new(), self.claim(queues, max, lease).await?),
            (some, 0) => (self.settle(some).await?, Vec::new()),
            (some, _) => {
                let settle = settle::Settle(some.to_vec());
                let take = self.taking(queues, max, lease);
                self.writer.write(work::Exchange { settle, take }).await?
            }
        };
        let (settled, claims) = (Ok(settled), Ok(claims));
        Ok(Exchanged { settled, claims })
    }

    async fn extend(&self, claims: &[Claim], lease: Duration) -> BrokerResult<Vec<Option<Timestamp>>> {
        self.presence.claims_for(lease);
        let claims = claims.to_vec();
        self.writer.write(settle::Extend { claims, lease }).await
    }

    async fn forward(&self, queues: &[QueueName], limit: usize) -> BrokerResult<Forwarded> {
        let queues = queues.to_vec();
        self.writer.write(work::Forward { queues, limit }).await
    }

    async fn wait_for_delayed(&self, at_most: Duration) {
        self.signals.wait_for_delayed(at_most).await;
    }

    async fn next_lease_end(&self, queues: &[QueueName]) -> BrokerResult<Option<Timestamp>> {
        recover::next_lease_end(self.readers(), queues)
            .await
            .map_err(|e| error("look for the next lease that ends", e))
    }

    async fn recover(
        &self,
        queues: &[QueueName],
        grace: Duration,
        limit: usize,
        poison_after: u32,
    ) -> BrokerResult<Vec<Recovered>> {
        let queues = queues.to_vec();
        let pass = recover::Recover {
            presence: Arc::clone(&self.presence),
            queues,
            grace,
            limit,
            poison_after,
        };
        self.writer.write(pass).await
    }

    async fn recover_dead(&self, grace: Duration, limit: usize, poison_after: u32) -> BrokerResult<Vec<Recovered>> {
        let held = self.dead.some(grace, limit);
        if held.is_empty() {
            return Ok(Vec::new());
        }
        let pass = recover::RecoverDead {
            presence: Arc::clone(&self.presence),
            held: held.clone(),
            poison_after,
        };
        let recovered = self.writer.write(pass).await?;
        self.dead.done(&held);
        Ok(recovered)
    }

    async fn run_alone(&self, claim: &Claim, alone: bool) -> BrokerResult<bool> {
        let claim = claim.clone();
        self.writer.write(recover::Alone { claim, alone }).await
    }

    async fn absolve(&self, claims: &[Claim]) -> BrokerResult<Vec<Absolved>> {
        self.writer.write(recover::Absolve(claims.to_vec())).await
    }

    async fn sweep(&self, queues: &[QueueName], limit: usize, archive: ArchiveBounds) -> BrokerResult<Swept> {
        let queues = queues.to_vec();
        let pass = sweep::Sweep { queues, limit, archive };
        self.writer.write(pass).await
    }

    async fn repair(&self, queues: &[QueueName], limit: usize) -> BrokerResult<Repaired> {
        let pass = repair::Repair {
            queues: queues.to_vec(),
            limit,
            after: self.repaired_to.load(Ordering::Relaxed),
        };
        let (repaired, after) = self.writer.write(pass).await?;
        self.repaired_to.store(after, Ordering::Relaxed);
        Ok(repaired)
    }

    async fn heartbeat(&self, server: &ServerInfo, working: &[Working], ttl: Duration) -> BrokerResult<()> {
        self.claims_as(&server.host, server.pid);
        let (server, working) = (server.clone(), working.to_vec());
        self.writer.write(servers::Heartbeat { server, working, ttl }).await?;
        self.presence.told();
        Ok(())
    }

    async fn is_alone(&self, server: &ServerInfo) -> BrokerResult<bool> {
        let others = servers::others(self.readers(), server).await;
        Ok(!others.map_err(|e| error("look for other servers", e))?)
    }

    fn lists_first(&self) -> bool {
        true
    }

    async fn leave(&self, server: &ServerInfo) -> BrokerResult<()> {
        self.writer.write(servers::Leave(server.clone())).await
    }

    async fn wait_for_work(&self, queues: &[QueueName], at_most: Duration) {
        signals::wait_for_work(self.readers(), &self.signals, &self.passed, queues, at_most).await;
    }

    async fn cancellations(&self) -> BrokerResult<mpsc::Receiver<StopRequest>> {
        signals::cancellations(self.readers().clone(), Arc::clone(&self.signals))
            .await
            .map_err(|e| error("listen for cancellations", e))
    }

    async fn release_waiting(&self, queues: &[QueueName], handlers: &[String]) -> BrokerResult<usize> {
        let mut released = 0;
        loop {
            let pass = work::ReleaseWaiting {
                queues: queues.to_vec(),
                ranges: handlers.iter().map(|h| work::range(h)).collect(),
                limit: RELEASE_CHUNK,
            };
            let now = self.writer.write(pass).await?;
            released += now;
            if now < RELEASE_CHUNK {
                return Ok(released);
            }
        }
    }
}

#[async_trait]
impl Schedules for EmbeddedBroker {
    async fn register(&self, registrations: &[Registration]) -> BrokerResult<Vec<Standing>> {
        self.writer.write(schedule::Register(registrations.to_vec())).await
    }

    async fn standings(&self, ids: &[ScheduleId]) -> BrokerResult<Vec<Option<Standing>>> {
        let mut standings = Vec::with_capacity(ids.len());
        for id in ids {
            let standing = schedule::standing(self.readers(), id)
                .await
                .map_err(|e| error("read where schedules stand", e))?;
            standings.push(standing);
        }
        Ok(standings)
    }

    async fn commit(&self, commits: &[Commit]) -> BrokerResult<Vec<Committed>> {
        // Claims and verdicts come in between.
        let mut committed = Vec::with_capacity(commits.len());
        for batch in commits.chunks(COMMITTED_AT_ONCE) {
            committed.append(&mut self.writer.write(schedule::Commits(batch.to_vec())).await?);
        }
        Ok(committed)
    }

    async fn run_now(&self, run: &ManualRun) -> BrokerResult<ManuallyRun> {
        self.writer.write(manual::RunNow(run.clone())).await
    }

    async fn lead(&self, instance: &str, ttl: Duration) -> BrokerResult<bool> {
        let (instance, ttl) = (instance.to_owned(), Some(ttl));
        self.writer.write(schedule::Lead { instance, ttl }).await
    }

    async fn resign(&self, instance: &str) -> BrokerResult<()> {
        let (instance, ttl) = (instance.to_owned(), None);
        let lead = schedule::Lead { instance, ttl };
        let instance = lead.instance.clone();
        self.writer.write(lead).await?;
        let soon = HOLD_AFTER_END;
        self.writer.write(held::LetGo { instance, soon }).await
    }

    async fn hold(&self, instance: &str, held: &[Held], ttl: Duration) -> BrokerResult<bool> {
        let (instance, held) = (instance.to_owned(), held.to_vec());
        self.writer.write(held::Hold { instance, held, ttl }).await
    }

    async fn withdraw(&self, instance: &str, scope: &str, ids: &[ScheduleId]) -> BrokerResult<Vec<ScheduleId>> {
        let (instance, scope, ids) = (instance.to_owned(), scope.to_owned(), ids.to_vec());
        self.writer.write(held::Withdraw { instance, scope, ids }).await
    }

    async fn held_from(&self, scope: &str) -> BrokerResult<Vec<ScheduleId>> {
        held::held_from(self.readers(), scope)
            .await
            .map_err(|e| error("ask for the schedules of a source", e))
    }

    async fn corrections(&self) -> BrokerResult<Option<Corrections>> {
        held::corrections(self.readers())
            .await
            .map_err(|e| error("ask whether cursors were set back", e))
    }

    async fn pause_schedule(&self, id: &ScheduleId, pause: &Pause) -> BrokerResult<()> {
        let (id, pause) = (id.clone(), pause.clone());
        self.writer.write(pause::Stop { id, pause }).await
    }

    async fn resume_schedule(&self, resume: &Resume) -> BrokerResult<Resumed> {
        self.writer.write(pause::GoOn(resume.clone())).await
    }

    async fn decisions(&self, id: Option<&ScheduleId>, limit: usize) -> BrokerResult<Vec<Decision>> {
        let limit = column(limit.min(MOST_DECISIONS) as u64);
        let query = match id {
            Some(id) => sql(
                "SELECT schedule, nominal, kind, reason, task, count, decided_at, instance, queue, outcome, started_at, \
                    ended_at FROM decisions WHERE schedule = ? ORDER BY seq DESC LIMIT ?",
            )
            .bind(id.as_str().to_owned()),
            None => sql(
                "SELECT schedule, nominal, kind, reason, task, count, decided_at, instance, queue, outcome, started_at, \
                    ended_at FROM decisions ORDER BY seq DESC LIMIT ?",
            ),
        };
        let failed = |e| error("list decisions", e);
        let found = query.bind(limit).fetch_all(self.readers()).await.map_err(failed)?;
        // One that cannot be read is left out, as over Redis.
        Ok(found.iter().filter_map(|row| schedule::decision_of(row).ok()).collect())
    }

    /// Nothing to do: no other tool reads this file.
    async fn publish_entries(&self, _: &str, _: &[EntryView], _: Duration) -> BrokerResult<()> {
        Ok(())
    }
}
