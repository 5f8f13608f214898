//! What a broker shows against what the model holds, after every step.

use std::fmt::Debug;

use futures_util::future::join_all;
use runner_core::task::{QueueName, Task, TaskId, TaskState};
use runner_queue::{Page, TaskInfo, TaskRecord};

use super::step::Trip;

/// The largest page.
const ALL: usize = 1000;

/// How much less than it should a lock may have left when it is looked at.
const LOCK_SLACK: i64 = 120;

/// What a step finds: nothing, or a difference in words.
pub type Found = Result<(), String>;

pub fn same<T: PartialEq + Debug>(what: &str, broker: &T, model: &T) -> Found {
    if broker == model {
        return Ok(());
    }
    Err(format!("{what}\n  broker: {broker:?}\n  model:  {model:?}"))
}

/// The key of a lock is a matter of the store: Redis keeps it with the prefix of the queue.
pub fn bare(mut record: TaskRecord) -> TaskRecord {
    let prefix = format!("asynq:{{{}}}:", record.queue);
    if let Some(key) = &mut record.unique_key
        && let Some(rest) = key.strip_prefix(&prefix)
    {
        *key = rest.to_owned();
    }
    record
}

pub fn plain(info: TaskInfo) -> TaskInfo {
    TaskInfo {
        record: bare(info.record),
        ..info
    }
}

impl Trip<'_> {
    /// Everything that the store shows, and its own audit. Where neither the store nor the model has changed since
    /// they were found equal, only what depends on the time is asked again.
    pub(super) async fn compare(&mut self) -> Found {
        let infos = self.subject.broker.queues().await.unwrap();
        same("queues", &infos, &self.world.queue_infos())?;
        let version = self.subject.version().await;
        let expected = self.world.lists();
        let locks = self.world.locks();
        if self
            .equal
            .as_ref()
            .is_some_and(|(v, e, l)| (v, e, l) == (&version, &expected, &locks))
        {
            return Ok(());
        }
        same("locks", &self.subject.locks().await, &locks)?;
        let broker = &self.subject.broker;
        // The counts were compared: every other list is empty.
        let pages = join_all(expected.iter().map(|(name, state, _)| async move {
            let page = broker.tasks(name, *state, Page { number: 1, size: ALL }).await;
            page.unwrap().tasks.into_iter().map(plain).collect::<Vec<_>>()
        }));
        for (shown, (name, state, tasks)) in pages.await.iter().zip(&expected) {
            if shown != tasks {
                return Err(difference(name, *state, shown, tasks));
            }
        }
        same("audit", &self.subject.audit().await, &Vec::new())?;
        self.equal = Some((version, expected, locks));
        Ok(())
    }

    /// What was released came back in some order behind those that were there; the model takes that order over.
    pub(super) async fn adopt_order(&mut self, name: &QueueName, released: usize) -> Found {
        let page = Page { number: 1, size: ALL };
        let shown = self.subject.broker.tasks(name, TaskState::Pending, page).await.unwrap();
        let shown: Vec<TaskId> = shown.tasks.into_iter().map(|t| t.record.id).collect();
        let pending = &mut self.world.queue(name).pending;
        let firm = pending.len() - released.min(pending.len());
        let (mut ours, mut theirs): (Vec<_>, Vec<_>) = (pending.iter().skip(firm).collect(), Vec::new());
        theirs.extend(shown.iter().skip(firm));
        ours.sort();
        theirs.sort();
        same("released tasks", &theirs, &ours)?;
        pending.truncate(firm);
        pending.extend(shown.into_iter().skip(firm));
        Ok(())
    }

    /// Locks that were just taken end when they should.
    pub(super) async fn locks_end(&mut self, tasks: &[Task]) -> Found {
        for task in tasks.iter().filter(|task| task.unique.is_some()) {
            let held = self.world.queues[&task.queue].locks.clone();
            for (key, lock) in held
                .into_iter()
                .filter(|(_, lock)| task.id.as_ref() == Some(&lock.holder))
            {
                let due = lock.until.duration_since(self.world.now).as_secs();
                let left = self.subject.left(&task.queue, &key).await;
                // Redis counts by its own clock since the lock was taken, not by ours.
                let fits = left.is_some_and(|left| left <= due.max(3600 + 3600) && left >= due - LOCK_SLACK);
                if !fits {
                    return Err(format!("lock {key} has {left:?} s left, expected {due}"));
                }
            }
        }
        Ok(())
    }
}

/// The first task in which two lists differ.
fn difference(name: &QueueName, state: TaskState, broker: &[TaskInfo], model: &[TaskInfo]) -> String {
    let ids = |list: &[TaskInfo]| list.iter().map(|t| t.record.id.to_string()).collect::<Vec<_>>();
    if ids(broker) != ids(model) {
        return format!(
            "{state} of {name}\n  broker: {:?}\n  model:  {:?}",
            ids(broker),
            ids(model)
        );
    }
    let odd = broker.iter().zip(model).find(|(ours, theirs)| ours != theirs);
    format!(
        "{state} of {name}\n  broker: {:?}\n  model:  {:?}",
        odd.map(|o| o.0),
        odd.map(|o| o.1)
    )
}
