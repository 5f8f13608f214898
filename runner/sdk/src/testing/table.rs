//! The tasks of a test queue: states, locks and the clock. Runs nothing.
//!
//! It follows the brokers in what a test can see: which tasks are refused, when one is due, what an outcome leads to.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use runner_core::task::{
    Backoff, OnConflict, QueueName, Run, Task, TaskId, TaskState, Unique, UniqueScope, stated_delay,
};

use crate::{BoxFuture, EnqueueAnswers, NotEnqueued, Outcome, Services};

/// A task of a [`TestQueue`](super::TestQueue).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TestTask {
    /// Its identity.
    pub id: TaskId,
    /// Type, payload and options, as it was enqueued.
    pub task: Task,
    /// Its state. One that succeeded is `Completed` even without a retention, with which a broker would delete it.
    pub state: TaskState,
    /// When it runs, or runs again; `None` if it has ended or is in a group.
    pub due: Option<Timestamp>,
    /// Retries used up.
    pub retried: u32,
    /// What it returned when it succeeded, or stored before it failed.
    pub result: Option<Bytes>,
    /// The error of its last failed attempt; empty if none failed.
    pub last_error: String,
}

/// An attempt of a [`TestQueue`](super::TestQueue).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TestAttempt {
    /// The task.
    pub id: TaskId,
    /// Its type.
    pub kind: String,
    /// Number of the attempt, from 1.
    pub number: u32,
    /// When it ran; the clock stands still while a handler runs.
    pub at: Timestamp,
    /// What its handler wanted.
    pub outcome: Outcome,
    /// The run's log; empty if nothing was written.
    pub log: String,
}

/// Queue, type with the mark of a key, and payload or key.
type Lock = (QueueName, String, Option<Bytes>);

#[derive(Debug)]
pub(super) struct TestTable(Mutex<TestTableState>);

#[derive(Debug)]
pub(super) struct TestTableState {
    pub(super) now: Timestamp,
    pub(super) tasks: Vec<TestTask>,
    pub(super) attempts: Vec<TestAttempt>,
    /// Who holds each uniqueness lock, and until when.
    locks: HashMap<Lock, (TaskId, Timestamp)>,
}

impl TestTable {
    pub(super) fn at(now: Timestamp) -> Self {
        Self(Mutex::new(TestTableState {
            now,
            tasks: Vec::new(),
            attempts: Vec::new(),
            locks: HashMap::new(),
        }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, TestTableState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Services for TestTable {
    fn enqueue(&self, tasks: Vec<Task>) -> BoxFuture<'_, EnqueueAnswers> {
        let mut contents = self.lock();
        let answers = tasks.into_iter().map(|task| contents.add(task)).collect();
        Box::pin(std::future::ready(Ok(answers)))
    }
}

impl TestTableState {
    pub(super) fn add(&mut self, task: Task) -> Result<TaskId, NotEnqueued> {
        task.check()?;
        let id = task.id.clone().unwrap_or_else(TaskId::random);
        let due = match task.run {
            Run::Now => self.now,
            Run::At(at) => at,
            Run::In(delay) => later(self.now, delay),
        };
        if self.is_taken(&task.queue, &id) {
            return Err(NotEnqueued::Duplicate);
        }
        if let Some(unique) = &task.unique {
            let lock = lock_of(&task);
            let held = self.locks.get(&lock).filter(|(_, until)| *until > self.now);
            if let Some((holder, _)) = held.cloned() {
                let until = later(due.max(self.now), unique.ttl);
                if let Some(took) = self.conflict(&task, unique, &holder, due) {
                    took?;
                    self.locks.insert(lock, (holder.clone(), until));
                    return Ok(holder);
                }
            }
            let until = later(due.max(self.now), unique.ttl);
            self.locks.insert(lock, (id.clone(), until));
        }
        let (state, due) = self.starts(&task, due);
        self.tasks.push(TestTask {
            id: id.clone(),
            task,
            state,
            due,
            retried: 0,
            result: None,
            last_error: String::new(),
        });
        Ok(id)
    }

    /// State and time of a task that is due then.
    fn starts(&self, task: &Task, due: Timestamp) -> (TaskState, Option<Timestamp>) {
        match &task.group {
            Some(_) => (TaskState::Aggregating, None),
            None if due > self.now => (TaskState::Scheduled, Some(due)),
            None => (TaskState::Pending, Some(self.now)),
        }
    }

    /// What happens to a task whose lock is held; `None` if the lock does not count.
    fn conflict(
        &mut self,
        task: &Task,
        unique: &Unique,
        holder: &TaskId,
        due: Timestamp,
    ) -> Option<Result<(), NotEnqueued>> {
        let (state, starts) = self.starts(task, due);
        let held = |t: &TestTask| t.id == *holder && t.task.queue == task.queue;
        let waiting = self.tasks.iter_mut().rfind(|t| held(t)).filter(|t| {
            let (pending, group) = (TaskState::Pending, TaskState::Aggregating);
            t.state == pending || t.state == group || matches!(t.state, TaskState::Scheduled | TaskState::Retry)
        });
        match (unique.on_conflict, waiting) {
            (OnConflict::Replace, Some(found)) => {
                *found = TestTask {
                    id: holder.clone(),
                    task: task.clone(),
                    state,
                    due: starts,
                    retried: 0,
                    result: None,
                    last_error: String::new(),
                };
                Some(Ok(()))
            }
            (OnConflict::Reschedule, Some(found)) if found.state != TaskState::Aggregating => {
                (found.state, found.due) = (state, starts);
                Some(Ok(()))
            }
            (_, None) if unique.scope == UniqueScope::Pending => None,
            _ => Some(Err(NotEnqueued::Duplicate)),
        }
    }

    /// Whether a broker would still have a task with this id.
    fn is_taken(&self, queue: &QueueName, id: &TaskId) -> bool {
        self.tasks.iter().any(|t| {
            let gone = || t.state == TaskState::Completed && t.task.retention.is_zero();
            t.id == *id && t.task.queue == *queue && !gone()
        })
    }

    /// What is due first, in the order in which it was enqueued, of the types that `knows` accepts.
    pub(super) fn first_due(&self, knows: impl Fn(&str) -> bool) -> Option<usize> {
        let due = |t: &TestTask| t.due.filter(|_| knows(&t.task.kind));
        let tasks = self.tasks.iter().enumerate();
        let first = tasks.filter_map(|(index, t)| Some((due(t)?, index))).min()?;
        Some(first.1)
    }

    /// Writes down an attempt, and moves its task as its outcome says.
    pub(super) fn settle(&mut self, queue: &QueueName, attempt: TestAttempt, kept: Option<Bytes>, backoff: Backoff) {
        let now = self.now;
        // An id is taken within its queue only.
        let of_attempt = |t: &TestTask| t.id == attempt.id && t.task.queue == *queue;
        let found = self.tasks.iter().rposition(of_attempt);
        if let Some(index) = found {
            let ended = self.tasks[index].follow(&attempt.outcome, kept, backoff, now);
            if ended {
                self.release(index);
            }
            if matches!(attempt.outcome, Outcome::Revoke(_)) {
                self.tasks.remove(index);
            }
        }
        self.attempts.push(attempt);
    }

    /// Takes the tasks of a group out of it: they have become one.
    pub(super) fn take_group(&mut self, queue: &QueueName, group: &str) -> Vec<TestTask> {
        let in_group = |t: &TestTask| {
            t.state == TaskState::Aggregating && t.task.queue == *queue && t.task.group.as_deref() == Some(group)
        };
        let (taken, rest) = std::mem::take(&mut self.tasks).into_iter().partition(in_group);
        self.tasks = rest;
        taken
    }

    fn release(&mut self, index: usize) {
        let TestTask { id, task, .. } = &self.tasks[index];
        let lock = lock_of(task);
        if self.locks.get(&lock).is_some_and(|(holder, _)| holder == id) {
            self.locks.remove(&lock);
        }
    }
}

impl TestTask {
    /// Moves it. Returns whether its lock is released.
    fn follow(&mut self, outcome: &Outcome, kept: Option<Bytes>, backoff: Backoff, now: Timestamp) -> bool {
        let (after, error) = match outcome {
            Outcome::Success(result) => {
                self.end(TaskState::Completed, result.clone().or(kept));
                return true;
            }
            Outcome::Revoke(_) => return true,
            Outcome::Snooze { delay } => {
                (self.state, self.due) = (TaskState::Scheduled, Some(later(now, *delay)));
                return false;
            }
            Outcome::Skip(error) => (None, error),
            // Without the random part, so that a test can expect an instant.
            Outcome::Retry(error) => (Some(backoff.delay(self.retried, 0)), error),
            Outcome::RetryAfter { after, error } => (Some(stated_delay(*after)), error),
        };
        self.last_error.clone_from(error);
        match after.filter(|_| self.retried < self.task.max_retry) {
            Some(after) => {
                self.retried += 1;
                self.result = kept.or(self.result.take());
                (self.state, self.due) = (TaskState::Retry, Some(later(now, after)));
            }
            None => self.end(TaskState::Archived, kept),
        }
        false
    }

    fn end(&mut self, state: TaskState, result: Option<Bytes>) {
        (self.state, self.due) = (state, None);
        self.result = result.or(self.result.take());
    }
}

fn lock_of(task: &Task) -> Lock {
    let (bytes, mark) = task.lock_content();
    let bytes = bytes.map(|bytes| Bytes::copy_from_slice(&bytes));
    (task.queue.clone(), format!("{}:{mark}", task.kind), bytes)
}

pub(super) fn later(now: Timestamp, delay: Duration) -> Timestamp {
    now.checked_add(delay).unwrap_or(Timestamp::MAX)
}
