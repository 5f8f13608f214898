//! The embedded broker: one SQLite file, for one host and any number of processes on it.
//!
//! Needs no configuration and no other program. All changes go through one writer thread, which shares the sync of the
//! disk among the writes that arrived meanwhile (`writer`); reads use read-only connections. Each subject of the seam
//! has its file; this one assembles them.

mod act;
mod audit;
mod audit_list;
mod backup;
#[cfg(test)]
mod backup_tests;
mod cancel;
#[cfg(feature = "ceiling")]
mod ceiling;
#[cfg(all(test, feature = "ceiling"))]
mod ceiling_tests;
mod claim;
mod connection;
mod dead_workers;
#[cfg(all(test, target_os = "linux"))]
mod dead_workers_tests;
mod documents;
mod error;
mod file;
mod file_size;
#[cfg(test)]
mod file_size_tests;
mod forward;
mod gates;
#[cfg(test)]
mod gates_tests;
mod group;
#[cfg(test)]
mod group_tests;
mod health;
#[cfg(test)]
mod health_tests;
mod held;
mod history;
mod inspect_queues;
mod inspect_tasks;
mod manual;
mod moves;
mod pause;
mod probe;
mod produce;
mod put;
mod readers;
mod receipts;
mod recover;
mod remove;
mod repair;
mod rows;
mod runs;
mod schedule;
mod schedules;
mod servers;
mod settle;
mod signals;
mod staged;
mod statistics;
mod sweep;
mod tally;
#[cfg(test)]
mod tests;
mod turn;
mod type_filter;
mod upkeep;
mod wait;
mod wakeups;
mod workflows;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, RwLock};

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::clock::Clock;
use runner_core::limit::Limits;
use runner_core::task::QueueName;
use rusqlite::Connection;

use crate::{Broker, BrokerError, BrokerResult, Caveat};
use connection::Statements as _;
use error::{SqlError, broker_error};
use health::FileHealth;
use probe::WriteProbe;
use readers::Readers;
use rows::micros;
use type_filter::ClaimFilter;

use crate::seam::Given;
use wakeups::Wakeups;
use writer::Writer;

pub use backup::{BackedUp, BackupError, backup};
#[cfg(feature = "ceiling")]
pub use ceiling::EmbeddedCeiling;
pub use file::make_file;

/// A store of tasks in one SQLite file. Cheap to share behind an `Arc`; the file is closed when the last holder is
/// dropped.
pub struct EmbeddedBroker {
    path: PathBuf,
    readers: Readers,
    writer: Writer,
    wakeups: Arc<Wakeups>,
    clock: Arc<dyn Clock>,
    /// The server recorded with claims; known from the first heartbeat on.
    claimant: OnceLock<String>,
    type_filter: Arc<ClaimFilter>,
    /// The limits that its claims keep.
    limits: RwLock<Arc<Limits>>,
    /// Which tasks follow others, and which types have records of their runs.
    given: Arc<Given>,
    last_heartbeat: Arc<servers::LastHeartbeat>,
    dead_workers: dead_workers::DeadWorkers,
    /// The attempt record at which the last repair ended.
    repaired_to: AtomicI64,
    /// Records deleted to respect limits, not yet reported.
    trimmed: Arc<AtomicU64>,
    health: Arc<FileHealth>,
    write_probe: WriteProbe,
}

impl std::fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedBroker")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl EmbeddedBroker {
    /// Opens the file, creating it (readable by its owner only) if it is missing, and runs its migrations.
    ///
    /// # Errors
    ///
    /// `Refused` if the file cannot be created, is not a database or comes from a newer program; `Unreachable` if
    /// another process keeps it locked; `Full` if the disk is full.
    pub async fn open(path: impl AsRef<Path>, clock: Arc<dyn Clock>) -> BrokerResult<Self> {
        let path = path.as_ref().to_path_buf();
        let failed = |source| BrokerError::Unreachable {
            doing: "start the thread that writes",
            source,
        };
        let opened = path.clone();
        let opened = tokio::task::spawn_blocking(move || file::open(&opened));
        let (conn, readers, health) = opened.await.map_err(|e| failed(e.into()))??;
        let wakeups = Arc::new(Wakeups::default());
        let trimmed = Arc::<AtomicU64>::default();
        let writer = Writer::start(
            conn,
            path.clone(),
            Arc::clone(&health),
            Arc::clone(&clock),
            Arc::clone(&wakeups),
            Arc::clone(&trimmed),
        );
        let writer = writer.map_err(|e| failed(e.into()))?;
        Ok(Self {
            path,
            readers,
            writer,
            wakeups,
            clock,
            claimant: OnceLock::new(),
            type_filter: Arc::default(),
            limits: RwLock::default(),
            given: Arc::default(),
            last_heartbeat: Arc::default(),
            dead_workers: dead_workers::DeadWorkers::default(),
            repaired_to: AtomicI64::new(0),
            trimmed,
            health,
            write_probe: WriteProbe::default(),
        })
    }

    /// The path of the file, for code that stores its own tables in it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks the file for inconsistencies: wrong counts, locks and attempts without a task, a damaged index. One line
    /// each; empty for a sound file. Reads every row: for tests and repair.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub async fn audit(&self) -> BrokerResult<Vec<String>> {
        let now = micros(self.clock.now());
        let query = move |conn: &Connection| audit::audit(conn, now);
        self.readers.query("audit its file", query).await
    }

    /// Rewrites the whole file without gaps, so that it returns the space of deleted tasks from then on. Writes wait
    /// meanwhile, and the disk needs room for a second copy.
    ///
    /// # Errors
    ///
    /// `Unreachable` if other processes keep the file in use, `Full` if there is no room.
    pub async fn compact(&self) -> BrokerResult<()> {
        const DOING: &str = "rewrite its file";
        let path = self.path.clone();
        let done = tokio::task::spawn_blocking(move || file_size::rewrite(&connection::open(&path)?));
        let gone = |_| SqlError::Unavailable("the thread that rewrites has ended");
        done.await
            .map_err(gone)
            .and_then(|done| done)
            .map_err(|e| broker_error(DOING, e))
    }
}

#[async_trait]
impl Broker for EmbeddedBroker {
    fn describe(&self) -> String {
        format!("embedded {}", self.path.display())
    }

    async fn now(&self) -> BrokerResult<Timestamp> {
        const DOING: &str = "check whether it answers";
        self.health.check_in_place().map_err(|e| broker_error(DOING, e))?;
        let query = |conn: &Connection| conn.value::<i64>("SELECT count(*) FROM sqlite_schema", []);
        self.readers.query(DOING, query).await?;
        Ok(self.clock.now())
    }

    async fn probe(&self, _: &[QueueName]) -> BrokerResult<()> {
        self.write_probe.probe(&self.health, &self.path, &self.writer).await
    }

    async fn caveats(&self) -> BrokerResult<Vec<Caveat>> {
        // Reading a table makes the connection access the file; otherwise it answers from memory.
        let query = |conn: &Connection| {
            let text = "SELECT auto_vacuum, (SELECT count(*) FROM sqlite_schema) FROM pragma_auto_vacuum";
            conn.value(text, [])
        };
        let how = self.readers.query("ask how its file was made", query).await?;
        Ok(file_size::caveat(how).into_iter().collect())
    }

    fn trimmed_records(&self) -> u64 {
        self.trimmed.swap(0, Ordering::Relaxed)
    }

    /// Afterwards everything is in the one file, which can then be copied.
    async fn close(&self) {
        self.readers.close();
        self.writer.close().await;
    }
}
