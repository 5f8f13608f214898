//! The file: its creation and its migrations.
//!
//! Not here: any statement about tasks or schedules.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use tokio::time::Instant;

use super::connection::{self, Statements as _};
use super::error::{SqlError, broker_error};
use super::file_size;
use super::health::FileHealth;
use super::readers::Readers;
use crate::{BoxError, BrokerError, BrokerResult};

/// The migrations in order; the position (from 1) is the `user_version` after each.
const MIGRATIONS: [&str; 20] = [
    include_str!("../../migrations/sqlite/0001_broker.sql"),
    include_str!("../../migrations/sqlite/0002_lost_runs.sql"),
    include_str!("../../migrations/sqlite/0003_groups.sql"),
    include_str!("../../migrations/sqlite/0004_decisions_per_schedule.sql"),
    include_str!("../../migrations/sqlite/0005_probes.sql"),
    include_str!("../../migrations/sqlite/0006_documents.sql"),
    include_str!("../../migrations/sqlite/0007_stop_requests.sql"),
    include_str!("../../migrations/sqlite/0008_cursors.sql"),
    include_str!("../../migrations/sqlite/0009_suspects.sql"),
    include_str!("../../migrations/sqlite/0010_runs.sql"),
    include_str!("../../migrations/sqlite/0011_by_hand.sql"),
    include_str!("../../migrations/sqlite/0012_pauses.sql"),
    include_str!("../../migrations/sqlite/0013_receipts.sql"),
    include_str!("../../migrations/sqlite/0014_run_outputs.sql"),
    include_str!("../../migrations/sqlite/0015_limits.sql"),
    include_str!("../../migrations/sqlite/0016_workflows.sql"),
    include_str!("../../migrations/sqlite/0017_workflow_results.sql"),
    include_str!("../../migrations/sqlite/0018_document_index.sql"),
    include_str!("../../migrations/sqlite/0019_run_counts.sql"),
    include_str!("../../migrations/sqlite/0020_audit_entries.sql"),
];

/// How long opening is retried while another process locks the file. Two processes that create a file at once block
/// each other, and SQLite does not always wait then; a new connection sees what the other one did.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// Opens the file, runs missing migrations, and makes the writing connection and the readers. Blocks the thread on the
/// disk.
pub(super) fn open(path: &Path) -> BrokerResult<(Connection, Readers, Arc<FileHealth>)> {
    let began = Instant::now();
    loop {
        match try_open(path) {
            Err(BrokerError::Unreachable { doing, source }) if is_locked(&source) && began.elapsed() < PATIENCE => {
                tracing::debug!(doing, error = %source, "the file is locked by another process; it is tried again");
                std::thread::park_timeout(PAUSE);
            }
            opened => return opened,
        }
    }
}

/// Whether another process holds a lock, so that waiting helps.
fn is_locked(error: &BoxError) -> bool {
    let code = error.downcast_ref::<Arc<SqlError>>().and_then(|error| error.code());
    matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn try_open(path: &Path) -> BrokerResult<(Connection, Readers, Arc<FileHealth>)> {
    const DOING: &str = "open its file";
    make_file(path).map_err(|e| BrokerError::Refused {
        doing: "create its file",
        source: format!("{}: {e}", path.display()).into(),
    })?;
    let writer = connection::open(path).map_err(|e| broker_error(DOING, e))?;
    migrate(&writer)?;
    file_size::rewrite_if_small(&writer).map_err(|e| broker_error(DOING, e))?;
    let health = Arc::new(FileHealth::of(path));
    let readers = Readers::new(path.to_path_buf(), Arc::clone(&health));
    Ok((writer, readers, health))
}

/// Creates the directory and the file if they are missing, readable by their owner only: payloads may be private.
///
/// # Errors
///
/// If one of them cannot be created.
pub fn make_file(path: &Path) -> std::io::Result<()> {
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

const UPDATING: &str = "bring its file up to date";

/// Runs missing migrations in one transaction, so that several processes may open the file at once. An up-to-date file
/// is not locked, because others may be writing continuously.
fn migrate(writer: &Connection) -> BrokerResult<()> {
    let failed = |e: rusqlite::Error| broker_error(UPDATING, e.into());
    if steps_done(writer)? == MIGRATIONS.len() {
        return Ok(());
    }
    writer.execute_batch("BEGIN IMMEDIATE").map_err(failed)?;
    for (index, text) in MIGRATIONS.iter().enumerate().skip(steps_done(writer)?) {
        writer.execute_batch(text).map_err(failed)?;
        let version = format!("PRAGMA user_version = {}", index + 1);
        writer.execute_batch(&version).map_err(failed)?;
    }
    writer.execute_batch("COMMIT").map_err(failed)
}

/// The number of migrations that have run.
fn steps_done(writer: &Connection) -> BrokerResult<usize> {
    let version = writer.value::<i64>("PRAGMA user_version", []);
    let version = version.map_err(|e| broker_error(UPDATING, e))?;
    let done = usize::try_from(version).unwrap_or(0);
    if done > MIGRATIONS.len() {
        return Err(BrokerError::Refused {
            doing: UPDATING,
            source: format!(
                "the file has version {version}, this program knows versions up to {}; use a newer program",
                MIGRATIONS.len()
            )
            .into(),
        });
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn several_may_make_a_new_file_at_once() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..10 {
            let path = dir.path().join(format!("{round}.db"));
            let start = std::sync::Barrier::new(4);
            let times: Vec<Duration> = std::thread::scope(|scope| {
                let makers: Vec<_> = (0..4)
                    .map(|_| {
                        scope.spawn(|| {
                            start.wait();
                            let began = Instant::now();
                            let (conn, ..) = open(&path).unwrap();
                            assert_eq!(steps_done(&conn).unwrap(), MIGRATIONS.len());
                            assert!(file_size::releases_pages(&conn).unwrap());
                            began.elapsed()
                        })
                    })
                    .collect();
                makers.into_iter().map(|maker| maker.join().unwrap()).collect()
            });
            println!("a file made by four at once was open after {times:.0?}");
        }
    }
}
