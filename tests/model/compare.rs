//! Compares the visible state of a broker with the model, after every step.

use std::fmt::Debug;

use futures_util::future::join_all;
use runner_core::task::{QueueName, Task, TaskId, TaskState};
use runner_queue::{Page, TaskInfo, TaskRecord};

use super::step::Trip;

/// The largest page.
const ALL: usize = 1000;

/// How much less than expected a lock's remaining time may be when it is read.
const LOCK_SLACK: i64 = 120;

/// The result of a step: nothing, or a difference in words.
pub type Found = Result<(), String>;

pub fn same<T: PartialEq + Debug>(what: &str, broker: &T, model: &T) -> Found {
    if broker == model {
        return Ok(());
    }
    Err(format!("{what}\n  broker: {broker:?}\n  model:  {model:?}"))
}

/// The key of a lock depends on the store: Redis adds the prefix of the queue.
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
    /// Compares the whole visible state, and runs the audit. If neither the store nor the model has changed since they were
    /// found equal, only the time-dependent parts are compared again.
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

    /// Released tasks come back in any order, behind those that were pending; the model adopts that order.
    pub(super) async fn adopt_order(&mut self, name: &QueueName, released: usize) -> Found {
        let page = Page { number: 1, size: ALL };
        let shown = self.subject.broker.tasks(name, TaskState::Pending, page).await.unwrap();
        let shown: Vec<TaskId> = shown.tasks.into_iter().map(|t| t.record.id).collect();
        let pending = &mut self.world.queue(name).pending;
        let firm = pending.len() - released.min(pending.len());
        let (mut from_model, mut from_broker): (Vec<_>, Vec<_>) = (pending.iter().skip(firm).collect(), Vec::new());
        from_broker.extend(shown.iter().skip(firm));
        from_model.sort();
        from_broker.sort();
        same("released tasks", &from_broker, &from_model)?;
        pending.truncate(firm);
        pending.extend(shown.into_iter().skip(firm));
        Ok(())
    }

    /// New locks expire when they should.
    pub(super) async fn locks_end(&mut self, tasks: &[Task]) -> Found {
        for task in tasks.iter().filter(|task| task.unique.is_some()) {
            let held = self.world.queues[&task.queue].locks.clone();
            for (key, lock) in held
                .into_iter()
                .filter(|(_, lock)| task.id.as_ref() == Some(&lock.holder))
            {
                let due = lock.until.duration_since(self.world.now).as_secs();
                let left = self.subject.left(&task.queue, &key).await;
                // Redis measures by its own clock since the lock was taken, not by the test's.
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
    let odd = broker
        .iter()
        .zip(model)
        .find(|(from_model, from_broker)| from_model != from_broker);
    format!(
        "{state} of {name}\n  broker: {:?}\n  model:  {:?}",
        odd.map(|o| o.0),
        odd.map(|o| o.1)
    )
}
