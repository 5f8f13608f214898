//! Turns of the processes that write to one file.
//!
//! SQLite's lock is not fair: a process that writes without a pause takes it again before another one, which asks once in a
//! while, sees that it was free. Such a process could keep the verdicts of the others waiting until their leases are over and
//! their tasks run twice. So a process first takes its turn, a lock on a file beside the store, and keeps it until it has SQLite's
//! lock: the one that waits there is the next to write.
//!
//! Not here: mutual exclusion, which stays SQLite's. Without the file, or beside a process that is frozen during its turn,
//! writes go on without turns.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

/// Between two looks whether the turn is free, and whether SQLite's lock is.
const PAUSE: Duration = Duration::from_millis(1);

/// A turn lasts until the transaction of one other process has ended. A process that keeps it for longer is frozen.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long no turns are taken after that.
const WITHOUT: Duration = Duration::from_secs(30);

/// Looks for SQLite's lock before a write fails: about as long as every other statement waits.
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // 5,000
const LOOKS: i32 = (super::connection::BUSY_TIMEOUT.as_millis() / PAUSE.as_millis()) as i32;

/// SQLite calls this while the lock is taken. Mostly one process waits here, the one whose turn it is.
pub(super) fn wait_for_lock(looks: i32) -> bool {
    std::thread::park_timeout(PAUSE);
    looks < LOOKS
}

/// Takes turns for one process.
pub(super) struct WriteTurns {
    file: Option<File>,
    without_until: Option<Instant>,
}

impl WriteTurns {
    /// For the store at this path.
    pub(super) fn of(store: &Path) -> Self {
        let mut path = store.to_path_buf().into_os_string();
        path.push("-turn");
        let mut how = OpenOptions::new();
        how.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut how, 0o600);
        let file = how.open(PathBuf::from(path));
        if let Err(error) = &file {
            tracing::debug!(%error, "no lock beside the file: processes that write to it take no turns");
        }
        Self {
            file: file.ok(),
            without_until: None,
        }
    }

    /// Waits for the turn. It ends when the answer is dropped.
    pub(super) fn take(&mut self) -> Option<Turn<'_>> {
        if self.without_until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let file = self.file.as_ref()?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Some(Turn(file)),
                Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => std::thread::park_timeout(PAUSE),
                Err(error) => {
                    tracing::warn!(%error, "another process holds up writes to the file; for a while they take no turns");
                    self.without_until = Some(Instant::now() + WITHOUT);
                    return None;
                }
            }
        }
    }
}

/// The turn of this process.
pub(super) struct Turn<'a>(&'a File);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Fails only for a file that is not open; closing it ends the turn too.
        self.0.unlock().unwrap_or(());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_one_has_the_turn_and_a_frozen_one_does_not_hold_up_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("q.db");
        let (mut first, mut second) = (WriteTurns::of(&store), WriteTurns::of(&store));
        let turn = first.take();
        assert!(turn.is_some());
        let began = Instant::now();
        assert!(second.take().is_none() && began.elapsed() >= PATIENCE);
        let began = Instant::now();
        assert!(
            second.take().is_none() && began.elapsed() < PATIENCE,
            "it waits only once"
        );
        drop(turn);
        second.without_until = None;
        assert!(second.take().is_some());
        assert!(first.take().is_some(), "it ended with its answer");
    }

    #[tokio::test]
    async fn a_write_waits_for_the_turn_of_another_process_and_not_for_a_frozen_one() {
        use crate::Producer as _;
        let dir = tempfile::tempdir().unwrap();
        let clock = std::sync::Arc::new(runner_core::clock::SystemClock);
        let broker = super::super::EmbeddedBroker::open(dir.path().join("q.db"), clock)
            .await
            .unwrap();
        let mut other = WriteTurns::of(broker.path());
        let turn = other.take();
        let began = Instant::now();
        let placed = broker.enqueue(&[runner_core::task::Task::new("a")]).await.unwrap();
        let took = began.elapsed();
        placed[0].as_ref().unwrap();
        assert!(
            took >= PATIENCE,
            "the other process had the turn, yet it was written after {took:?}"
        );
        drop(turn);
    }
}
