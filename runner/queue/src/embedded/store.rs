//! The file: how it is opened, which pragmas hold, which migrations have run, what its errors mean.
//!
//! Not here: any statement about tasks or schedules.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row, Sqlite, SqlitePool};

use crate::{BoxError, BrokerError, BrokerResult};

/// How long a statement waits for another process that is writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a reader waits for a connection; longer than [`BUSY_TIMEOUT`] so that the cause is reported.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that only read; each is a thread. Pages and pollers need no more.
const READERS: u32 = 4;

/// Prepared statements kept by each connection; above the number of different ones in this room.
const STATEMENTS: usize = 256;

/// What a file needs, in order; its position (from 1) is the `user_version` that the file has afterwards.
const MIGRATIONS: [&str; 3] = [
    include_str!("../../../../migrations/sqlite/0001_broker.sql"),
    include_str!("../../../../migrations/sqlite/0002_lost_runs.sql"),
    include_str!("../../../../migrations/sqlite/0003_groups.sql"),
];

/// A query of this room: prepared once for each connection.
pub(super) type Query = sqlx::query::Query<'static, Sqlite, SqliteArguments>;

/// Starts a query whose text is fixed.
pub(super) fn sql(text: &'static str) -> Query {
    sqlx::query(text)
}

/// Starts a query whose text was put together from this room's own constants, never from input.
pub(super) fn built(text: String) -> Query {
    sqlx::query(sqlx::AssertSqlSafe(text))
}

/// One file under two pools: a single writer, so that no transaction of this process ever waits for
/// another one of it half way, and readers that cannot write.
#[derive(Debug, Clone)]
pub(super) struct Store {
    pub(super) writer: SqlitePool,
    pub(super) readers: SqlitePool,
}

impl Store {
    pub(super) async fn open(path: &Path) -> BrokerResult<Self> {
        create(path).map_err(|e| BrokerError::Refused {
            doing: "create its file",
            source: format!("{}: {e}", path.display()).into(),
        })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .statement_cache_capacity(STATEMENTS);
        let pool = || {
            SqlitePoolOptions::new()
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .test_before_acquire(false)
                .idle_timeout(None)
                .max_lifetime(None)
        };
        let failed = |e| error("open its file", e);
        let writer = pool()
            .max_connections(1)
            .connect_with(options.clone().thread_name(|_| "queue-writer".to_owned()))
            .await
            .map_err(failed)?;
        migrate(&writer).await?;
        let readers = pool()
            .max_connections(READERS)
            .connect_with(
                options
                    .pragma("query_only", "on")
                    .thread_name(|_| "queue-reader".to_owned()),
            )
            .await
            .map_err(failed)?;
        Ok(Self { writer, readers })
    }
}

/// Makes the directory and the file if they are missing, for nobody else's eyes: payloads may be private.
fn create(path: &Path) -> std::io::Result<()> {
    let mut directory = std::fs::DirBuilder::new();
    let mut file = std::fs::OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        directory.mode(0o700);
        file.mode(0o600);
    }
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        directory.recursive(true).create(parent)?;
    }
    file.append(true).create(true).open(path).map(drop)
}

/// Brings the file up to date in one transaction, so that several processes may open it at once.
async fn migrate(writer: &SqlitePool) -> BrokerResult<()> {
    const DOING: &str = "bring its file up to date";
    let failed = |e| error(DOING, e);
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let row = sql("PRAGMA user_version").fetch_one(&mut *tx).await.map_err(failed)?;
    let version: i64 = row.try_get(0).map_err(failed)?;
    let done = usize::try_from(version).unwrap_or(0);
    if done > MIGRATIONS.len() {
        return Err(BrokerError::Refused {
            doing: DOING,
            source: format!(
                "the file has version {version}, this program knows versions up to {}; use a newer program",
                MIGRATIONS.len()
            )
            .into(),
        });
    }
    for (index, text) in MIGRATIONS.iter().enumerate().skip(done) {
        sqlx::raw_sql(*text).execute(&mut *tx).await.map_err(failed)?;
        let version = format!("PRAGMA user_version = {}", index + 1);
        built(version).execute(&mut *tx).await.map_err(failed)?;
    }
    tx.commit().await.map_err(failed)
}

/// Says in the seam's words what went wrong below it.
pub(super) fn error(doing: &'static str, cause: sqlx::Error) -> BrokerError {
    shared_error(doing, &Arc::new(cause))
}

/// The same for a cause that several callers get to hear.
pub(super) fn shared_error(doing: &'static str, cause: &Arc<sqlx::Error>) -> BrokerError {
    let source: BoxError = Box::new(Arc::clone(cause));
    match &**cause {
        sqlx::Error::Database(e) => match primary_code(e.code().as_deref()) {
            // BUSY, LOCKED, NOMEM, INTERRUPT, IOERR, PROTOCOL: the file or the machine is in the way for now.
            Some(5 | 6 | 7 | 9 | 10 | 15) => BrokerError::Unreachable { doing, source },
            Some(13) => BrokerError::Full { doing, source },
            // CORRUPT, NOTADB
            Some(11 | 26) => BrokerError::Corrupt {
                doing,
                what: format!("the file is not a sound database: {e}"),
            },
            _ => BrokerError::Refused { doing, source },
        },
        sqlx::Error::Decode(e) | sqlx::Error::ColumnDecode { source: e, .. } => BrokerError::Corrupt {
            doing,
            what: e.to_string(),
        },
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            BrokerError::Unreachable { doing, source }
        }
        _ => BrokerError::Refused { doing, source },
    }
}

/// The low byte of SQLite's extended result code.
fn primary_code(code: Option<&str>) -> Option<u32> {
    Some(code?.parse::<u32>().ok()? & 0xff)
}
