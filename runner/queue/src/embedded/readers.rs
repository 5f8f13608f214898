//! A bounded pool of read-only connections, and the blocking threads that run queries on them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::connection;
use super::error::{SqlError, broker_error};
use super::health::FileHealth;
use crate::BrokerResult;

/// Number of connections; each query occupies a thread. Pages and pollers need no more.
const READERS: usize = 4;

/// How long a query waits for a free connection; longer than a statement waits for a lock, so that the lock is reported as
/// the cause.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pool; connections are opened on demand and reused.
#[derive(Clone)]
pub(super) struct Readers(Arc<Inner>);

struct Inner {
    path: PathBuf,
    /// The write-ahead log, which every write touches first.
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

    /// Runs a query on a read-only connection, off the runtime.
    ///
    /// A permit is held from before a connection is taken until it is back, so there are never more connections than
    /// permits. The permit moves into the thread: a caller that gives up does not free the place of a query that still
    /// runs.
    pub(super) async fn query<T: Send + 'static>(
        &self,
        doing: &'static str,
        query: impl FnOnce(&Connection) -> Result<T, SqlError> + Send + 'static,
    ) -> BrokerResult<T> {
        self.run(query).await.map_err(|e| broker_error(doing, e))
    }

    async fn run<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<T, SqlError> {
        let inner = Arc::clone(&self.0);
        let permit = tokio::time::timeout(PATIENCE, Arc::clone(&inner.permits).acquire_owned()).await;
        let permit = permit
            .map_err(|_| SqlError::Unavailable("all connections that read are busy"))?
            .map_err(|_| SqlError::Unavailable("the file is closed"))?;
        let running = tokio::task::spawn_blocking(move || {
            let result = inner.query(query);
            drop(permit);
            result
        });
        running
            .await
            .map_err(|_| SqlError::Unavailable("the thread of the query has ended"))?
    }

    /// When the log was last written and its length; a change means that some process has written.
    pub(super) fn last_write(&self) -> Option<(SystemTime, u64)> {
        let log = std::fs::metadata(&self.0.log).ok()?;
        Some((log.modified().ok()?, log.len()))
    }

    /// Refuses further queries.
    pub(super) fn close(&self) {
        self.0.permits.close();
        self.0.free.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Inner {
    /// The lock on the free connections is never held while a statement runs. A query that panics takes its connection with
    /// it.
    fn query<T>(&self, query: impl FnOnce(&Connection) -> Result<T, SqlError>) -> Result<T, SqlError> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let conn = match free {
            Some(conn) => conn,
            None => {
                // The path may lead to another file by now, which must not be read.
                self.health.check_in_place()?;
                connection::open_to_read(&self.path)?
            }
        };
        let result = query(&conn);
        if let Err(error) = &result {
            self.health.note_error(error);
        }
        // After `close` the connection is dropped instead, so that the file can be closed.
        if !self.permits.is_closed() {
            self.free.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
        }
        result
    }
}
