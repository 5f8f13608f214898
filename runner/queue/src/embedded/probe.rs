//! Looks whether a task would be accepted now: by what was met, and by a write of its own when nothing else wrote.
//!
//! Also looks through the whole file for damage: once after the start, and again now and then after some was met.

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

const DOING: &str = "see whether it can be written";

/// Bytes that must find room before a file that refused a write counts as writable again: a few large transactions.
const ROOM: i64 = 256 * 1024;

/// How long one look through the whole file may take; what was not looked at by then is looked at when it is used.
const LONGEST_LOOK: Duration = Duration::from_secs(5);

/// The time between two such looks while the file is known to be damaged.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What is remembered between two probes.
#[derive(Default)]
pub(super) struct WriteProbe {
    /// Writes at the last one.
    seen: AtomicU64,
    /// When the last look through the whole file began.
    looked: Mutex<Option<Instant>>,
}

impl WriteProbe {
    /// One probe.
    pub(super) async fn probe(&self, health: &Arc<FileHealth>, path: &Path, writer: &Writer) -> BrokerResult<()> {
        health.check_in_place().map_err(|e| broker_error(DOING, e))?;
        if self.is_look_due(health.damage().is_some()) {
            let (health, path) = (Arc::clone(health), path.to_path_buf());
            tokio::spawn(async move { check_pages(&health, &path).await });
        }
        if let Some(damage) = health.damage() {
            let what = format!("the file is damaged: {damage}");
            return Err(BrokerError::Corrupt { doing: DOING, what });
        }
        if health.refused() {
            fill(writer, ROOM).await?;
            fill(writer, 0).await?;
            health.note_room();
        } else if health.writes() == self.seen.load(Ordering::Relaxed) {
            fill(writer, 0).await?;
        }
        self.seen.store(health.writes(), Ordering::Relaxed);
        Ok(())
    }

    fn is_look_due(&self, damaged: bool) -> bool {
        let now = Instant::now();
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let due = looked.is_none_or(|at| damaged && now.duration_since(at) >= LOOK_AGAIN);
        if due {
            *looked = Some(now);
        }
        due
    }
}

/// Looks at every page, on a thread of its own, and interrupts the statement when it takes too long.
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

/// Writes this many bytes in place of those of the last time.
async fn fill(writer: &Writer, bytes: i64) -> BrokerResult<()> {
    let change = move |tx: &mut Tx<'_>| {
        let text = "INSERT INTO probes (one, room) VALUES (1, zeroblob(?1)) \
             ON CONFLICT (one) DO UPDATE SET room = excluded.room";
        tx.conn.exec(text, [bytes]).map(drop)
    };
    writer.write_unsynced(DOING, change).await
}
