//! The model: the content of a store, as plain maps and lists, and the elementary moves of its operations.
//!
//! Not here: the operations (`produce`, `work`, `act`) and the queries (`look`).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use runner_core::task::{QueueName, TaskId, TaskState};
use runner_queue::{ArchiveBounds, Attempt, MAX_ATTEMPTS_KEPT, TaskRecord};

use super::dialect::Dialect;

/// A task and its place.
#[derive(Debug, Clone)]
pub struct Entry {
    pub record: TaskRecord,
    pub state: TaskState,
    /// Its score in a list: due, end of the lease, archived, to be deleted, added to its group.
    pub at: Timestamp,
    pub pending_since: Option<Timestamp>,
    pub result: Option<Bytes>,
    pub waiting_for: Option<String>,
    /// The number of its last claim; 0 before the first.
    pub run: u64,
    /// Grows with each claim.
    pub claimed: u64,
    /// Grows with each task accepted.
    pub arrival: u64,
    pub attempts: Vec<Attempt>,
    /// When it was last claimed.
    pub claimed_at: Timestamp,
    /// How many of its runs in a row ended without a report.
    pub lost: u32,
    /// Whether it was put straight into its group.
    pub grouped: bool,
}

/// A uniqueness lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    pub holder: TaskId,
    pub until: Timestamp,
}

/// A queue.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    pub known: bool,
    pub paused: bool,
    pub tasks: BTreeMap<TaskId, Entry>,
    /// Oldest first.
    pub pending: VecDeque<TaskId>,
    pub locks: BTreeMap<String, Lock>,
    /// Processed and failed, ever and by day.
    pub counted: (u64, u64),
    pub days: BTreeMap<Date, (u64, u64)>,
    /// The highest number that any claim has had.
    pub last_run: u64,
    /// Number of claims so far.
    pub claims: u64,
    /// Limits of its archive.
    pub archive: ArchiveBounds,
    /// Trimmed tasks that no sweep has reported yet.
    pub trimmed: usize,
}

/// The whole store.
#[derive(Debug)]
pub struct World {
    pub dialect: Dialect,
    pub now: Timestamp,
    pub queues: BTreeMap<QueueName, Queue>,
    pub(super) arrivals: u64,
}

/// `at` plus a span.
pub fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap()
}

impl World {
    pub fn new(dialect: Dialect, now: Timestamp) -> Self {
        Self {
            dialect,
            now,
            queues: BTreeMap::new(),
            arrivals: 0,
        }
    }

    pub fn queue(&mut self, name: &QueueName) -> &mut Queue {
        self.queues.entry(name.clone()).or_default()
    }

    /// Advances the time; returns the keys of expired locks, with their queues.
    pub fn advance(&mut self, by: Duration) -> Vec<(QueueName, String)> {
        self.now = later(self.now, by);
        let now = self.now;
        let mut lapsed = Vec::new();
        for (name, queue) in &mut self.queues {
            queue.locks.retain(|key, lock| {
                let holds = lock.until > now;
                if !holds {
                    lapsed.push((name.clone(), key.clone()));
                }
                holds
            });
        }
        lapsed
    }

    /// Ids in a list, in its order.
    pub fn list(&self, name: &QueueName, state: TaskState) -> Vec<TaskId> {
        let Some(queue) = self.queues.get(name) else {
            return Vec::new();
        };
        if state == TaskState::Pending {
            return queue.pending.iter().cloned().collect();
        }
        let mut entries: Vec<&Entry> = queue.tasks.values().filter(|e| e.state == state).collect();
        match state {
            TaskState::Active => entries.sort_by_key(|e| e.claimed),
            TaskState::Aggregating => entries.sort_by_key(|e| self.dialect.grouped(e)),
            _ => entries.sort_by_key(|e| (e.at, self.dialect.tie(e))),
        }
        entries.into_iter().map(|e| e.record.id.clone()).collect()
    }

    /// Ids in a list with times that are not after `until`, earliest first.
    pub fn due(&self, name: &QueueName, state: TaskState, until: Timestamp) -> Vec<TaskId> {
        let Some(queue) = self.queues.get(name) else {
            return Vec::new();
        };
        let due = queue.tasks.values().filter(|e| e.state == state && e.at <= until);
        let mut due: Vec<&Entry> = due.collect();
        due.sort_by_key(|e| (e.at, self.dialect.tie(e)));
        due.into_iter().map(|e| e.record.id.clone()).collect()
    }

    pub fn entry(&mut self, name: &QueueName, id: &TaskId) -> &mut Entry {
        let queue = self.queues.get_mut(name).expect("a queue of the model");
        queue.tasks.get_mut(id).expect("a task of the model")
    }

    pub fn peek(&self, name: &QueueName, id: &TaskId) -> Option<&Entry> {
        self.queues.get(name)?.tasks.get(id)
    }

    /// Changes the state; removes it from the pending list and clears `waiting_for`.
    pub fn shift(&mut self, name: &QueueName, id: &TaskId, to: TaskState, at: Timestamp) {
        let queue = self.queue(name);
        queue.pending.retain(|other| other != id);
        let entry = self.entry(name, id);
        entry.state = to;
        entry.at = at;
        entry.waiting_for = None;
        entry.pending_since = None;
    }

    /// Appends to the pending list.
    pub fn put_back(&mut self, name: &QueueName, id: &TaskId) {
        let now = self.now;
        self.shift(name, id, TaskState::Pending, now);
        self.entry(name, id).pending_since = Some(now);
        self.queue(name).pending.push_back(id.clone());
    }

    /// Archives, which may trim others.
    pub fn put_in_archive(&mut self, name: &QueueName, id: &TaskId) {
        self.shift(name, id, TaskState::Archived, self.now);
        if self.dialect.trims_at_once() {
            self.trim(name, usize::MAX);
        }
    }

    /// Deletes tasks beyond the archive's limits; returns how many.
    pub fn trim(&mut self, name: &QueueName, limit: usize) -> usize {
        let bounds = self.queue(name).archive;
        let all = self.list(name, TaskState::Archived);
        let oldest = self.now.checked_sub(bounds.keep).unwrap();
        let aged = self.due(name, TaskState::Archived, oldest).len();
        let gone = aged.max(all.len().saturating_sub(bounds.most)).min(limit);
        for id in &all[..gone] {
            self.delete(name, id);
        }
        self.queue(name).trimmed += gone;
        gone
    }

    /// Deletes the task and its lock.
    pub fn delete(&mut self, name: &QueueName, id: &TaskId) {
        self.unlock(name, id);
        let queue = self.queue(name);
        queue.pending.retain(|other| other != id);
        queue.tasks.remove(id);
    }

    /// Releases the lock that a task named, if it still holds it.
    pub fn unlock(&mut self, name: &QueueName, id: &TaskId) {
        let queue = self.queue(name);
        if let Some(key) = queue.tasks.get(id).and_then(|e| e.record.unique_key.clone())
            && queue.locks.get(&key).is_some_and(|lock| lock.holder == *id)
        {
            queue.locks.remove(&key);
        }
    }

    /// An attempt ended and counts.
    pub fn count(&mut self, name: &QueueName, failed: bool) {
        let day = self.today();
        let queue = self.queue(name);
        for sums in [&mut queue.counted, queue.days.entry(day).or_default()] {
            sums.0 += 1;
            sums.1 += u64::from(failed);
        }
    }

    pub fn today(&self) -> Date {
        self.now.to_zoned(TimeZone::UTC).date()
    }

    /// Records an attempt of a task that still exists.
    pub fn remember(&mut self, name: &QueueName, id: &TaskId, attempt: Attempt) {
        if self.peek(name, id).is_some() {
            let attempts = &mut self.entry(name, id).attempts;
            attempts.push(attempt);
            let over = attempts.len().saturating_sub(MAX_ATTEMPTS_KEPT);
            attempts.drain(..over);
        }
    }
}
