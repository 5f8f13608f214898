//! The seam's `InspectTasks`: questions about tasks.
//!
//! Not here: how pages and large tasks are read (`task_views`).

use async_trait::async_trait;
use bytes::Bytes;
use redis::Value;
use runner_core::task::{QueueName, Task, TaskId, TaskState};

use crate::redis::RedisBroker;
use crate::redis::format::{convert, keys, reply};
use crate::redis::ops::partial::PartialFailure;
use crate::{Attempt, BrokerResult, GLANCE_BYTES, InspectTasks, MAX_ATTEMPTS_KEPT, Page, RawTask, TaskInfo, TaskPage};

#[async_trait]
impl InspectTasks for RedisBroker {
    async fn tasks(&self, queue: &QueueName, state: TaskState, page: Page) -> BrokerResult<TaskPage> {
        self.page_of(queue, state, None, page).await
    }

    async fn task(&self, queue: &QueueName, id: &TaskId) -> BrokerResult<Option<TaskInfo>> {
        self.look_at_task(queue, id, true).await
    }

    async fn glance(&self, queue: &QueueName, id: &TaskId) -> BrokerResult<Option<TaskInfo>> {
        self.look_at_task(queue, id, false).await
    }

    async fn raw_task(&self, queue: &QueueName, id: &[u8]) -> BrokerResult<Option<RawTask>> {
        const DOING: &str = "read what is stored under an id";
        let key = keys::task_of(queue.as_str(), id);
        let mut trip = self.pages.trip(DOING).await?;
        trip.command("HMGET").arg(&key).arg("msg").arg("state");
        let mut held = reply::list(trip.one().await?).into_iter();
        let (message, state) = (held.next().and_then(reply::bytes), held.next().and_then(reply::text));
        if message.is_none() && state.is_none() {
            return Ok(None);
        }
        let message = Bytes::from(message.unwrap_or_default());
        Ok(Some(RawTask {
            id: id.to_vec(),
            state: state.and_then(|word| word.parse().ok()),
            why: convert::decode(message.clone(), queue, id).err(),
            bytes: message.len() as u64,
            head: Bytes::copy_from_slice(&message[..message.len().min(GLANCE_BYTES)]),
        }))
    }

    async fn find(&self, id: &TaskId) -> BrokerResult<Vec<QueueName>> {
        let names = self.all_names().await?;
        let mut trip = self.pages.trip("look for a task").await?;
        for name in &names {
            trip.command("HEXISTS")
                .arg(keys::task(name.as_str(), id.as_str()))
                .arg("msg");
        }
        let (mut found, mut failures) = (Vec::new(), PartialFailure::default());
        for (name, answer) in names.into_iter().zip(trip.each().await?) {
            if failures.part(&name, answer) == Some(Value::Int(1)) {
                found.push(name);
            }
        }
        failures.unless(!found.is_empty())?;
        Ok(found)
    }

    async fn lock_holder(&self, task: &Task) -> BrokerResult<Option<TaskId>> {
        let key = keys::unique(task.queue.as_str(), &task.kind, &task.lock_content());
        let mut trip = self.pages.trip("look at a uniqueness lock").await?;
        trip.command("GET").arg(key);
        let holder = reply::text(trip.one().await?);
        Ok(holder.and_then(|id| TaskId::new(id).ok()))
    }

    async fn attempts(&self, queue: &QueueName, id: &TaskId) -> BrokerResult<Vec<Attempt>> {
        let mut trip = self.pages.trip("read the attempts of a task").await?;
        let fields = (1..=MAX_ATTEMPTS_KEPT).map(|nth| format!("att:{nth}"));
        trip.command("HMGET")
            .arg(keys::task(queue.as_str(), id.as_str()))
            .arg("att")
            .arg(fields.collect::<Vec<_>>());
        let mut answer = reply::list(trip.one().await?).into_iter();
        let count = answer.next().map_or(0, reply::count);
        let mut lines: Vec<Value> = answer.filter(|line| *line != Value::Nil).collect();
        // They are a ring: the oldest one is where the next one will be written.
        let kept = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        if count > kept && kept > 0 {
            lines.rotate_left(usize::try_from(count % kept).unwrap_or(0));
        }
        Ok(lines
            .into_iter()
            .filter_map(|json| serde_json::from_slice(&reply::bytes(json)?).ok())
            .collect())
    }
}
