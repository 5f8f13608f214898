//! Connections that only read, a bounded number of them, and the threads that wait for their answers.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;

use super::cells::Row;
use super::condition::Condition;
use super::link::{Executor, Link, Query, SqlError};

/// Connections; each answer holds up a thread meanwhile. Pages and pollers need no more.
const READERS: usize = 4;

/// How long a question waits for a free connection; longer than a statement waits for a lock, so that the cause is
/// reported.
const PATIENCE: Duration = Duration::from_secs(10);

/// The connections; opened when they are needed, and kept.
#[derive(Clone)]
pub(super) struct Readers(Arc<Inner>);

struct Inner {
    path: PathBuf,
    /// Where SQLite writes first.
    log: PathBuf,
    condition: Arc<Condition>,
    permits: Arc<Semaphore>,
    free: Mutex<Vec<Link>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf, condition: Arc<Condition>) -> Self {
        let mut log = path.clone().into_os_string();
        log.push("-wal");
        Self(Arc::new(Inner {
            path,
            log: log.into(),
            condition,
            permits: Arc::new(Semaphore::new(READERS)),
            free: Mutex::default(),
        }))
    }

    /// When anybody last wrote, as far as the file system tells: another answer than before means that somebody has.
    pub(super) fn last_write(&self) -> Option<(SystemTime, u64)> {
        let log = std::fs::metadata(&self.0.log).ok()?;
        Some((log.modified().ok()?, log.len()))
    }

    /// Answers no more questions.
    pub(super) fn close(&self) {
        self.0.permits.close();
        self.0.free.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Inner {
    fn ask(&self, query: &Query) -> Result<(Vec<Row>, u64), SqlError> {
        let kept = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let link = match kept {
            Some(link) => link,
            None => {
                // Another file would be read as if it were ours.
                self.condition.in_place()?;
                Link::open_to_read(&self.path)?
            }
        };
        let answer = link.ask(query);
        if let Err(error) = &answer {
            self.condition.met(error);
        }
        if !self.permits.is_closed() {
            self.free.lock().unwrap_or_else(PoisonError::into_inner).push(link);
        }
        answer
    }
}

impl Executor for &Readers {
    async fn run(self, query: Query) -> Result<(Vec<Row>, u64), SqlError> {
        let inner = Arc::clone(&self.0);
        let permit = tokio::time::timeout(PATIENCE, Arc::clone(&inner.permits).acquire_owned()).await;
        let permit = permit
            .map_err(|_| SqlError::Gone("all connections that read are busy"))?
            .map_err(|_| SqlError::Gone("the file is closed"))?;
        let asked = tokio::task::spawn_blocking(move || {
            let answer = inner.ask(&query);
            drop(permit);
            answer
        });
        asked
            .await
            .map_err(|_| SqlError::Gone("the thread that asked has ended"))?
    }
}
