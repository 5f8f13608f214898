//! Carries operations out: a loop that looks for those without an instance, and a task for each that this process has.
//!
//! An instance that takes an operation writes its name into it and begins when the name is still there a moment later, so that
//! of several that try one continues. If two do nevertheless, one of them finds the other's name within a second and stops; what
//! both did was done once, because a task that was acted on does not match any more.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_core::chain::chain;
use runner_core::clock::Clock;
use runner_queue::{AuditEntry, Broker, BrokerError, BrokerResult};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::document::{CANCELS, MAX_NOTE, OPEN, Operation, OperationEnd, StoredOperation, find, stored};
use super::work::{OperationWork, ProgressReport};
use crate::audit::AuditLog;
use crate::background::{self, BackgroundLoop};
use crate::health::Health;

/// How often operations without an instance are looked for: one command.
const EVERY: Duration = Duration::from_secs(5);

/// After this time an instance that wrote its name looks whether it is still there.
const SETTLE: Duration = Duration::from_millis(300);

/// How often progress is written, and a cancel looked for.
const BEAT: Duration = Duration::from_millis(500);

/// Operations that one process carries out at once.
const AT_ONCE: usize = 2;

/// Open operations that are looked at in one turn.
const OPEN_AT_ONCE: usize = 16;

/// For how long calls that fail are made again, and the time between two.
const PATIENCE: Duration = Duration::from_secs(300);
const AGAIN: Duration = Duration::from_secs(1);

/// What it needs.
pub struct OperationParts {
    /// The broker.
    pub broker: Arc<dyn Broker>,
    /// Where ends of operations are noted.
    pub audit: AuditLog,
    /// Where failed calls are reported.
    pub health: Arc<Health>,
    /// The source of the current time.
    pub clock: Arc<dyn Clock>,
    /// The name of this process.
    pub instance: String,
    /// Ends it; another instance continues.
    pub stop: CancellationToken,
}

/// Wakes the loop. The default one wakes nothing: an instance finds new operations within seconds.
#[derive(Clone, Default)]
pub struct Operations(Arc<Notify>);

impl Operations {
    /// There is a new one.
    pub fn begin(&self) {
        self.0.notify_one();
    }
}

/// Carries operations out until the stop.
pub fn watch(parts: OperationParts) -> Operations {
    let operations = Operations::default();
    let wake = Arc::clone(&operations.0);
    let stop = parts.stop.clone();
    let looking = OperationLoop {
        parts: Arc::new(parts),
        running: HashMap::new(),
        taken: HashSet::new(),
    };
    tokio::spawn(async move { background::run(looking, &wake, &stop).await });
    operations
}

struct OperationLoop {
    parts: Arc<OperationParts>,
    running: HashMap<String, JoinHandle<()>>,
    /// Those into which the last turn wrote our name.
    taken: HashSet<String>,
}

impl OperationLoop {
    async fn look(&mut self) -> BrokerResult<Option<Duration>> {
        let broker = &*self.parts.broker;
        self.running.retain(|_, task| !task.is_finished());
        let open = broker.document_names(OPEN, self.parts.clock.now()).await?;
        let taken = std::mem::take(&mut self.taken);
        let mut soon = None;
        // The oldest first, which come last: new ones must not keep them from their turn.
        for name in open.into_iter().rev().take(OPEN_AT_ONCE).map(|open| open.name) {
            if self.running.contains_key(&name) {
                continue;
            }
            let mut operation = match stored(broker, &name).await? {
                StoredOperation::Read(found) if found.ended.is_none() => *found,
                // A newer version wrote it, whose instances carry it out.
                StoredOperation::Unreadable => continue,
                StoredOperation::Read(_) | StoredOperation::Absent => {
                    broker.drop_document(OPEN, &name).await?;
                    continue;
                }
            };
            if self.running.len() >= AT_ONCE {
                continue;
            }
            if taken.contains(&name) {
                if operation.instance.as_deref() == Some(&self.parts.instance) {
                    let work = carry_out(Arc::clone(&self.parts), operation);
                    self.running.insert(name, tokio::spawn(work));
                }
                continue;
            }
            let now = broker.now().await?;
            if operation.is_orphaned(now) {
                operation.instance = Some(self.parts.instance.clone());
                operation.seen = Some(now);
                operation.write(broker).await?;
                self.taken.insert(name);
                soon = Some(SETTLE);
            }
        }
        Ok(soon)
    }
}

#[async_trait]
impl BackgroundLoop for OperationLoop {
    fn name(&self) -> &'static str {
        "operations"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        self.look().await.unwrap_or_else(|error| {
            self.parts.health.failed("look for operations", &error);
            None
        })
    }
}

/// Why work ended before its end.
enum Interruption {
    /// Someone cancelled it.
    Cancelled(String),
    /// Another instance has it.
    Taken,
    /// This process stops.
    Stopping,
}

/// Writes progress, and looks whether to go on.
struct Progress {
    parts: Arc<OperationParts>,
    last: Instant,
    why: Option<Interruption>,
}

impl Progress {
    async fn beat(&mut self, operation: &mut Operation) -> BrokerResult<()> {
        let broker = &*self.parts.broker;
        if let Some(by) = broker.document(CANCELS, &operation.id).await? {
            let by = String::from_utf8_lossy(&by).into_owned();
            self.why = Some(Interruption::Cancelled(by));
            return Ok(());
        }
        let stored = find(broker, &operation.id).await?;
        if stored.is_none_or(|stored| stored.instance != operation.instance) {
            self.why = Some(Interruption::Taken);
            return Ok(());
        }
        operation.seen = Some(broker.now().await?);
        operation.write(broker).await
    }
}

#[async_trait]
impl ProgressReport for Progress {
    async fn go_on(&mut self, operation: &mut Operation) -> bool {
        if self.parts.stop.is_cancelled() {
            self.why = Some(Interruption::Stopping);
        } else if self.last.elapsed() >= BEAT {
            self.last = Instant::now();
            if let Err(error) = self.beat(operation).await {
                self.parts.health.failed("write the progress of an operation", &error);
            }
        }
        self.why.is_none()
    }
}

async fn carry_out(parts: Arc<OperationParts>, mut operation: Operation) {
    let began = parts.broker.now().await.unwrap_or_else(|_| parts.clock.now());
    operation.began.get_or_insert(began);
    let mut progress = Progress {
        parts: Arc::clone(&parts),
        // The first part is followed by a look.
        last: Instant::now().checked_sub(BEAT).unwrap_or_else(Instant::now),
        why: None,
    };
    let mut failing: Option<Instant> = None;
    let end = loop {
        let before = operation.done;
        let result = OperationWork::new(&*parts.broker, &mut progress)
            .run(&mut operation)
            .await;
        match (result, progress.why.take()) {
            (_, Some(Interruption::Taken)) => return,
            (_, Some(Interruption::Stopping)) => {
                // At once another instance may continue.
                operation.seen = None;
                if let Err(error) = operation.write(&*parts.broker).await {
                    parts.health.failed("hand an operation over", &error);
                }
                return;
            }
            (_, Some(Interruption::Cancelled(by))) => {
                operation.cancelled_by = Some(by);
                break OperationEnd::Cancelled;
            }
            (Ok(_), None) => break OperationEnd::Done,
            (Err(error), None) => {
                if operation.done > before {
                    failing = None;
                }
                if !noted(&parts, &mut operation, &error, &mut failing).await {
                    break OperationEnd::Failed;
                }
            }
        }
    };
    finish(&parts, &mut operation, end).await;
}

/// Notes a failed call. Returns whether to try again, after a pause.
#[allow(clippy::disallowed_methods)] // the time that a broker is given to recover
async fn noted(
    parts: &OperationParts,
    operation: &mut Operation,
    error: &BrokerError,
    failing: &mut Option<Instant>,
) -> bool {
    operation.failed += 1;
    let why = chain(error);
    operation.error = Some(why[..why.floor_char_boundary(MAX_NOTE)].to_owned());
    parts.health.failed("carry out an operation", error);
    let since = failing.get_or_insert_with(Instant::now);
    if since.elapsed() > PATIENCE || !error.is_transient() && operation.failed >= 3 {
        return false;
    }
    tokio::time::sleep(AGAIN).await;
    true
}

/// Writes the end down, for as long as a broker that is away is waited for.
#[allow(clippy::disallowed_methods)] // the time that a broker is given to recover
async fn finish(parts: &OperationParts, operation: &mut Operation, end: OperationEnd) {
    let broker = &*parts.broker;
    let ended = broker.now().await.unwrap_or_else(|_| parts.clock.now());
    operation.ended = Some((ended, end));
    operation.seen = Some(ended);
    let outcome = match end {
        OperationEnd::Done => "done",
        OperationEnd::Cancelled => "cancelled",
        OperationEnd::Failed => "failed",
    };
    let (action, on, actor) = (operation.verb.audited(), operation.target(), &operation.by);
    let outcome = format!("{outcome}: {} done, {} skipped", operation.done, operation.skipped);
    tracing::info!(target: "audit", action, %on, %actor, operation = %operation.id, %outcome);
    parts.audit.put(AuditEntry {
        at: ended,
        by: operation.cancelled_by.clone().unwrap_or_else(|| operation.by.clone()),
        from: operation.from.clone().filter(|_| operation.cancelled_by.is_none()),
        action: action.to_owned(),
        target: on,
        note: operation.note.clone(),
        before: None,
        after: Some(format!("operation {}", operation.id)),
        outcome,
    });
    let until = Instant::now() + PATIENCE;
    while let Err(error) = written(broker, operation).await {
        parts.health.failed("write the end of an operation", &error);
        if Instant::now() >= until || parts.stop.is_cancelled() {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn written(broker: &dyn Broker, operation: &Operation) -> BrokerResult<()> {
    operation.write(broker).await?;
    broker.drop_document(OPEN, &operation.id).await?;
    broker.drop_document(CANCELS, &operation.id).await
}
