//! Connections that only read, a bounded number of them, and the blocking threads that questions run on.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::connection;
use super::error::{SqlError, broker_error};
use super::health::FileHealth;
use crate::BrokerResult;

/// Connections; each question holds up a thread meanwhile. Pages and pollers need no more.
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
    health: Arc<FileHealth>,
    permits: Arc<Semaphore>,
    free: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf, health: Arc<FileHealth>) -> Self {
        let mut log = path.clone().into_os_string();
        log.push("-wal");
        Self(Arc::new(Inner {
            path,
            log: log.into(),
            health,
            permits: Arc::new(Semaphore::new(READERS)),
            free: Mutex::default(),
        }))
    }

    /// Runs a question on a connection that cannot write, off the runtime.
    ///
    /// A permit is held from before a connection is taken until it is back, so there are never more connections than
    /// permits. The permit moves into the thread: a caller that gives up does not free the place of a question that
    /// still runs.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        doing: &'static str,
        question: impl FnOnce(&Connection) -> Result<T, SqlError> + Send + 'static,
    ) -> BrokerResult<T> {
        self.answer(question).await.map_err(|e| broker_error(doing, e))
    }

    async fn answer<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<T, SqlError> {
        let inner = Arc::clone(&self.0);
        let permit = tokio::time::timeout(PATIENCE, Arc::clone(&inner.permits).acquire_owned()).await;
        let permit = permit
            .map_err(|_| SqlError::Unavailable("all connections that read are busy"))?
            .map_err(|_| SqlError::Unavailable("the file is closed"))?;
        let asked = tokio::task::spawn_blocking(move || {
            let answer = inner.ask(question);
            drop(permit);
            answer
        });
        asked
            .await
            .map_err(|_| SqlError::Unavailable("the thread that asked has ended"))?
    }

    /// When the file was last written, as far as the file system knows: a change means that some process has written.
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
    /// The lock on the free connections is never held while a statement runs. A question that panics takes its
    /// connection with it.
    fn ask<T>(&self, question: impl FnOnce(&Connection) -> Result<T, SqlError>) -> Result<T, SqlError> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let conn = match free {
            Some(conn) => conn,
            None => {
                // Another file under the same name must not be read.
                self.health.check_in_place()?;
                connection::open_to_read(&self.path)?
            }
        };
        let answer = question(&conn);
        if let Err(error) = &answer {
            self.health.note_error(error);
        }
        if !self.permits.is_closed() {
            self.free.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
        }
        answer
    }
}
