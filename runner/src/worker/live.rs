//! The runs in progress, for those who watch them: which of them have printed or progressed since they were written last.
//!
//! Runs that take less than a second are never written, so short tasks cost nothing but an entry in a table. Not here: writing
//! (`live_reporter`).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runner_core::task::{QueueName, TaskId};
use runner_queue::LIVE_KEPT_FOR;
use runner_sdk::{Ctx, Progress};
use tokio::time::Instant;

/// Pause between two looks, and how long a run takes at least to be shown.
pub(super) const EVERY: Duration = Duration::from_secs(1);

/// Views written in one turn, the longest unwritten first: a hundred runs that print all the time must not keep the store
/// busy.
const WRITTEN_A_TURN: usize = 16;

/// Views of runs that are over and not removed yet.
const MAX_OVER: usize = 1000;

/// A run in progress.
struct Entry {
    cx: Ctx,
    began: Instant,
    written: Option<Written>,
}

/// What was written of it last.
#[derive(Clone, PartialEq)]
pub(super) struct Written {
    at: Instant,
    lines: u64,
    pub(super) progress: Option<Progress>,
}

#[derive(Default)]
struct Table {
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    /// Runs that are over and whose view is in the store; at most [`MAX_OVER`], because a view expires anyway.
    over: Vec<(QueueName, TaskId)>,
}

/// The runs in progress.
#[derive(Default)]
pub(super) struct LiveRuns(Mutex<Table>);

/// The place of a run among them, until this is dropped.
pub(super) struct LivePlace<'r> {
    runs: &'r LiveRuns,
    place: usize,
}

impl Drop for LivePlace<'_> {
    fn drop(&mut self) {
        self.runs.leave(self.place);
    }
}

impl LiveRuns {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a run, whose handler waits for something.
    pub(super) fn enter(&self, cx: &Ctx) -> LivePlace<'_> {
        let entry = Entry {
            cx: cx.clone(),
            began: Instant::now(),
            written: None,
        };
        let mut table = self.lock();
        let place = match table.free.pop() {
            Some(place) => {
                table.entries[place] = Some(entry);
                place
            }
            None => {
                table.entries.push(Some(entry));
                table.entries.len() - 1
            }
        };
        LivePlace { runs: self, place }
    }

    /// Removes a run that is over.
    fn leave(&self, place: usize) {
        let mut table = self.lock();
        let Some(entry) = table.entries.get_mut(place).and_then(Option::take) else {
            return;
        };
        table.free.push(place);
        if entry.written.is_some() && table.over.len() < MAX_OVER {
            table.over.push((entry.cx.queue().clone(), entry.cx.id().clone()));
        }
    }

    /// The runs to write now, with their places.
    pub(super) fn due(&self) -> Vec<(usize, Ctx, Written)> {
        let now = Instant::now();
        let table = self.lock();
        let all = table.entries.iter().enumerate();
        let mut due: Vec<_> = all
            .filter_map(|(place, entry)| {
                let entry = entry
                    .as_ref()
                    .filter(|entry| now.duration_since(entry.began) >= EVERY)?;
                let state = Written {
                    at: now,
                    lines: entry.cx.log().lines(),
                    progress: entry.cx.last_progress(),
                };
                let written = entry.written.as_ref();
                let is_new = match written {
                    None => state.lines > 0 || state.progress.is_some(),
                    Some(last) => {
                        (last.lines, &last.progress) != (state.lines, &state.progress)
                            || now.duration_since(last.at) > LIVE_KEPT_FOR / 3
                    }
                };
                is_new.then(|| (written.map(|last| last.at), place, entry.cx.clone(), state))
            })
            .collect();
        due.sort_by_key(|(last, ..)| *last);
        due.truncate(WRITTEN_A_TURN);
        due.into_iter()
            .map(|(_, place, cx, state)| (place, cx, state))
            .collect()
    }

    /// Notes what is being written, unless the run has left its place meanwhile.
    pub(super) fn note(&self, place: usize, cx: &Ctx, state: Written) -> bool {
        let mut table = self.lock();
        let entry = table.entries.get_mut(place).and_then(Option::as_mut);
        let same = entry.filter(|entry| entry.cx.is_same(cx));
        same.map(|entry| entry.written = Some(state)).is_some()
    }

    pub(super) fn take_over(&self) -> Option<(QueueName, TaskId)> {
        self.lock().over.pop()
    }
}
