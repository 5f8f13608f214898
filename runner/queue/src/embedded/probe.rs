//! Checks whether a task would be accepted now: from recorded errors, and by a small write if nothing else was written.
//!
//! Also checks the whole file for damage: once after the start, and repeatedly while it is known to be damaged.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::connection::{self, Statements as _};
use super::error::broker_error;
use super::health::FileHealth;
use super::writer::{Tx, Writer};
use crate::{BrokerError, BrokerResult};

const DOING: &str = "check whether it can be written";

/// Bytes that must be written before a file that refused a write counts as writable again: a few large transactions.
const ROOM: i64 = 256 * 1024;

/// How long one check of the whole file may take; damage in the rest is found when it is used.
const LONGEST_LOOK: Duration = Duration::from_secs(5);

/// The time between two such checks while the file is known to be damaged.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// The state between two probes.
#[derive(Default)]
pub(super) struct WriteProbe {
    /// Number of writes at the last probe.
    seen: AtomicU64,
    /// When the last check of the whole file began.
    checked_at: Mutex<Option<Instant>>,
}

impl WriteProbe {
    /// Runs one probe.
    pub(super) async fn probe(&self, health: &Arc<FileHealth>, path: &Path, writer: &Writer) -> BrokerResult<()> {
        health.check_in_place().map_err(|e| broker_error(DOING, e))?;
        // In the background: reading a large file takes longer than callers of a probe wait.
        if self.is_look_due(health.damage().is_some()) {
            let (health, path) = (Arc::clone(health), path.to_path_buf());
            tokio::spawn(async move { check_pages(&health, &path).await });
        }
        if let Some(damage) = health.damage() {
            let what = format!("the file is damaged: {damage}");
            return Err(BrokerError::Corrupt { doing: DOING, what });
        }
        if health.refused() {
            // A tiny write may still fit into a free page of a full disk; only a larger one proves that there is room.
            // It is freed again, for the next transactions.
            fill(writer, ROOM).await?;
            fill(writer, 0).await?;
            health.note_room();
        } else if health.writes() == self.seen.load(Ordering::Relaxed) {
            fill(writer, 0).await?;
        }
        // Counted after the probe's own write, so that this one is not taken for another caller's.
        self.seen.store(health.writes(), Ordering::Relaxed);
        Ok(())
    }

    fn is_look_due(&self, damaged: bool) -> bool {
        let now = Instant::now();
        let mut checked_at = self.checked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let due = checked_at.is_none_or(|at| damaged && now.duration_since(at) >= LOOK_AGAIN);
        if due {
            *checked_at = Some(now);
        }
        due
    }
}

/// Checks every page on a separate thread, and interrupts the statement when it takes too long.
async fn check_pages(health: &FileHealth, path: &Path) {
    let conn = match connection::open_to_read(path) {
        Ok(conn) => conn,
        Err(error) => return health.note_error(&error),
    };
    let stop = conn.get_interrupt_handle();
    let looking = tokio::task::spawn_blocking(move || conn.value::<String>("PRAGMA quick_check(1)", []));
    tokio::pin!(looking);
    let answer = match tokio::time::timeout(LONGEST_LOOK, &mut looking).await {
        Ok(answer) => answer,
        // Interrupted, not abandoned: the thread would go on reading, and the next check come on top of it.
        Err(_) => {
            stop.interrupt();
            looking.await
        }
    };
    match answer {
        Ok(Ok(found)) if found == "ok" => health.note_sound(),
        Ok(Ok(found)) => health.note_damage(&found),
        Ok(Err(error)) => health.note_error(&error),
        Err(error) => tracing::debug!(%error, "the look through the file broke down"),
    }
}

/// Writes this many bytes in place of the previous probe's.
async fn fill(writer: &Writer, bytes: i64) -> BrokerResult<()> {
    let change = move |tx: &mut Tx<'_>| {
        let text = "INSERT INTO probes (one, room) VALUES (1, zeroblob(?1)) \
             ON CONFLICT (one) DO UPDATE SET room = excluded.room";
        tx.conn.exec(text, [bytes]).map(drop)
    };
    writer.write_unsynced(DOING, change).await
}
